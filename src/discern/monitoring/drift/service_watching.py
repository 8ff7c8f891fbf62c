"""What a process has seen: noted as it is answered, looked at in a thread, and written down every few seconds.

- Noting costs an append a verdict. Of a release `_A_SECOND` verdicts are looked at a second, and up to `_BURST` that
  come at once; a picture counts for `_PICTURE`. Of all releases together it is `_BURST` a second. The rest is let go.
- Nothing is written of fewer than `FEWEST` verdicts of a release together; until there are as many they wait here.
- What waits is bounded; where the database does not answer for long, what comes after that is not looked at. Of a
  release that nobody asks nothing is kept here.
- What a process has not written when it ends is not looked at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from discern.core.clock import Clock, utc_now
from discern.core.errors import BundleRefused, StorageUnavailable, UnknownDetector
from discern.detection.types import LedgerEntry
from discern.detectors.assessment import Detector
from discern.detectors.bundle import Bundle
from discern.monitoring.drift.ports import Bundles
from discern.monitoring.drift.rules_sketches import is_available
from discern.monitoring.drift.sources import Values, Watched, begun, piece_of, values_of, watched_of
from discern.monitoring.drift.store import DriftStore
from discern.monitoring.drift.types import Piece, Release, ReleaseKey

log = logging.getLogger(__name__)
FEWEST = 20
# At a rate above this a window is full in seconds, and looking at more would take more of the processor than it tells.
_A_SECOND = 250
_BURST = 4000
_PICTURE = 32
_WRITE_SECONDS = 3.0
# Of one release, and of all together: numbers, four bytes each.
_MOST_HELD = 20_000
_MOST_NUMBERS = 4_000_000
_MOST_RELEASES = 1000


@dataclass(slots=True)
class _Held:
    """What was seen of a release and is not written yet."""

    bundle: Bundle
    watched: tuple[Watched, ...]
    detector: Detector | None
    values: list[Values] = field(default_factory=list)
    verdicts: int = 0


class DriftWatch:
    """Watches what one process answers. `left_out` are fields, as `DETECTOR:FIELD`."""

    def __init__(
        self,
        store: DriftStore,
        bundles: Bundles,
        left_out: Collection[str] = (),
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._left_out = left_out
        self._clock = clock
        self._monotonic = monotonic
        # Filled by the event loop, emptied by `look`: a list is replaced whole.
        self._noted: list[LedgerEntry] = []
        self._room = _BURST if is_available() else 0
        # By workspace, detector and version; a plain tuple is made four times as fast as a key.
        self._rooms: dict[tuple[str, str, str], int] = {}
        self._held: dict[ReleaseKey, _Held] = {}
        self._unknown: set[ReleaseKey] = set()
        self._numbers = 0
        self._write_at = 0.0

    def recorded(self, entries: Sequence[LedgerEntry]) -> None:
        """Take note of verdicts that are on the ledger."""
        rooms = self._rooms
        for entry in entries:
            seen = entry.seen
            if seen is None or self._room <= 0:
                continue
            verdict = entry.verdict
            key = verdict.workspace, verdict.detector, verdict.version
            room = rooms.get(key, _BURST)
            if room > 0:
                takes = 1 if type(seen) is tuple else _PICTURE
                rooms[key] = room - takes
                self._room -= takes
                self._noted.append(entry)

    def look(self) -> None:
        """Look at what was noted, and write it down now and then, in a thread. Raises nothing."""
        if not is_available():
            return
        noted, self._noted, self._room = self._noted, [], _BURST
        rooms = {key: room + _A_SECOND for key, room in list(self._rooms.items())}
        self._rooms = {key: room for key, room in rooms.items() if room < _BURST}
        by_release: dict[ReleaseKey, list[LedgerEntry]] = {}
        for entry in noted:
            verdict = entry.verdict
            key = ReleaseKey(verdict.workspace, verdict.detector, verdict.version)
            by_release.setdefault(key, []).append(entry)
        for key, entries in by_release.items():
            self._hold(key, entries)
        if self._monotonic() >= self._write_at:
            self._write_at = self._monotonic() + _WRITE_SECONDS
            self.write()

    def write(self) -> None:
        """Write down what there is enough of, and let go of what is not asked. Raises nothing."""
        self._held = {key: held for key, held in self._held.items() if held.verdicts}
        self._unknown.clear()
        ready = {key: held for key, held in self._held.items() if held.verdicts >= FEWEST}
        if not ready:
            return
        try:
            self._store.add([(key, self._piece(key, held)) for key, held in ready.items()])
        except StorageUnavailable as error:
            log.warning("drift_not_written", extra={"detail": error.detail})
            return
        for held in ready.values():
            held.values, held.verdicts = [], 0
        self._numbers = sum(part.size for held in self._held.values() for part in held.values)

    def _hold(self, key: ReleaseKey, entries: Sequence[LedgerEntry]) -> None:
        held = self._held.get(key) or self._found(key)
        if held is None or held.verdicts >= _MOST_HELD or self._numbers >= _MOST_NUMBERS:
            return
        values = values_of(entries, held.watched, held.detector)
        held.values.append(values)
        held.verdicts += len(values)
        self._numbers += values.size

    def _found(self, key: ReleaseKey) -> _Held | None:
        """Return where to hold what is seen of a release; None for one whose bundle is gone."""
        if key in self._unknown or len(self._held) >= _MOST_RELEASES:
            return None
        try:
            bundle = self._bundles.find(key.detector, key.version).bundle
            detector = self._bundles.get(key.detector, key.version)
        except (UnknownDetector, BundleRefused):
            self._unknown.add(key)
            return None
        embeds = detector.has_embedding
        watched = watched_of(bundle.manifest, self._left_out, has_embedding=embeds)
        held = self._held[key] = _Held(bundle, watched, detector if embeds else None)
        return held

    def _piece(self, key: ReleaseKey, held: _Held) -> Piece:
        now = self._clock()
        values = np.concatenate(held.values)
        return piece_of(values, held.watched, self._release(key, held), now)

    def _release(self, key: ReleaseKey, held: _Held) -> Release:
        standing = self._store.release(key)
        if standing is not None:
            return standing.release
        self._store.begin(key, begun(held.bundle, held.watched, self._clock()), self._clock())
        standing = self._store.release(key)
        return begun(held.bundle, held.watched, self._clock()) if standing is None else standing.release
