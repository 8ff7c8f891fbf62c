"""Times as people write them, and numbers as people read them. Pure."""

from __future__ import annotations

import math
import re

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_TIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_BYTES = ("B", "kB", "MB", "GB", "TB")


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as `90s`, `5m` or `1d12h`. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text[:50]!r} is no time; write 30s, 5m, 4h or 14d")
    return sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS.values(), strict=True) if part)


def time_of(seconds: float) -> str:
    """Return so many seconds as people write them: `1h30m`. What is less than a second is a number with unit."""
    if not math.isfinite(seconds):
        return str(seconds)
    sign, rest = ("-" if seconds < 0 else ""), abs(seconds)
    if rest < 1:
        return f"{sign}{rest * 1000:.3g}ms" if rest else "0s"
    written = ""
    whole = round(rest)
    for name, unit in _UNITS.items():
        count, whole = divmod(whole, int(unit))
        written += f"{count}{name}" if count else ""
    return sign + written


def shown(value: float | None, as_what: str = "") -> str:
    """Return a value for people: plain, or as `percent`, `time` or `bytes`."""
    if value is None or not math.isfinite(value):
        return "?" if value is None else str(value)
    if as_what == "percent":
        return f"{value * 100:.3g}%"
    if as_what == "time":
        return time_of(value)
    if as_what == "bytes":
        step = 0
        while abs(value) >= 1000 and step < len(_BYTES) - 1:
            value, step = value / 1000, step + 1
        return f"{value:.3g} {_BYTES[step]}"
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
