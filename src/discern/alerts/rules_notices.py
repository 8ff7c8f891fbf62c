"""Who is told of what, and when. Pure.

- Alerts that agree in the labels of their route are told together: at once, then at most every `interval`, and again
  every `repeat` while one fires that nobody has acknowledged.
- What is silenced, or inhibited by another alert, is not told; that it is over is told to whoever knew of it.
- One channel gets at most so many notices at a time; what is beyond goes into one, and waits where that one has gone,
  unless it is critical.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from discern.alerts.rules_matching import matches
from discern.alerts.rules_states import fingerprint, since
from discern.alerts.types import SEVERITIES, Alert, Event, Inhibition, Notice, Reason, Route, ShownAlert, Silence

MOST_SHOWN = 20
STORM = "storm"
_replace = msgspec.structs.replace
_ORDER = {severity: place for place, severity in enumerate(SEVERITIES)}


class Planned(NamedTuple):
    """A notice and the channels it goes by."""

    notice: Notice
    channels: tuple[str, ...]


class Plan(NamedTuple):
    """What is told, what is known of alerts that are told, what there is to say of them, and when groups were told."""

    notices: list[Planned]
    told: list[Alert]
    events: list[tuple[UUID, Event]]
    groups: dict[str, datetime]


def mutes(
    alerts: Sequence[Alert], silences: Iterable[Silence], inhibitions: Iterable[Inhibition], now: datetime
) -> list[Alert]:
    """Return those of the alerts of which it changes why nobody is told, as they are from here on."""
    active = [one for one in silences if one.starts_at <= now < one.ends_at]
    firing = [alert for alert in alerts if alert.state == "firing"]
    sources = [(one, _sources(one, firing)) for one in inhibitions]
    found = []
    for alert in firing:
        why = _silence_of(alert, active) or _inhibition_of(alert, sources)
        if why != alert.muted_by:
            found.append(_replace(alert, muted_by=why))
    return found


def _silence_of(alert: Alert, silences: Iterable[Silence]) -> str | None:
    for one in silences:
        if (one.everywhere or one.workspace == alert.workspace) and matches(one.matchers, alert.labels):
            return f"silence {one.id}"
    return None


def _sources(inhibition: Inhibition, firing: Iterable[Alert]) -> dict[tuple[str, ...], str]:
    """Return the name of an alert that inhibits, by the labels in which others must agree with it."""
    found: dict[tuple[str, ...], str] = {}
    for alert in firing:
        if matches(inhibition.when, alert.labels):
            found.setdefault(_agreeing(inhibition, alert), alert.labels["alertname"])
    return found


def _agreeing(inhibition: Inhibition, alert: Alert) -> tuple[str, ...]:
    return tuple(alert.labels.get(name, "") for name in inhibition.equal)


def _inhibition_of(alert: Alert, sources: Iterable[tuple[Inhibition, dict[tuple[str, ...], str]]]) -> str | None:
    for inhibition, found in sources:
        by = found.get(_agreeing(inhibition, alert)) if found else None
        # An alert that inhibits is itself not inhibited by the same word: two would keep each other from being told.
        if by and matches(inhibition.mutes, alert.labels) and not matches(inhibition.when, alert.labels):
            return f"alert {by}"
    return None


def route_of(alert: Alert, routes: Sequence[Route]) -> Route | None:
    """Return the first route that takes an alert."""
    return next((route for route in routes if matches(route.match, alert.labels)), None)


def planned(
    alerts: Iterable[Alert],
    groups: Mapping[str, datetime],
    routes: Sequence[Route],
    now: datetime,
    *,
    make_id: Callable[[], UUID],
    room: Callable[[str], int],
) -> Plan:
    """Return what is to be told. `room` says how many notices a channel takes at once, below 0 that it takes none."""
    plan = Plan([], [], [], {})
    sorted_out: dict[str, tuple[Route, dict[str, str], list[Alert]]] = {}
    for alert in alerts:
        if alert.state == "pending" or alert.end_told:
            continue
        route = route_of(alert, routes)
        if route is None or not route.channels:
            continue
        labels = {name: alert.labels[name] for name in route.group_by if name in alert.labels}
        key = f"{route.name}:{fingerprint(labels)}"
        sorted_out.setdefault(key, (route, labels, []))[2].append(alert)
    for key, (route, labels, members) in sorted_out.items():
        is_full = all(room(channel) < 0 for channel in route.channels)
        _plan_group(plan, _Group(key, route, labels, members, groups.get(key), now, make_id, is_full))
    return plan._replace(notices=_bounded(plan.notices, now, make_id, room))


class _Group(NamedTuple):
    key: str
    route: Route
    labels: dict[str, str]
    members: list[Alert]
    told_at: datetime | None
    now: datetime
    make_id: Callable[[], UUID]
    is_full: bool

    def notice(self, reason: Reason, alerts: Sequence[Alert]) -> Notice:
        return _notice(self.make_id(), reason, self.route.name, self.key, self.labels, alerts, self.now)


def _plan_group(plan: Plan, group: _Group) -> None:
    route, now = group.route, group.now
    firing = [one for one in group.members if one.state == "firing" and one.muted_by is None]
    unseen = [one for one in firing if one.acknowledged_at is None]
    fresh = [one for one in unseen if one.levels == 0]
    over = [one for one in group.members if one.state == "resolved" and one.levels > 0]
    has_waited = group.told_at is None or since(group.told_at, now) >= timedelta(seconds=route.interval)
    if not route.resolved:
        plan.told.extend(_replace(one, end_told=True) for one in over)
        over = []
    may_tell = not group.is_full or any(one.severity == "critical" for one in fresh)
    if (fresh or over) and has_waited and may_tell:
        reason: Reason = "fired" if fresh else "resolved"
        plan.notices.append(Planned(group.notice(reason, [*firing, *over]), route.channels))
        plan.told.extend(_replace(one, levels=1, told_at=now, group=group.key) for one in fresh)
        plan.told.extend(_replace(one, end_told=True) for one in over)
        plan.groups[group.key] = now
        _tell_the_escalated(plan, group, over)
    elif may_tell and unseen and _is_past(group.told_at, route.repeat, now):
        plan.notices.append(Planned(group.notice("repeated", unseen), route.channels))
        plan.groups[group.key] = now
    for level, step in enumerate(route.escalate, start=1):
        late = [
            one for one in unseen if one.levels == level and since(one.told_at, now) >= timedelta(seconds=step.after)
        ]
        if late:
            plan.notices.append(Planned(group.notice("escalated", late), step.channels))
            plan.told.extend(_replace(one, levels=level + 1) for one in late)
            plan.events.extend((one.id, Event(now, "escalated", detail=", ".join(step.channels))) for one in late)


def _is_past(at: datetime | None, seconds: float, now: datetime) -> bool:
    """Tell whether something was, and so long ago."""
    return at is not None and since(at, now) >= timedelta(seconds=seconds)


def _tell_the_escalated(plan: Plan, group: _Group, over: Sequence[Alert]) -> None:
    """Tell those that alerts were escalated to that these are over."""
    for level, step in enumerate(group.route.escalate, start=2):
        knew = [one for one in over if one.levels >= level]
        if knew:
            plan.notices.append(Planned(group.notice("resolved", knew), step.channels))


def _bounded(
    notices: list[Planned], now: datetime, make_id: Callable[[], UUID], room: Callable[[str], int]
) -> list[Planned]:
    """Return the notices with no more of one channel than it takes; the surplus of a channel is one notice."""
    by_channel: dict[str, list[Notice]] = {}
    for notice, channels in notices:
        for channel in dict.fromkeys(channels):
            by_channel.setdefault(channel, []).append(notice)
    merged: dict[str, set[UUID]] = {}
    extra: list[Planned] = []
    for channel, there in by_channel.items():
        most = max(0, room(channel))
        if len(there) > most + 1:
            rest = sorted(there, key=lambda one: _ORDER[one.shown[0].severity])[most:]
            merged[channel] = {one.id for one in rest}
            extra.append(Planned(_merged(rest, now, make_id()), (channel,)))
    kept = [
        Planned(notice, tuple(one for one in dict.fromkeys(channels) if notice.id not in merged.get(one, set())))
        for notice, channels in notices
    ]
    return [one for one in kept if one.channels] + extra


def _merged(notices: Sequence[Notice], now: datetime, notice_id: UUID) -> Notice:
    shown = sorted((one for notice in notices for one in notice.shown), key=_first)[:MOST_SHOWN]
    firing, over = sum(one.firing for one in notices), sum(one.ended for one in notices)
    reason: Reason = "fired" if firing else "resolved"
    return Notice(
        id=notice_id,
        reason=reason,
        route=STORM,
        group=STORM,
        group_labels={},
        at=now,
        firing=firing,
        ended=over,
        shown=tuple(shown),
    )


def _notice(
    notice_id: UUID,
    reason: Reason,
    route: str,
    group: str,
    labels: dict[str, str],
    alerts: Sequence[Alert],
    now: datetime,
) -> Notice:
    firing = [one for one in alerts if one.state == "firing"]
    shown = sorted(map(shown_alert, alerts), key=_first)[:MOST_SHOWN]
    return Notice(
        id=notice_id,
        reason=reason,
        route=route,
        group=group,
        group_labels=labels,
        at=now,
        firing=len(firing),
        ended=len(alerts) - len(firing),
        shown=tuple(shown),
    )


def shown_alert(alert: Alert) -> ShownAlert:
    """Return an alert as it stands in a notice."""
    return ShownAlert(
        id=alert.id,
        name=alert.labels["alertname"],
        firing=alert.state == "firing",
        severity=alert.severity,
        labels=alert.labels,
        summary=alert.summary,
        description=alert.description,
        runbook=alert.runbook,
        began_at=alert.began_at,
        resolved_at=alert.resolved_at,
        fingerprint=fingerprint(alert.labels),
    )


def _first(alert: ShownAlert) -> tuple[bool, int, datetime]:
    return not alert.firing, _ORDER[alert.severity], alert.began_at
