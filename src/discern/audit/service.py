"""Putting acts on record, anchoring the log outside the database, and telling whether it holds.

- An act and its entry are in one transaction: what is not on record was not done.
- Anchors follow after at most `every_seconds`, while the process lives; an anchor that cannot be kept is tried again
  and never holds up an act.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from discern.audit.ports import AnchorPlace
from discern.audit.rules import NOTHING_BEFORE, faults_of, sealed
from discern.audit.store import AuditStore, Head
from discern.audit.types import Act, Anchor, Entry, Fault
from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError
from discern.core.origin import origin

log = logging.getLogger(__name__)


class AuditTrail:
    """The audit log of an installation. Thread-safe."""

    def __init__(
        self,
        store: AuditStore,
        place: AnchorPlace,
        every_seconds: float,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._place = place
        self._every_seconds = every_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._anchoring = threading.Lock()
        self._anchored: dict[str, Head] = {}
        self._next_anchor = float("-inf")
        self._has_written = False

    def append(self, connection: Any, act: Act) -> None:  # noqa: ANN401 - a transaction of the store's
        """Put an act on record in the transaction that does it: both are there, or neither."""
        self._has_written = True
        self._store.append(connection, act.workspace, self._maker(act))

    def record(self, act: Act) -> None:
        """Put an act on record by itself. Raises StorageUnavailable when that cannot be."""
        self._has_written = True
        self._store.record(act.workspace, self._maker(act))

    def close(self) -> None:
        """Anchor what this process has put on record. Raises nothing."""
        if self._has_written:
            self.anchor(now=True)

    def anchor(self, *, now: bool = False) -> None:
        """Anchor what is not anchored yet, where it is time or `now` is asked for. Raises nothing."""
        if not now and self._monotonic() < self._next_anchor:
            return
        with self._anchoring:
            self._next_anchor = self._monotonic() + self._every_seconds
            try:
                for workspace, head in self._store.heads().items():
                    if self._anchored.get(workspace) != head:
                        self._place.put(Anchor(workspace, *head, self._clock()))
                        self._anchored[workspace] = head
            except DiscernError as error:
                log.error("audit_not_anchored", extra={"detail": str(error)})  # noqa: TRY400 - it says all there is

    def faults(self, workspace: str, anchors: list[Anchor] | None = None) -> tuple[int, list[Fault], int | None]:
        """Return how many entries there are, where they do not hold, and how many anchors they were held against.

        `anchors` stand in for those of the place. The third is None where there are none that can be read back.
        """
        known = anchors if anchors is not None else self._place.all()
        ours = None if known is None else [anchor for anchor in known if anchor.workspace == workspace]
        count = 0

        def counted() -> Any:  # noqa: ANN401 - an iterator of entries
            nonlocal count
            for entry in self._store.all(workspace):
                count += 1
                yield entry

        last = self._store.heads().get(workspace, (0, NOTHING_BEFORE))
        found = faults_of(counted(), last, ours or [])
        return count, found, None if ours is None else len(ours)

    def _maker(self, act: Act) -> Callable[[Head | None], Entry]:
        came_from = origin()

        def make(head: Head | None) -> Entry:
            number, digest = head or (0, NOTHING_BEFORE)
            return sealed(Entry(number + 1, self._clock(), came_from.address, came_from.request_id, act, digest))

        return make
