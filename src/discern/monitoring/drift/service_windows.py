"""Putting what all processes have seen into windows, and comparing these with the references. One process at a time.

- A piece is in one window, however many processes believe that it is their turn.
- Alarms are told once they are on record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.monitoring.drift.rules import (
    HISTORY,
    MOST_PERIODS,
    closed,
    folded,
    forgotten,
    is_full,
    silenced,
    start_of,
    started,
    with_piece,
    with_sketches,
)
from discern.monitoring.drift.store import DriftStore, Fold, Standing, WaitingPiece
from discern.monitoring.drift.types import DriftChange, Period, Plan, Release, ReleaseKey, Span, Window
from discern.monitoring.ports import Happenings
from discern.store.turns import Turn

log = logging.getLogger(__name__)
_PIECES = 500
# The rest has its turn a few seconds later.
_ROUNDS = 20
_TEND = timedelta(minutes=10)


class _Progress(NamedTuple):
    """A release on its way through its pieces."""

    release: Release
    window: Window
    windows: tuple[Window, ...] = ()
    changes: tuple[DriftChange, ...] = ()


class DriftWindows:
    """Fills and closes windows."""

    def __init__(
        self, store: DriftStore, plan: Plan, turn: Turn, happenings: Happenings, clock: Clock = utc_now
    ) -> None:
        self._store = store
        self._plan = plan
        self._turn = turn
        self._happenings = happenings
        self._clock = clock
        self._tended_at: datetime | None = None
        # Releases whose window has enough verdicts, and waits for its time.
        self._due: set[ReleaseKey] = set()

    def look(self) -> None:
        """Take what was seen into windows, where it is this process's turn. Raises nothing."""
        try:
            if self._turn.take():
                self.fold()
        except StorageUnavailable as error:
            log.warning("drift_waits", extra={"detail": error.detail})

    def fold(self) -> None:
        """Take everything that was seen into windows. Raises StorageUnavailable."""
        for _ in range(_ROUNDS):
            waiting = self._store.waiting(_PIECES)
            ordered = sorted(waiting, key=lambda one: (one.key, one.id))
            for key, found in groupby(ordered, key=lambda one: one.key):
                self._fold(key, list(found))
            if len(waiting) < _PIECES:
                break
        for key in list(self._due):
            self._fold(key, ())
        now = self._clock()
        if self._tended_at is None or abs(now - self._tended_at) >= _TEND:
            self._tended_at = now
            self._tend(now)

    def _fold(self, key: ReleaseKey, found: Sequence[WaitingPiece]) -> None:
        standing, now = self._store.release(key), self._clock()
        if standing is None:  # it was forgotten meanwhile
            self._due.discard(key)
            self._store.discard([one.id for one in found])
            return
        past = self._store.windows(key, HISTORY + 1)
        number = standing.release.windows + 1
        is_open = past and past[-1].number == number
        window = past.pop() if is_open else Window(number, now)
        # One that began ahead of a clock that was set back is written with its time, though nothing more comes.
        began = started(window, now)
        progress = _Progress(standing.release, began)
        for one in found:
            progress = progress._replace(window=with_piece(progress.window, one.piece, progress.release))
            progress = self._advanced(key, progress, past, now)
        if not found:
            progress = self._advanced(key, progress, past, now)
        self._note_due(key, progress.window)
        if not found and not progress.windows and began == window:
            return
        periods, gone = self._periods(key, found)
        fold = Fold(
            progress.release,
            now if found else standing.seen_at,
            [one.id for one in found],
            [*progress.windows, progress.window],
            max(0, progress.window.number - HISTORY),
            periods,
            gone,
            progress.changes,
        )
        if self._store.write(key, standing.revision, fold):
            self._tell(key, progress.changes)

    def _note_due(self, key: ReleaseKey, window: Window) -> None:
        if window.verdicts >= self._plan.window_verdicts:
            self._due.add(key)
        else:
            self._due.discard(key)

    def _advanced(self, key: ReleaseKey, before: _Progress, past: list[Window], now: datetime) -> _Progress:
        """Return the release after its open window was closed, where that is full."""
        if not is_full(before.window, now, self._plan):
            return before
        found = closed(key, before.release, before.window, past, now, self._plan)
        past.append(found.window)
        del past[:-HISTORY]
        return _Progress(
            found.release,
            Window(found.release.windows + 1, now),
            (*before.windows, found.window),
            (*before.changes, *found.changes),
        )

    def _periods(
        self, key: ReleaseKey, found: Sequence[WaitingPiece]
    ) -> tuple[list[Period], list[tuple[Span, datetime]]]:
        """Return the hours and days to write, and those to delete."""
        written: dict[tuple[Span, datetime], Period] = {}
        for one in found:
            at = start_of("hour", one.piece.at)
            hour = written.get(("hour", at)) or self._store.period(key, "hour", at)
            written["hour", at] = with_sketches(hour, one.piece.verdicts, one.piece.sketches)
        if self._store.spans(key).get("hour", 0) + len(written) <= MOST_PERIODS["hour"]:
            return list(written.values()), []
        there = {(one.span, one.at): one for one in self._store.periods(key)} | written
        days, gone = folded(list(there.values()))
        kept = [period for place, period in written.items() if place not in gone]
        return [*kept, *days], gone

    def _tend(self, now: datetime) -> None:
        """End the alarms of releases that nobody asks any more, and forget those that are long gone."""
        standings = self._store.releases()
        for key in forgotten({key: standing.seen_at for key, standing in standings.items()}):
            del standings[key]
            self._store.forget(key)
            log.info("drift_forgotten", extra={"detector": key.detector, "version": key.version})
        for key, standing in standings.items():
            self._silence(key, standing, now)
            # What another process knew to be due when it ended.
            for window in self._store.windows(key, 1):
                self._note_due(key, window if window.ended_at is None else Window(0, now))

    def _silence(self, key: ReleaseKey, standing: Standing, now: datetime) -> None:
        found = silenced(key, standing.release, standing.seen_at, now)
        if found is None:
            return
        fold = Fold(found.release, standing.seen_at, changes=found.changes)
        if self._store.write(key, standing.revision, fold):
            self._tell(key, found.changes)

    def _tell(self, key: ReleaseKey, changes: Sequence[DriftChange]) -> None:
        for change in changes:
            self._happenings.tell(
                f"drift.{change.change}",
                f"{key.detector} {key.version} {change.subject}",
                workspace=key.workspace,
                since=change.since.isoformat(),
                distance=change.distance,
                shift=change.shift,
                p_value=change.p_value,
            )
