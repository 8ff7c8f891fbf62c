"""The table of rules, and where alerts go, from what is written in TOML. Pure.

- What is wrong is said with file, line and key.
- A rule of the operator's changes the shipped one of its name, key by key, or is one more.
- A rule without a threshold, over a metric that is not there, or with a placeholder that it cannot fill, is refused.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

import msgspec

from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_matching import parsed_all
from discern.alerts.rules_times import seconds_of
from discern.alerts.rules_wording import fault_of
from discern.alerts.types import KINDS, SEVERITIES, Combine, Function, Inhibition, Rule, Selector
from discern.core.errors import InvalidSettings, MalformedRequest

T = TypeVar("T")
RUNBOOKS = "https://github.com/discern-detectors/discern/blob/main/docs/reference/alerts.md#"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_HEADER = re.compile(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}")
_KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*(?:=|\.)""")
Amount = float | str


class OverSpec(msgspec.Struct, forbid_unknown_fields=True):
    """What a ratio is of."""

    metric: str
    match: list[str] = []


class RuleSpec(msgspec.Struct, forbid_unknown_fields=True, rename={"lasting": "for"}):
    """A rule as it is written."""

    kind: str
    severity: str
    function: str
    metric: str
    summary: str
    description: str
    match: list[str] = []
    over: OverSpec | None = None
    by: list[str] = []
    combine: str = "max"
    window: Amount = "5m"
    before: Amount = "1h"
    quantile: float = 0.99
    at_least: float = 0.0
    above: Amount | None = None
    below: Amount | None = None
    clear: Amount | None = None
    lasting: Amount = 0.0
    keep_firing: Amount = 0.0
    runbook: str = ""
    enabled: bool = True


class InhibitionSpec(msgspec.Struct, forbid_unknown_fields=True):
    """An inhibition as it is written."""

    when: list[str]
    mutes: list[str]
    equal: list[str] = []


class Text(msgspec.Struct, frozen=True):
    """What is written in one file."""

    name: str
    text: str

    def fault(self, path: tuple[str, ...], key: str, what: str, mend: str = "Correct it.") -> InvalidSettings:
        """Return what to say of a key in a table.

        A table is `("rules", "disk-low")`, or `("routes", "2")` for the second of several.
        """
        line = self._line(path, key)
        where = f"{self.name}:{line}" if line else self.name
        said = ".".join(part for part in (*path, key) if part)
        return InvalidSettings(f"{where}: {said}: {what}.", mend=mend, setting="alerts.toml", line=line, key=said)

    def parsed(self) -> dict[str, Any]:
        """Return the tables. Raises InvalidSettings."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            where = f"{self.name}:{found[1]}" if found else self.name
            line = int(found[1]) if found else 0
            detail = f"{where}: it is not valid TOML: {error}."
            raise InvalidSettings(detail, mend="Correct the file.", setting="alerts.toml", line=line) from error

    def _line(self, path: tuple[str, ...], key: str) -> int:
        """Return the line of a key, or of its table where the key is not found; 0 where neither is."""
        of, place = (path[:-1], int(path[-1])) if path and path[-1].isdigit() else (path, 1)
        header, seen, here = 0, 0, not path
        for number, line in enumerate(self.text.splitlines(), start=1):
            found = _HEADER.match(line)
            if found:
                names = tuple(part.strip().strip("\"'") for part in found[1].split("."))
                if key and names[: len(of) + 1] == (*of, key):
                    return number
                seen += names == of
                here = names == of and seen == place
                header = header or (number if here else 0)
            elif here and key and (match := _KEY.match(line)) and match[1] == key:
                return number
        return header


def converted(text: Text, path: tuple[str, ...], value: Any, kind: type[T]) -> T:  # noqa: ANN401
    """Return a table as a struct. Raises InvalidSettings that names the key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        key = place.strip("`.").split(".")[0].split("[")[0]
        unknown = re.search(r"unknown field `([^`]*)`", what)
        missing = re.search(r"missing required field `([^`]*)`", what)
        if unknown:
            key = unknown[1]
            names = [field.encode_name for field in msgspec.structs.fields(kind)]  # type: ignore[arg-type]
            near = difflib.get_close_matches(key, names, n=1)
            mend = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(names)}."
            raise text.fault(path, key, "there is no such key", mend) from error
        if missing:
            raise text.fault(path, "", f"it lacks the key {missing[1]}", f"Add {missing[1]}.") from error
        raise text.fault(path, key, what[:1].lower() + what[1:]) from error


