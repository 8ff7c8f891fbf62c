"""What a report of a period says.

- What a part cannot tell is said to be absent, with the reason; the rest is told all the same.
- A report of a workspace has nothing of another's.
- A period that still runs is held against as much of the one before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError
from discern.monitoring.analytics.ports import AlertsOf, DriftChanges, HappeningsOf, LabelsOf, QualityOf
from discern.monitoring.analytics.rules_periods import Period, day_of
from discern.monitoring.analytics.service import Analytics, row_of, sum_of
from discern.monitoring.analytics.service_budgets import Budgets
from discern.monitoring.analytics.types import (
    ActivityReport,
    Change,
    DayRow,
    DetectorRow,
    DriftLine,
    HourRow,
    QualityLine,
)
from discern.monitoring.drift.types import DriftChange
from discern.monitoring.quality.types import KINDS, MEASURES, QualityReport, ReleaseQuality

_MOST_CHANGES = 1000
_ANY_TIME = datetime.min.replace(tzinfo=UTC)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a report has from what analytics does not count itself."""

    drift: DriftChanges
    quality: QualityOf
    alerts: AlertsOf
    happenings: HappeningsOf
    labels: LabelsOf


class Reports:
    """Reports of workspaces."""

    def __init__(self, analytics: Analytics, budgets: Budgets, sources: Sources, clock: Clock = utc_now) -> None:
        self._analytics = analytics
        self._budgets = budgets
        self._sources = sources
        self._clock = clock

    def report(self, workspace: str, period: Period, detector: str | None = None) -> ActivityReport:
        """Return the report of a period. Raises CallerError and StorageUnavailable."""
        since, until, now = period.since, period.until, self._clock()
        hours, hours_before = (
            self._analytics.hours(*one, workspace=workspace, detector=detector)
            for one in ((since, until), _held_against(period, now))
        )
        found, found_before = (row_of(_ANY_TIME, "", "", rows) for rows in (hours, hours_before))
        absent: list[str] = []
        about = self._sources

        def asked(name: str, ask: Callable[[], Sequence[T]]) -> tuple[T, ...]:
            try:
                return tuple(ask())
            except DiscernError as error:
                absent.append(f"{name}: {error}")
                return ()

        return ActivityReport(
            workspace=workspace,
            detector=detector,
            period=period.name,
            since=since,
            until=until,
            time_zone=str(period.zone),
            made_at=now,
            currency=self._analytics.prices.currency,
            verdicts=_change(found.verdicts, found_before.verdicts),
            flag=_change(found.flag, found_before.flag),
            review=_change(found.review, found_before.review),
            cost=_change(found.cost, found_before.cost),
            callers=found.callers,
            p50=found.p50,
            p95=found.p95,
            p99=found.p99,
            days=_days(hours, period),
            detectors=_detectors(hours, hours_before),
            budget=self._budgets.standing(workspace),
            drift=asked("drift", lambda: _drift(about.drift(workspace, _MOST_CHANGES), since, until, detector)),
            quality=asked("quality", lambda: _quality(about.quality(workspace), since, until, detector)),
            alerts=asked(
                "alerts",
                lambda: [one for one in about.alerts(workspace, since, until) if detector in {None, one.detector}],
            ),
            happenings=asked("happenings", lambda: about.happenings(workspace, since, until)),
            labels=asked(
                "labels",
                lambda: [one for one in about.labels(workspace, since, until) if detector in {None, one.detector}],
            ),
            absent=tuple(absent),
        )


def _held_against(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """Return the period before; of one that still runs as many hours as it has run."""
    before = period.before()
    if now >= period.until:
        return before.since, before.until
    hours_run = max(0, round((now - period.since).total_seconds() / 3600))
    return before.since, min(before.until, before.since + timedelta(hours=hours_run))


def _change(value: float, before: float) -> Change:
    return Change(value, before, value / before - 1 if before else None)


def _days(hours: Iterable[HourRow], period: Period) -> tuple[DayRow, ...]:
    by_day: dict[date, list[HourRow]] = {day: [] for day in period.days}
    for row in hours:
        by_day[day_of(row.hour, period.zone)].append(row)
    found = []
    for day, its in by_day.items():
        one = row_of(_ANY_TIME, "", "", its)
        found.append(DayRow(day, one.verdicts, one.clear, one.review, one.flag, one.cost, one.p50, one.p95))
    return tuple(found)


def _detectors(hours: Iterable[HourRow], hours_before: Iterable[HourRow]) -> tuple[DetectorRow, ...]:
    def by_version(rows: Iterable[HourRow]) -> dict[tuple[str, str], list[HourRow]]:
        found: dict[tuple[str, str], list[HourRow]] = {}
        for row in rows:
            found.setdefault((row.release.detector, row.release.version), []).append(row)
        return found

    present, past = by_version(hours), by_version(hours_before)
    found = []
    for detector, version in sorted({*present, *past}):
        its = row_of(_ANY_TIME, detector, version, present.get((detector, version), ()))
        before = sum_of(past.get((detector, version), ())).verdicts
        found.append(
            DetectorRow(
                detector,
                version,
                _change(its.verdicts, before),
                its.review,
                its.flag,
                its.degraded,
                its.p50,
                its.p95,
                its.p99,
                its.callers,
                its.cost,
            )
        )
    return tuple(found)


def _drift(changes: Iterable[DriftChange], since: datetime, until: datetime, detector: str | None) -> list[DriftLine]:
    found = [
        DriftLine(one.detector, one.version, one.subject, one.change, one.at, one.since, one.shift)
        for one in changes
        if since <= one.at < until and detector in {None, one.detector}
    ]
    return sorted(found, key=lambda one: one.at)


def _quality(report: QualityReport, since: datetime, until: datetime, detector: str | None) -> list[QualityLine]:
    lines = [
        line
        for release in report.releases
        if detector in {None, release.detector}
        for line in _of_release(release, since, until)
    ]
    order: dict[str, int] = {name: number for number, name in enumerate((*MEASURES, *KINDS))}
    return sorted(lines, key=lambda one: (one.detector, one.version, order[one.measure], order[one.kind]))


def _of_release(release: ReleaseQuality, since: datetime, until: datetime) -> Iterable[QualityLine]:
    windows = [one for one in release.windows if since <= one.start and one.end <= until and one.is_closed]
    seen: Counter[tuple[str, str]] = Counter()
    for window in reversed(windows):
        for figure in window.figures:
            if figure.value is None or (figure.kind == "realised" and not window.is_mature):
                continue
            seen[figure.measure, figure.kind] += 1
            if seen[figure.measure, figure.kind] == 1:
                yield QualityLine(
                    release.detector,
                    release.version,
                    figure.measure,
                    figure.kind,
                    figure.value,
                    figure.low,
                    figure.high,
                    window.start,
                    window.labels,
                )
