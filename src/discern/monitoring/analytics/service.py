"""Rolling hours up, once a minute by one process for all, and telling what they come to.

- The numbers are the ledger's own: an hour is told as its tallies have it, whether it was rolled up or not.
- An hour is rolled up when it is over, and again when its tallies say another number than it was rolled up from: late
  verdicts, and what somebody left who was killed, are found without a note of what was done.
- What is known of the callers and the times of an hour is not replaced by what fewer verdicts tell: those that were
  deleted stay counted.
- What an hour cost is reckoned when it is counted: other prices hold for what comes after them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo

from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.monitoring.analytics.ports import DriftChanges, LedgerHours, Turn
from discern.monitoring.analytics.rules import Key, alarms_in, alive, cost_after, counted, is_same
from discern.monitoring.analytics.rules_periods import months_between, start_of
from discern.monitoring.analytics.rules_sketches import (
    caller_hash,
    callers_bytes,
    callers_in,
    callers_of,
    cell_of,
    histogram_bytes,
    histogram_of,
    least,
    quantile,
)
from discern.monitoring.analytics.store import HourStore
from discern.monitoring.analytics.types import (
    NOTHING,
    AnalyticsRow,
    AnalyticsTable,
    HourRow,
    Numbers,
    Prices,
    Release,
    Step,
)
from discern.monitoring.drift.types import DriftChange
from discern.monitoring.ports import Tallies
from discern.monitoring.types import Sample

log = logging.getLogger(__name__)
SECONDS = 60.0
# Whoever still writes verdicts of an hour is waited for.
_OVER_AFTER = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_RECENT = timedelta(days=2)
# The ledger keeps tallies of hours for 93 days, and of days after that.
_IN_HOURS = timedelta(days=92)
_WHOLE = timedelta(hours=1)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_MEASURED = 10_000
_MOST_CHANGES = 1000
_COSTS_FOR = timedelta(minutes=10)
_FRESH_FOR = timedelta(seconds=3)


class Analytics:
    """The hours of an installation. Thread-safe."""

    def __init__(
        self,
        store: HourStore,
        tallies: Tallies,
        ledger: LedgerHours,
        drift: DriftChanges,
        prices: Prices,
        turn: Turn,
        clock: Clock = utc_now,
    ) -> None:
        self.prices = prices
        self._store = store
        self._tallies = tallies
        self._ledger = ledger
        self._drift = drift
        self._turn = turn
        self._clock = clock
        self._lock = threading.Lock()
        self._whole_at: datetime | None = None
        self._collected: tuple[datetime, list[Sample]] | None = None
        self._costs: tuple[datetime, datetime, dict[tuple[str, str], float]] | None = None

    def tend(self) -> None:
        """Roll up, if it is the turn of this process. Raises nothing: what cannot be read is read the next time."""
        try:
            if self._turn.take():
                self.roll_up(go_on=self._turn.take)
        except StorageUnavailable as error:
            log.warning("analytics_waits", extra={"detail": str(error)})

    def catch_up(self) -> None:
        """Roll up for a command, unless a server does: its prices hold. Raises StorageUnavailable."""
        if self._turn.take():
            try:
                self.roll_up(go_on=self._turn.take)
            finally:
                self._turn.give_back()

    def roll_up(self, *, whole: bool = False, go_on: Callable[[], bool] = lambda: True) -> int:
        """Roll up the hours that are over and are not, or not as they are; return how many. Raises StorageUnavailable.

        Once an hour, and where `whole` says so, all hours are looked at that the ledger has by the hour. `go_on` is
        asked between hours.
        """
        with self._lock:
            now = self._clock()
            if whole or self._whole_at is None or not timedelta(0) <= now - self._whole_at < _WHOLE:
                done = self._roll_up_old(now) + self._roll_up_since(_hour_of(now - _IN_HOURS), now, go_on)
                self._whole_at = now
                return done
            return self._roll_up_since(_hour_of(now - _RECENT), now, go_on)

    def _roll_up_since(self, since: datetime, now: datetime, go_on: Callable[[], bool]) -> int:
        until = _hour_of(now - _OVER_AFTER)
        tallied = counted(self._tallies.since(since))
        known = {(row.hour, row.release): row for row in self._store.between(since, sketches=False)}
        due: dict[datetime, dict[Release, Numbers]] = {}
        for (hour, release), numbers in tallied.items():
            if hour < until and not is_same(known.get((hour, release)), numbers):
                due.setdefault(hour, {})[release] = numbers
        drift: dict[str, list[DriftChange]] = {}
        done = 0
        for hour, releases in sorted(due.items()):
            if done and not go_on():
                break  # somebody else goes on
            self._roll_up_hour(hour, releases, drift)
            done += 1
        return done

    def _roll_up_hour(
        self, hour: datetime, releases: Mapping[Release, Numbers], drift: dict[str, list[DriftChange]]
    ) -> None:
        known = {row.release: row for row in self._store.between(hour, hour + _HOUR)}
        rows: list[HourRow] = []
        for workspace in sorted({release.workspace for release in releases}):
            if workspace not in drift:
                drift[workspace] = list(self._drift(workspace, _MOST_CHANGES))
            alarms = alarms_in(drift[workspace], hour)
            its = {release: numbers for release, numbers in releases.items() if release.workspace == workspace}
            measured = self._measure(workspace, hour, its)
            for release, numbers in its.items():
                before, found = known.get(release), measured[release]
                callers, latencies, verdicts = found
                if before is not None and before.measured > verdicts:
                    callers, latencies, verdicts = before.callers, before.latencies, before.measured
                rows.append(
                    HourRow(
                        hour,
                        release,
                        numbers,
                        cost_after(before, numbers, release.detector, self.prices),
                        callers,
                        latencies,
                        verdicts,
                        alarms.get(release[1:], 0),
                    )
                )
        self._store.put(rows)

    def _measure(
        self, workspace: str, hour: datetime, releases: Mapping[Release, Numbers]
    ) -> dict[Release, tuple[bytes, bytes, int]]:
        """Return who asked, how long it took, and of how many verdicts the ledger still tells it."""
        hashes: dict[Release, list[int]] = {release: [] for release in releases}
        there = dict.fromkeys(releases, 0)
        for one in self._ledger.asked(workspace, hour):
            release = Release(workspace, one.detector, one.version)
            if release in hashes:
                hashes[release].append(caller_hash(workspace, one.principal))
                there[release] += one.verdicts
        shares = {release[1:]: min(1.0, _MEASURED / count) for release, count in there.items() if count}
        cells: dict[Release, dict[int, float]] = {release: {} for release in releases}
        for detector, version, milliseconds in self._ledger.times(workspace, hour, shares):
            its, cell = cells[Release(workspace, detector, version)], cell_of(milliseconds)
            its[cell] = its.get(cell, 0.0) + 1
        for release, its in cells.items():
            # Each stands for as many as were left out beside it, so that a busy hour weighs more in a day.
            weight = releases[release].verdicts / (sum(its.values()) or 1)
            cells[release] = {cell: count * weight for cell, count in its.items()}
        return {
            release: (callers_bytes(least(hashes[release])), histogram_bytes(cells[release]), there[release])
            for release in releases
        }

    def _roll_up_old(self, now: datetime) -> int:
        """Take over days that the ledger has no hours of any more, as their first hours, where nothing is known."""
        before = _hour_of(now - _IN_HOURS).replace(hour=0)
        there = self._store.days_there(before)
        rows = [
            HourRow(hour, release, numbers, cost_after(None, numbers, release.detector, self.prices))
            for (hour, release), numbers in counted(self._tallies.since(_EVER)).items()
            if hour < before and (release, hour.replace(hour=0)) not in there
        ]
        if rows:
            self._store.put(rows)
        return len(rows)

    def hours(
        self,
        since: datetime,
        until: datetime,
        *,
        workspace: str | None = None,
        detector: str | None = None,
        sketches: bool = True,
    ) -> list[HourRow]:
        """Return hours from the one time to before the other as they stand, oldest first. Raises StorageUnavailable."""
        # Before the rows: what is rolled up between the two is then among both, not among neither.
        fresh = max(since, self._fresh())
        rows = self._store.between(since, until, workspace=workspace, detector=detector, sketches=sketches)
        known: dict[Key, HourRow] = {(row.hour, row.release): row for row in rows}
        tallied: dict[Key, Numbers] = {}
        if until > fresh:
            tallied = {
                key: numbers
                for key, numbers in counted(self._tallies.since(fresh, workspace)).items()
                if key[0] < until and detector in {None, key[1].detector}
            }
        return alive(known, tallied, self.prices)

    def _fresh(self) -> datetime:
        """Return from when on tallies are looked at: what is older and came late shows after the next look at all."""
        return min(_hour_of(self._clock() - _RECENT), self._store.latest() or _EVER)

    def table(
        self,
        workspace: str,
        since: datetime,
        until: datetime,
        *,
        step: Step = "day",
        detector: str | None = None,
        by_version: bool = True,
        zone: tzinfo = UTC,
    ) -> AnalyticsTable:
        """Return what was asked for in a workspace. Raises CallerError and StorageUnavailable."""
        sums: dict[tuple[datetime, str, str], Sum] = {}
        # Month by month: what is asked for may be years.
        for start, end in months_between(since, until):
            for row in self.hours(start, end, workspace=workspace, detector=detector):
                of = row.release
                key = start_of(row.hour, step, zone), of.detector, of.version if by_version else ""
                sums.setdefault(key, Sum()).add(row)
        rows = tuple(one.row(*key) for key, one in sorted(sums.items(), key=lambda pair: pair[0]))
        return AnalyticsTable(workspace, step, since, until, self.prices.currency, rows)

    def collect(self) -> Iterator[Sample]:
        """Yield what verdicts cost, ever. Raises StorageUnavailable."""
        now = self._clock()
        if self._collected is None or not timedelta(0) <= now - self._collected[0] < _FRESH_FOR:
            self._collected = now, [Sample("discern_cost_total", key, cost) for key, cost in self._ever(now).items()]
        return iter(self._collected[1])

    def _ever(self, now: datetime) -> dict[tuple[str, str], float]:
        if self._costs is None or not timedelta(0) <= now - self._costs[1] < _COSTS_FOR:
            until = self._fresh()
            self._costs = until, now, self._store.costs(until)
        until, _, settled = self._costs
        costs = dict(settled)
        for row in self.hours(until, datetime.max.replace(tzinfo=UTC), sketches=False):
            key = row.release.workspace, row.release.detector
            costs[key] = costs.get(key, 0.0) + row.cost
        return costs


class Sum:
    """Hours put together, one after the other."""

    def __init__(self) -> None:
        self._numbers, self._cost, self._alarms = NOTHING, 0.0, 0
        self._cells: dict[int, float] = {}
        self._callers: tuple[int, ...] = ()

    def add(self, row: HourRow) -> None:
        """Add an hour."""
        self._numbers = self._numbers.plus(row.numbers)
        self._cost += row.cost
        self._alarms = max(self._alarms, row.drift_alarms)
        for cell, weight in histogram_of(row.latencies).items():
            self._cells[cell] = self._cells.get(cell, 0.0) + weight
        if row.callers:
            self._callers = least((*self._callers, *callers_of(row.callers)))

    def row(self, start: datetime, detector: str, version: str) -> AnalyticsRow:
        """Return what they come to."""
        return AnalyticsRow(
            start,
            detector,
            version,
            **self._numbers._asdict(),
            p50=quantile(self._cells, 0.5),
            p95=quantile(self._cells, 0.95),
            p99=quantile(self._cells, 0.99),
            callers=callers_in(self._callers),
            drift_alarms=self._alarms,
            cost=self._cost,
        )


def row_of(start: datetime, detector: str, version: str, rows: Iterable[HourRow]) -> AnalyticsRow:
    """Return hours put together."""
    found = Sum()
    for row in rows:
        found.add(row)
    return found.row(start, detector, version)


def sum_of(rows: Iterable[HourRow]) -> Numbers:
    """Return what hours come to."""
    found = NOTHING
    for row in rows:
        found = found.plus(row.numbers)
    return found


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
