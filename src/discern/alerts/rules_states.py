"""How an alert begins, holds and ends. Pure: what was measured, what is known and the time make what is known next.

- An alert fires once its rule has been broken for as long as the rule says, and ends once the value is back where the
  rule says, for as long as it says: what swings about the threshold is one alert.
- What cannot be measured changes nothing for a minute; after that it counts as well.
- A time that lies ahead is taken for the present: a clock that was put back makes nothing wait for hours.
- Of one rule there are at most a thousand alerts; what is beyond is one more, which says how many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from discern.alerts.rules_prometheus import alert_name
from discern.alerts.rules_wording import filled
from discern.alerts.types import Alert, AlertState, Event, Labels, Rule

MOST_OF_A_RULE = 1000
OVERFLOW = "overflow"
_FORGIVEN = timedelta(seconds=60)
_replace = msgspec.structs.replace


class Change(NamedTuple):
    """An alert as it is from here on, None for one that is gone, and what there is to say of it."""

    alert: Alert
    is_gone: bool = False
    event: Event | None = None


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return 16 hexadecimal digits that stand for a set of labels."""
    text = "\x00".join(f"{name}\x01{value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def labels_of(rule: Rule, labels: Labels, machine: str = "") -> dict[str, str]:
    """Return all labels of an alert: those of its series that have a value, and those that every alert has.

    `machine` is the label `instance` of one that is about a machine.
    """
    there = {name: value for name, value in (*labels, ("instance", machine)) if value}
    return there | {"alertname": alert_name(rule.name), "severity": rule.severity, "kind": rule.kind}


def is_broken(rule: Rule, value: float) -> bool:
    """Tell whether a value is over the threshold of a rule."""
    if rule.function in {"absent", "stopped"}:
        return value > 0
    return value > rule.above if rule.above is not None else value < (rule.below or 0.0)


def is_still_broken(rule: Rule, value: float) -> bool:
    """Tell whether a value has not come back yet from where it was over the threshold."""
    if rule.clear is None:
        return is_broken(rule, value)
    return value > rule.clear if rule.above is not None else value < rule.clear


def bounded(rule: Rule, observed: Mapping[Labels, float], known: Mapping[Labels, Alert]) -> Mapping[Labels, float]:
    """Return what is observed, with at most so many that are over the threshold; those already known come first."""
    broken = [labels for labels, value in observed.items() if labels not in known and is_broken(rule, value)]
    room = max(0, MOST_OF_A_RULE - sum(1 for labels in known if labels != overflow_labels(rule)))
    surplus = len(broken) - room
    if surplus <= 0:
        return observed
    left_out = set(sorted(broken)[room:])
    kept = {labels: value for labels, value in observed.items() if labels not in left_out}
    worst = max if rule.above is not None or rule.function in {"absent", "stopped"} else min
    return kept | {overflow_labels(rule): worst(observed[labels] for labels in left_out)}


def overflow_labels(rule: Rule) -> Labels:
    """Return the labels of the one alert that stands for those beyond the bound."""
    return (*((name, "") for name in rule.by), (OVERFLOW, "true"))


def next_states(
    rule: Rule,
    observed: Mapping[Labels, float],
    known: Mapping[Labels, Alert],
    now: datetime,
    begin: Callable[[Rule, Labels, float], Alert],
) -> Iterable[Change]:
    """Yield what changes. `begin` makes an alert that has just begun, pending."""
    judged = bounded(rule, observed, known)
    for labels, value in judged.items():
        if labels not in known and is_broken(rule, value):
            begun = begin(rule, labels, value)
            if rule.lasting:
                yield Change(begun, event=Event(now, "pending"))
            else:
                yield _fired(rule, begun, value, now)
    for labels, alert in known.items():
        change = _next(rule, alert, judged.get(labels), now)
        if change is not None:
            yield change


def begun(
    alert_id: UUID, rule: Rule, labels: Labels, value: float, now: datetime, *, workspace: str | None, machine: str = ""
) -> Alert:
    """Return an alert that has just begun; `workspace` is None where it concerns the whole installation."""
    all_labels = labels_of(rule, labels, machine)
    more = f" This stands for what is beyond {MOST_OF_A_RULE} alerts of the rule." if OVERFLOW in all_labels else ""
    return Alert(
        id=alert_id,
        workspace=workspace or "default",
        everywhere=workspace is None,
        rule=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        labels=all_labels,
        state="pending",
        value=value,
        summary=filled(rule.summary, all_labels, value),
        description=filled(rule.description, all_labels, value) + more,
        runbook=rule.runbook,
        began_at=now,
        machine=machine,
    )


def ended(alert: Alert, now: datetime, why: str | None = None) -> Change:
    """Return the end of an alert; one that never fired is gone."""
    if alert.state == "pending":
        return Change(alert, is_gone=True)
    resolved = _replace(alert, state="resolved", resolved_at=now, quiet_since=None, missing_since=None)
    return Change(resolved, event=Event(now, "resolved", detail=why))


def shifted(alert: Alert, jump: timedelta) -> Alert:
    """Return an alert whose times are as if the clock had always been what it was put to."""

    def moved(at: datetime | None) -> datetime | None:
        return None if at is None else at + jump

    return _replace(
        alert,
        began_at=alert.began_at + jump,
        quiet_since=moved(alert.quiet_since),
        missing_since=moved(alert.missing_since),
    )


def since(at: datetime | None, now: datetime) -> timedelta:
    """Return how long ago something was; what lies ahead is just now."""
    return timedelta() if at is None else max(timedelta(), now - at)


def key_of(rule: Rule, alert: Alert) -> Labels:
    """Return the labels that an alert of a rule is known by."""
    by = tuple((name, alert.labels.get(name, "")) for name in rule.by)
    return (*by, (OVERFLOW, "true")) if OVERFLOW in alert.labels else by


def _next(rule: Rule, alert: Alert, value: float | None, now: datetime) -> Change | None:
    """Return what changes about an alert, None where nothing does."""
    there = _not_ahead(alert, now)
    change = _missing(rule, there, now) if value is None else _measured(rule, there, value, now)
    if change is None and there is not alert:
        return Change(there)
    return change


def _missing(rule: Rule, alert: Alert, now: datetime) -> Change | None:
    if alert.missing_since is None:
        return Change(_replace(alert, missing_since=now))
    return None if since(alert.missing_since, now) < _FORGIVEN else _quiet(rule, alert, now)


def _measured(rule: Rule, alert: Alert, value: float, now: datetime) -> Change | None:
    back = alert if alert.missing_since is None else _replace(alert, missing_since=None)
    if alert.state == "pending":
        if not is_broken(rule, value):
            return ended(alert, now)
        if since(alert.began_at, now).total_seconds() >= rule.lasting:
            return _fired(rule, back, value, now)
    elif not is_still_broken(rule, value):
        change = _quiet(rule, back, now)
        if change is not None:
            return change
    elif alert.quiet_since is not None:
        back = _replace(back, quiet_since=None)
    return None if back is alert else Change(back)


def _quiet(rule: Rule, alert: Alert, now: datetime) -> Change | None:
    """Return what changes about an alert whose value is well."""
    if alert.state == "pending" or not rule.keep_firing:
        return ended(alert, now)
    if alert.quiet_since is None:
        return Change(_replace(alert, quiet_since=now))
    return ended(alert, now) if since(alert.quiet_since, now).total_seconds() >= rule.keep_firing else None


def _not_ahead(alert: Alert, now: datetime) -> Alert:
    """Return the alert with no time of it ahead of the present."""
    times = {name: getattr(alert, name) for name in ("began_at", "quiet_since", "missing_since")}
    ahead = {name: now for name, at in times.items() if at is not None and at > now}
    return _replace(alert, **ahead) if ahead else alert


def _fired(rule: Rule, alert: Alert, value: float, now: datetime) -> Change:
    texts = {"summary": filled(rule.summary, alert.labels, value)}
    if OVERFLOW not in alert.labels:
        texts["description"] = filled(rule.description, alert.labels, value)
    state: AlertState = "firing"
    return Change(_replace(alert, state=state, value=value, fired_at=now, **texts), event=Event(now, "fired"))
