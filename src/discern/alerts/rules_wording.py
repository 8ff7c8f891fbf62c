r"""Texts with placeholders for labels and the value. Pure.

- A placeholder names a label, or `value`: `{detector}`, `{value}`, `{value:percent}`. It reaches nothing else, and what
  a label holds is put in as it is, without line breaks or what is no text, and no longer than 200 characters.
- The same text becomes a template of Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from discern.alerts.rules_times import shown

_PLACE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"([a-zA-Z_]\w*)(?::(percent|time|bytes))?", re.ASCII)
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_MOST = 200
_TEMPLATES = {"": "", "percent": " | humanizePercentage", "time": " | humanizeDuration", "bytes": " | humanize"}


def fault_of(text: str, labels: Iterable[str]) -> str | None:
    """Return what is wrong with the placeholders of a text, None where nothing is."""
    known = {"value", *labels}
    for place in _PLACE.findall(text):
        found = _NAME.fullmatch(place)
        if found is None:
            return f"{{{place[:50]}}} is no placeholder; write {{value}}, {{value:percent}}, {{value:time}} or a label"
        if found[1] not in known:
            return f"{{{place[:50]}}} is no label of the rule; it has: {', '.join(sorted(known))}"
        if found[2] and found[1] != "value":
            return f"{{{place[:50]}}}: only the value is shown as {found[2]}"
    return None


def filled(text: str, labels: Mapping[str, str], value: float | None) -> str:
    """Return a text with its placeholders filled; a label that is not there is empty."""

    def put(found: re.Match[str]) -> str:
        name, _, as_what = found[1].partition(":")
        return shown(value, as_what) if name == "value" else cleaned(labels.get(name, ""))

    return _PLACE.sub(put, text)


def templated(text: str) -> str:
    """Return the text as a template of Prometheus."""

    def put(found: re.Match[str]) -> str:
        name, _, as_what = found[1].partition(":")
        return f"{{{{ $value{_TEMPLATES[as_what]} }}}}" if name == "value" else f"{{{{ $labels.{name} }}}}"

    return _PLACE.sub(put, text)


def cleaned(text: str) -> str:
    """Return a text of elsewhere on one line, without what is no text, and cut to what fits."""
    plain = _NOT_TEXT.sub(" ", text)
    return plain if len(plain) <= _MOST else plain[: _MOST - 1] + "…"