def _check_name(text: Text, name: str, theirs: Any, shipped: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Raise InvalidSettings for what changes a shipped rule, and has not quite its name."""
    if name in shipped or not isinstance(theirs, dict) or "metric" in theirs:
        return
    if near := difflib.get_close_matches(name, shipped, n=1):
        raise text.fault(("rules", name), "", "no rule that is shipped is called that", f"Did you mean {near[0]}?")


def rules_of(
    shipped: Text, own: Text | None, known: Known | None
) -> tuple[tuple[Rule, ...], tuple[str, ...], tuple[Inhibition, ...]]:
    """Return the rules that are on, the names of those that are off, and the inhibitions. Raises InvalidSettings.

    `known` are the metrics there are; None checks no names.
    """
    first, second = shipped.parsed(), {} if own is None else own.parsed()
    theirs = _table(own, second.get("rules", {})) if own is not None else {}
    found, off = [], []
    names = [*first["rules"], *(name for name in theirs if name not in first["rules"])]
    for name in names:
        is_theirs = name in theirs
        text = own if is_theirs and own is not None else shipped
        _check_name(text, name, theirs.get(name, {}), first["rules"])
        merged = _merged(text, name, first["rules"].get(name, {}), theirs.get(name, {}))
        if not merged.get("enabled", True) and set(theirs.get(name, {})) == {"enabled"} and name in first["rules"]:
            off.append(name)
            continue
        # The table that is shipped has rules over metrics that not every installation has.
        is_ours = merged.get("metric") == first["rules"].get(name, {}).get("metric")
        checked = None if known is None or (is_ours and not known.has(str(merged.get("metric")))) else known
        rule, enabled = rule_of(text, name, merged, checked, shipped=not is_theirs)
        if enabled:
            found.append(rule)
        else:
            off.append(name)
    inhibitions = inhibitions_of(shipped, first) + (() if own is None else inhibitions_of(own, second))
    return tuple(found), tuple(off), inhibitions


def _merged(text: Text, name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Return a rule with what the operator says over what is shipped.

    Who moves the threshold and says nothing of `clear` moves that in proportion.
    """
    merged = {**ours, **theirs}
    for side, other in (("above", "below"), ("below", "above")):
        if side not in theirs:
            continue
        if other not in theirs:
            merged.pop(other, None)
        if "clear" in ours and "clear" not in theirs:
            old, clear = (amount(text, ("rules", name), key, ours.get(key, 0.0)) for key in (side, "clear"))
            merged["clear"] = clear * amount(text, ("rules", name), side, theirs[side]) / old if old else None
    return merged


def _table(text: Text, value: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise text.fault((), "rules", "it is no table", "Write [rules.NAME].")
    for name, rule in value.items():
        if not isinstance(rule, dict):
            raise text.fault(("rules",), name, "it is no table", f"Write [rules.{name}].")
    return value


def rule_of(
    text: Text, name: str, table: Mapping[str, Any], known: Known | None, *, shipped: bool
) -> tuple[Rule, bool]:
    """Return a rule and whether it is on. Raises InvalidSettings."""
    path = ("rules", name)
    if not _NAME.fullmatch(name):
        raise text.fault(path, "", "no rule can be called that", "Use small letters, digits and hyphens.")
    spec = converted(text, path, table, RuleSpec)

    def seconds(key: str, value: Amount | None) -> float | None:
        return None if value is None else amount(text, path, key, value)

    rule = Rule(
        name=name,
        kind=_one_of(text, path, "kind", spec.kind, KINDS),
        severity=_one_of(text, path, "severity", spec.severity, SEVERITIES),
        function=_one_of(text, path, "function", spec.function, get_args(Function)),
        metric=_selector(text, path, "match", spec.metric, spec.match),
        over=None if spec.over is None else _selector(text, path, "over", spec.over.metric, spec.over.match),
        by=tuple(spec.by),
        combine=_one_of(text, path, "combine", spec.combine, get_args(Combine)),
        window=amount(text, path, "window", spec.window),
        before=amount(text, path, "before", spec.before),
        quantile=spec.quantile,
        at_least=spec.at_least,
        above=seconds("above", spec.above),
        below=seconds("below", spec.below),
        clear=seconds("clear", spec.clear),
        lasting=amount(text, path, "for", spec.lasting),
        keep_firing=amount(text, path, "keep_firing", spec.keep_firing),
        summary=spec.summary,
        description=spec.description,
        runbook=spec.runbook or (RUNBOOKS + name if shipped else ""),
        shipped=shipped,
    )
    _check(text, path, rule, known)
    return rule, spec.enabled


def _check(text: Text, path: tuple[str, ...], rule: Rule, known: Known | None) -> None:
    """Raise InvalidSettings for a rule that cannot be."""
    for key, what in _faults(rule, known):
        raise text.fault(path, key, what)
    for key, written in (("summary", rule.summary), ("description", rule.description)):
        fault = fault_of(written, rule.by)
        if fault is not None:
            raise text.fault(path, key, fault)
    # It becomes the subject of a letter.
    if len(rule.summary.splitlines()) != 1:
        raise text.fault(path, "summary", "it is not one line", "Say the rest in the description.")


def _faults(rule: Rule, known: Known | None) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with a rule: the key, and what."""
    yield from _faults_of_thresholds(rule)
    if not 0 < rule.quantile < 1:
        yield "quantile", f"it is {rule.quantile:g}, and must lie between 0 and 1"
    if (rule.function == "ratio") != (rule.over is not None):
        yield "over", "it goes with the function ratio" if rule.over else "the function ratio needs it"
    if rule.is_counted and not 10 <= rule.window <= 86_400:
        yield "window", f"it is {rule.window:g} seconds, and must be from 10s to 1d"
    if rule.function == "stopped" and not rule.window <= rule.before <= 7 * 86_400:
        yield "before", "it must be at least as long as the window, and at most 7d"
    for key in ("lasting", "keep_firing", "at_least"):
        if getattr(rule, key) < 0:
            yield "for" if key == "lasting" else key, "it is below zero"
    if {"alertname", "severity", "kind", "le"} & {*rule.by} or len({*rule.by}) != len(rule.by):
        yield "by", "labels stand there once, and none of alertname, severity, kind and le"
    if known is not None:
        yield from known.faults(rule)


def _faults_of_thresholds(rule: Rule) -> Iterable[tuple[str, str]]:
    has_threshold = rule.function not in {"absent", "stopped"}
    given = [bound for bound in (rule.above, rule.below) if bound is not None]
    if has_threshold and len(given) != 1:
        yield "above", "give either above or below"
    if not has_threshold and (given or rule.clear is not None):
        yield "above", f"the function {rule.function} has no threshold"
    if rule.clear is not None and rule.above is not None and rule.clear > rule.above:
        yield "clear", f"it is {rule.clear:g}, over the threshold of {rule.above:g} that it is to come back from"
    if rule.clear is not None and rule.below is not None and rule.clear < rule.below:
        yield "clear", f"it is {rule.clear:g}, under the threshold of {rule.below:g} that it is to come back from"


def inhibitions_of(text: Text, tables: Mapping[str, Any]) -> tuple[Inhibition, ...]:
    """Return the inhibitions of a file. Raises InvalidSettings."""
    found = []
    for path, spec in several(text, "inhibitions", tables, InhibitionSpec):
        when, mutes = (matchers(text, path, key, getattr(spec, key)) for key in ("when", "mutes"))
        found.append(Inhibition(when, mutes, tuple(spec.equal)))
    return tuple(found)


def several(text: Text, name: str, tables: Mapping[str, Any], kind: type[T]) -> Iterator[tuple[tuple[str, ...], T]]:
    """Yield the tables that stand there as `[[name]]`, each with its place. Raises InvalidSettings."""
    there = tables.get(name, [])
    if not isinstance(there, list):
        raise text.fault((), name, "it is no list of tables", f"Write [[{name}]].")
    for number, table in enumerate(there, start=1):
        path = (name, str(number))
        yield path, converted(text, path, table, kind)


def matchers(text: Text, path: tuple[str, ...], key: str, written: list[str]) -> Any:  # noqa: ANN401
    """Return matchers as they are written under a key. Raises InvalidSettings."""
    try:
        return parsed_all(written)
    except MalformedRequest as error:
        raise text.fault(path, key, error.detail.rstrip("."), error.mend or "Correct it.") from error


def amount(text: Text, path: tuple[str, ...], key: str, value: Amount) -> float:
    """Return a number, or the seconds of a time that is written out. Raises InvalidSettings."""
    if isinstance(value, str):
        try:
            return seconds_of(value)
        except ValueError as error:
            raise text.fault(path, key, str(error)) from error
    if not math.isfinite(value):
        raise text.fault(path, key, "it is no number")
    return float(value)


def _selector(text: Text, path: tuple[str, ...], key: str, metric: str, written: list[str]) -> Selector:
    return Selector(metric, matchers(text, path, key, written))


def _one_of(text: Text, path: tuple[str, ...], key: str, value: str, allowed: Collection[Any]) -> Any:  # noqa: ANN401
    if value not in allowed:
        raise text.fault(path, key, f"{value!r} is none of {', '.join(allowed)}")
    return value
