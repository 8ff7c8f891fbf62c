"""Evaluating the rules: every few seconds, by one process of each machine, of which one leads.

- Who leads evaluates what stands in the database, and tells of all alerts; each machine evaluates what only it knows,
  such as its processes and its disk.
- States are rows: who takes over goes on with what was pending and firing.
- Where the metrics cannot be read, no state changes. Where the database does not answer, those are told who can be
  reached without it (`service_emergency`).
- A clock that jumps moves the times of states along: it neither fires nor ends anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_notices import mutes, planned, route_of
from discern.alerts.rules_readings import Memory
from discern.alerts.rules_states import Change, begun, ended, key_of, labels_of, next_states, shifted
from discern.alerts.service_emergency import Emergency
from discern.alerts.service_turns import Turns
from discern.alerts.sources_readings import LastReading
from discern.alerts.store import AlertStore, Stale, Written, is_done
from discern.alerts.types import Alert, Event, Labels, Route, Rule, Table
from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7
from discern.monitoring.ports import Happenings, Readings

log = logging.getLogger(__name__)
_JUMP = timedelta(seconds=10)
# After so long without an evaluation of ours, another may have made some.
_STALE_SECONDS = 12.0
_NOTICES_A_MINUTE = 10
_TIDY_SECONDS = 300.0
_MACHINE_IS_GONE = timedelta(minutes=5)
MOST_KEPT = 20_000


class Engine:
    """Evaluates the rules of `table`."""

    def __init__(
        self,
        store: AlertStore,
        table: Callable[[], Table],
        known: Known,
        readings: Readings,
        turns: Turns,
        emergency: Emergency,
        happenings: Happenings,
        last_reading: LastReading,
        *,
        keep: timedelta,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._table = table
        self._known = known
        self._readings = readings
        self._turns = turns
        self._emergency = emergency
        self._happenings = happenings
        self._last_reading = last_reading
        self._keep = keep
        self._clock = clock
        self._monotonic = monotonic
        self._evaluating = threading.Lock()
        self._leads = False
        self._memory: Memory | None = None
        self._alerts: dict[UUID, Alert] | None = None
        self._workspaces: set[str] = set()
        self._last: tuple[datetime, float] | None = None
        self._tidied_at: float | None = None
        self._sent: dict[str, deque[float]] = {}

    def turn(self) -> None:
        """Evaluate, where it is ours to do."""
        with self._evaluating:
            try:
                observes, leads = self._turns.observe(), self._turns.lead()
                self._emergency.answers()
                if not observes:
                    self._alerts = self._memory = None
                    return
                if leads != self._leads:
                    self._alerts, self._leads = None, leads
                self._evaluate()
            except Stale:
                log.warning("alerts_evaluated_elsewhere")
                self._alerts = None
            except StorageUnavailable as error:
                log.warning("alerts_not_evaluated", extra={"detail": error.detail})
                self._alerts = None
                self._emergency.fails()

    def _evaluate(self) -> None:
        now, moment = self._clock(), self._monotonic()
        table = self._table()
        alerts = self._loaded(now, moment)
        if self._memory is None:
            self._memory = self._remembered(table, now, moment)
        self._memory.add(moment, self._readings.read())
        self._last_reading.keep(now, self._memory.counted())
        self._last = now, moment
        self._store_changes(self._changes(table, self._memory, alerts, now), alerts)
        if self._leads:
            self._mute(table, alerts, now)
            self._tell(table, alerts, now)
            self._settle(alerts)
            if self._tidied_at is None or moment - self._tidied_at >= _TIDY_SECONDS:
                self._tidied_at = moment
                self._tidy(table, alerts, now)
        for alert_id in [one.id for one in alerts.values() if one.state == "resolved"]:
            if not self._leads or is_done(alerts[alert_id]):
                del alerts[alert_id]

    def _remembered(self, table: Table, now: datetime, moment: float) -> Memory:
        """Return a memory, with what whoever evaluated before has read last."""
        memory = Memory(table.rules, self._known)
        last = self._last_reading.find(now)
        if last is not None:
            memory.add(moment - last[0].total_seconds(), last[1])
        return memory

    def _is_ours(self, alert: Alert) -> bool:
        """Tell whether the states of an alert are ours to write."""
        return alert.machine == self._turns.machine or (self._leads and not alert.machine)

    def _loaded(self, now: datetime, moment: float) -> dict[UUID, Alert]:
        """Return what is known of alerts, as it is in the database, with who has acknowledged them."""
        jump = timedelta()
        if self._last is not None:
            jump = (now - self._last[0]) - timedelta(seconds=moment - self._last[1])
            if moment - self._last[1] > _STALE_SECONDS:
                self._alerts = None
        if self._alerts is None:
            self._alerts = {one.id: one for one in self._store.unfinished() if self._leads or self._is_ours(one)}
            self._workspaces = self._store.workspaces()
        elif self._leads:
            ours = {alert_id: one for alert_id, one in self._alerts.items() if self._is_ours(one)}
            others = self._store.unfinished(besides=("", self._turns.machine))
            self._alerts = ours | {one.id: one for one in others}
        if abs(jump) > _JUMP:
            self._move(self._alerts, jump)
        for alert_id, (at, by) in self._store.acknowledged().items():
            alert = self._alerts.get(alert_id)
            if alert is not None and alert.acknowledged_at is None:
                self._alerts[alert_id] = msgspec.structs.replace(alert, acknowledged_at=at, acknowledged_by=by)
        return self._alerts

    def _move(self, alerts: dict[UUID, Alert], jump: timedelta) -> None:
        """Take a jump of the clock out of the times of what is open."""
        log.warning("clock_jumped", extra={"seconds": jump.total_seconds()})
        self._happenings.tell("clock.jumped", "alerts", seconds=round(jump.total_seconds(), 1))
        moved = [shifted(alert, jump) for alert in alerts.values() if self._is_ours(alert)]
        self._store.write(Written(changed=moved))
        alerts.update((alert.id, alert) for alert in moved)
        if self._leads:
            told = [
                msgspec.structs.replace(alert, told_at=alert.told_at + jump)
                for alert in alerts.values()
                if alert.told_at is not None
            ]
            self._store.note(told)
            self._store.move_groups(jump)
            alerts.update((alert.id, alert) for alert in told)

    def _changes(self, table: Table, memory: Memory, alerts: dict[UUID, Alert], now: datetime) -> list[Change]:
        rules = {rule.name: rule for rule in table.rules if self._leads or self._is_of_machines(rule)}
        known: dict[str, dict[Labels, Alert]] = {name: {} for name in rules}
        found: list[Change] = []
        for alert in alerts.values():
            if alert.state == "resolved" or not self._is_ours(alert):
                continue
            rule = rules.get(alert.rule)
            if rule is None:
                found.append(ended(alert, now, "the rule is gone"))
            elif set(alert.labels) > set(labels_of(rule, key_of(rule, alert), alert.machine)):
                # Several of them would be one, and all but one never looked at again.
                found.append(ended(alert, now, "the rule goes by fewer labels"))
            else:
                known[rule.name][key_of(rule, alert)] = alert
        for rule in rules.values():
            found.extend(next_states(rule, memory.observe(rule), known[rule.name], now, self._begin(now)))
        return found

    def _is_of_machines(self, rule: Rule) -> bool:
        return self._known.scope(rule.metric.metric) == "machine"

    def _begin(self, now: datetime) -> Callable[[Rule, Labels, float], Alert]:
        def begin(rule: Rule, labels: Labels, value: float) -> Alert:
            workspace = dict(labels).get("workspace") or None
            if workspace is not None and workspace not in self._workspaces:
                self._workspaces = self._store.workspaces()
                workspace = workspace if workspace in self._workspaces else None
            machine = self._turns.machine if self._is_of_machines(rule) else ""
            return begun(uuid7(), rule, labels, value, now, workspace=workspace, machine=machine)

        return begin

    def _store_changes(self, changes: Iterable[Change], alerts: dict[UUID, Alert]) -> None:
        fresh: list[Alert] = []
        changed: list[Alert] = []
        gone: list[UUID] = []
        events: list[tuple[Alert, Event]] = []
        for alert, is_gone, event in changes:
            if is_gone:
                gone.append(alert.id)
                continue
            (changed if alert.id in alerts else fresh).append(alert)
            if event is not None:
                events.append((alert, event))
        self._store.write(Written(fresh, changed, gone, events))
        alerts.update((alert.id, alert) for alert in (*fresh, *changed))
        for alert_id in gone:
            alerts.pop(alert_id, None)

    def _mute(self, table: Table, alerts: dict[UUID, Alert], now: datetime) -> None:
        found = mutes(list(alerts.values()), self._store.silences(now) if alerts else [], table.inhibitions, now)
        said = [(alert, Event(now, "muted" if alert.muted_by else "unmuted", detail=alert.muted_by)) for alert in found]
        self._store.note(found, said)
        alerts.update((alert.id, alert) for alert in found)

    def _tell(self, table: Table, alerts: dict[UUID, Alert], now: datetime) -> None:
        if not alerts:
            return
        groups = self._store.groups()
        plan = planned(list(alerts.values()), groups, table.routes, now, make_id=uuid7, room=self._room)
        if not plan.notices and not plan.told:
            return
        told = {alert.id: alert for alert in plan.told}
        said = [(alerts[alert_id], event) for alert_id, event in plan.events]
        self._store.tell(plan.notices, list(told.values()), said, plan.groups, now, self._turns.still_leads)
        alerts.update(told)
        for _, channels in plan.notices:
            for channel in channels:
                self._sent.setdefault(channel, deque()).append(self._monotonic())

    def _room(self, channel: str) -> int:
        """Return how many notices a channel gets at once: so many a minute."""
        sent = self._sent.setdefault(channel, deque())
        while sent and sent[0] < self._monotonic() - 60:
            sent.popleft()
        return _NOTICES_A_MINUTE - len(sent)

    def _settle(self, alerts: dict[UUID, Alert]) -> None:
        """Write that alerts are done with that are over and were told to nobody."""
        self._store.note([one for one in alerts.values() if is_done(one) and not one.end_told])

    def _tidy(self, table: Table, alerts: dict[UUID, Alert], now: datetime) -> None:
        """Delete what is old, some at a time, and give up what is for nobody any more."""
        untellable = [
            msgspec.structs.replace(one, end_told=True)
            for one in alerts.values()
            if one.state == "resolved" and not _has_channels(route_of(one, table.routes))
        ]
        self._store.note(untellable)
        reporting = self._turns.reporting(now - _MACHINE_IS_GONE)
        lost = [
            ended(one, now, "its machine does not report any more")
            for one in alerts.values()
            if one.state != "resolved" and not self._is_ours(one) and one.machine not in reporting
        ]
        self._store_changes(lost, alerts)
        self._store.notices.abandon([channel.name for channel in table.channels], now)
        for _ in range(20):
            if not self._store.forget(now - self._keep, MOST_KEPT):
                break


def _has_channels(route: Route | None) -> bool:
    return route is not None and bool(route.channels)
