"""Measuring quality, once a minute by one process for all, and telling it.

- What is measured are rows, so every process tells the same, and a restart loses nothing.
- A window is measured anew only where its verdicts or its labels have changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.monitoring.ports import Tallies
from discern.monitoring.quality.ports import EvidenceOf, Turn
from discern.monitoring.quality.rules import (
    Counts,
    Measured,
    counted,
    delays_of,
    gaps_of,
    measure,
    standing_of,
    usable,
    window_start,
)
from discern.monitoring.quality.rules_delays import Delays
from discern.monitoring.quality.store import QualityStore
from discern.monitoring.quality.types import (
    Evidence,
    QualityOptions,
    QualityReport,
    Release,
    ReleaseQuality,
    Standing,
)
from discern.monitoring.types import Sample
from discern.review.ports import JudgedVerdicts
from discern.review.types import Judged

log = logging.getLogger(__name__)
SECONDS = 60.0
_WHOLE = timedelta(hours=1)
_Labels = dict[datetime, list[Judged]]


class Quality:
    """The quality of an installation's detectors."""

    def __init__(
        self,
        store: QualityStore,
        tallies: Tallies,
        labels: JudgedVerdicts,
        evidence_of: EvidenceOf,
        options: QualityOptions,
        turn: Turn,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._tallies = tallies
        self._judged = labels
        self._evidence_of = evidence_of
        self._options = options
        self._turn = turn
        self._clock = clock
        self._measuring = threading.Lock()
        self._counts: dict[Release, dict[datetime, Counts]] = {}
        self._measured: dict[Release, dict[datetime, tuple[object, Measured]]] = {}
        self._labels: dict[tuple[str, str], list[Judged]] = {}
        self._delays: dict[tuple[str, str], Delays] = {}
        self._standings: dict[Release, Standing] = {}
        self._latest: object = None
        self._whole_at: datetime | None = None

    def tend(self) -> None:
        """Measure, if it is the turn of this process. Raises nothing: what cannot be read is read the next time."""
        try:
            if self._turn.take():
                self.refresh()
        except StorageUnavailable as error:
            log.warning("quality_waits", extra={"detail": str(error)})

    def refresh(self) -> None:
        """Measure every release, and write down what has changed. Raises StorageUnavailable."""
        with self._measuring:
            now, days = self._clock(), self._options.window_days
            first = window_start(now - timedelta(days=self._options.days), days)
            is_whole = self._whole_at is None or not timedelta(0) <= now - self._whole_at < _WHOLE
            self._count(first if is_whole else window_start(now, days) - timedelta(days=days), first)
            self._read_labels(first, anew=is_whole)
            if is_whole:
                self._standings = dict(self._store.standings())
            evidence = {
                (one.detector, one.version): self._evidence_of(one.detector, one.version) for one in self._counts
            }
            for release in self._counts:
                self._measure(release, evidence[release.detector, release.version], now)
            if is_whole:
                self._store.forget_before(first, self._counts.keys())
                self._whole_at = now

    def report(
        self,
        workspace: str,
        *,
        detector: str | None = None,
        version: str | None = None,
        days: int | None = None,
        may: Callable[[str], bool] = lambda _: True,
    ) -> QualityReport:
        """Return what was measured in a workspace last; `may` tells of a detector whether it may be seen."""
        since = window_start(self._clock() - timedelta(days=days or self._options.days), self._options.window_days)
        found = [
            ReleaseQuality(
                release.detector,
                release.version,
                tuple(self._store.windows(release, since)),
                standing.gaps,
                standing.caveats,
            )
            for release, standing in self._store.standings(workspace).items()
            if detector in {None, release.detector} and version in {None, release.version} and may(release.detector)
        ]
        return QualityReport(workspace, self._options.window_days, tuple(found))

    def collect(self) -> Iterator[Sample]:
        """Yield the metrics of quality. Raises StorageUnavailable."""
        for release, standing in self._store.standings().items():
            for figure in standing.figures:
                labels = (*release, figure.measure, figure.kind)
                values = (figure.value, figure.low, figure.high)
                for name, value in zip(("", "_low", "_high"), values, strict=True):
                    if value is not None:
                        yield Sample(f"discern_quality{name}", labels, value)
            for gap in standing.gaps:
                yield Sample("discern_quality_gap_alarm", (*release, gap.measure), float(gap.is_alarm))
        for one in self._judged.counts():
            yield Sample("discern_labels_total", (one.workspace, one.detector, one.label), float(one.labels))

    def _count(self, since: datetime, first: datetime) -> None:
        """Read what the ledger counted since a time, and keep it in the place of what was counted before."""
        rows = self._tallies.since(since)
        versions = {(row.detector, row.version) for row in rows}
        evidence = {one: self._evidence_of(*one) for one in versions}
        stages = {one: None if found is None else found.stages for one, found in evidence.items()}
        fresh = counted(rows, stages, self._options.window_days)
        kept = {
            release: {start: counts for start, counts in its.items() if first <= start < since}
            for release, its in self._counts.items()
        }
        for release, its in fresh.items():
            kept.setdefault(release, {}).update(its)
        self._counts = {release: its for release, its in kept.items() if its}

    def _read_labels(self, first: datetime, *, anew: bool) -> None:
        # By their number as well: of a process whose clock is behind another's the last label has not the last id.
        latest = self._judged.latest(), sorted(self._judged.counts())
        if not anew and latest == self._latest:
            return
        self._labels = {
            (workspace, detector): list(self._judged.judged(workspace, detector, first))
            for workspace, detector in self._judged.labelled_detectors(first)
        }
        self._delays = {one: delays_of(labels, self._options.label_share) for one, labels in self._labels.items()}
        self._latest = latest

    def _measure(self, release: Release, evidence: Evidence | None, now: datetime) -> None:
        place = release.workspace, release.detector
        labels = _by_window(
            usable(
                (one for one in self._labels.get(place, ()) if one.version == release.version),
                None if evidence is None else evidence.stages,
            ),
            self._options.window_days,
        )
        delays = self._delays.get(place) or delays_of((), self._options.label_share)
        before = self._measured.get(release, {})
        after: dict[datetime, tuple[object, Measured]] = {}
        for start, counts in sorted(self._counts[release].items()):
            its = labels.get(start, [])
            end = start + timedelta(days=self._options.window_days)
            key = counts, evidence, [one.label_id for one in its], delays.come(end), end <= now
            known = before.get(start)
            if known is not None and known[0] == key:
                after[start] = known
            else:
                after[start] = key, measure(start, counts, its, delays, evidence, self._options, now)
        self._measured[release] = after
        measured = [one for _, one in after.values()]
        groups = (counts.groups for counts in self._counts[release].values())
        known_before = self._standings.get(release)
        began = min([*after, *([] if known_before is None else [known_before.began])])
        its_gaps = gaps_of(measured, groups, evidence, self._options, began)
        standing = standing_of([one.window for one in measured], its_gaps, evidence, began)
        changed = [one.window for start, (_, one) in after.items() if before.get(start) is not after[start]]
        if changed or self._standings.get(release) != standing:
            self._store.write(release, changed, standing)
            self._standings[release] = standing


def _by_window(labels: Iterable[Judged], days: int) -> _Labels:
    found: _Labels = {}
    for one in labels:
        found.setdefault(window_start(one.verdict_at, days), []).append(one)
    return found
