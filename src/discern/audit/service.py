"""Putting acts on record, anchoring the log outside the database, and telling whether it holds.

- An act and its entry are in one transaction: what is not on record was not done.
- Anchors follow after at most `every_seconds`, while the process lives; an anchor that cannot be kept is tried again
  and never holds up an act.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from discern.audit.ports import AnchorPlace
from discern.audit.rules import NOTHING_BEFORE, RESUME, Head, check_reason, continued_from, gap_of, sealed, verified
from discern.audit.store import BEFORE_ALL, AuditStore
from discern.audit.types import (
    Act,
    Anchor,
    Continuation,
    Entry,
    Fault,
    Gap,
    Resumption,
    StoredEntry,
    Verification,
)
from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError, OperatorError
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

    def verify(self, workspace: str, anchors: Sequence[Anchor] | None = None) -> Verification:
        """Return what is found in the log of a workspace.

        `anchors` stand in for those of the place; without either the chain alone is looked at.
        """
        known = self.anchors() if anchors is None else anchors
        ours = None if known is None else [anchor for anchor in known if anchor.workspace == workspace]
        head: Head = 0, NOTHING_BEFORE

        def stored() -> Iterator[StoredEntry]:
            # Others write meanwhile: the head counts that was read before no more entries were found.
            nonlocal head
            after, more = BEFORE_ALL, True
            while more:
                head, more = self._store.heads().get(workspace, (0, NOTHING_BEFORE)), False
                for one in self._store.stored(workspace, after):
                    after, more = one.number, True
                    yield one

        found = verified(stored(), lambda: head, ours)
        untrue = [
            Fault(gap.number, f"Entry {gap.number} continues the log from an entry that is not there.")
            for gap in found.gaps
            if found.is_chain_whole and self._digest(workspace, gap.resumption.continued_from) != gap.resumption.digest
        ]
        return msgspec.structs.replace(found, faults=found.faults + tuple(untrue)) if untrue else found

    def workspaces(self, anchors: Sequence[Anchor] | None = None) -> list[str]:
        """Return the names of all workspaces that have a log or an anchor, or could have one."""
        known = self.anchors() if anchors is None else anchors
        return sorted(self._store.workspaces() | {anchor.workspace for anchor in known or ()})

    def anchors(self) -> list[Anchor] | None:
        """Return every anchor there is, or None where the place cannot be read back."""
        known = self._place.all()
        return None if known is None else list(known)

    def resume(self, workspace: str, who: str, reason: str, anchors: Sequence[Anchor] | None = None) -> Gap:
        """Put on record, and anchor, that the log goes on after a restore; return what is lost.

        Raises CallerError where that is not so, and OperatorError where the anchors cannot be read back, or the entry
        is on record and cannot be anchored yet.
        """
        check_reason(reason)
        known = self.anchors() if anchors is None else anchors
        if known is None:
            raise OperatorError(
                "The anchors cannot be read back, so nobody can tell what was lost.",
                mend="Give a file of them: `--anchors FILE`.",
            )
        seen = self.verify(workspace, known)
        start = continued_from(seen)
        confirmed = max((number for number in seen.fitting if number <= start), default=0)
        resumption = Resumption(start, self._digest(workspace, start), confirmed, seen.lost)
        act = Act(workspace, who, RESUME, f"audit:{workspace}", after=msgspec.to_builtins(resumption), reason=reason)
        make = self._maker(act)
        made: list[Entry] = []

        def kept(head: Head | None) -> Entry:
            made.append(make(head))
            return made[-1]

        self._has_written = True
        self._store.record(workspace, kept)
        # Not the head of the log: others write meanwhile, and this entry is the one to be anchored.
        entry = made[-1]
        lost_to = max(number for number, _ in seen.lost)
        continuation = Continuation(start, resumption.digest, lost_to, who, reason)
        self._place.put(Anchor(workspace, entry.number, entry.digest, self._clock(), continuation))
        gap = gap_of(entry)
        assert gap is not None  # noqa: S101 - as it was written above
        return gap

    def _digest(self, workspace: str, number: int) -> str:
        return NOTHING_BEFORE if number == 0 else self._store.digest(workspace, number) or ""

    def _maker(self, act: Act) -> Callable[[Head | None], Entry]:
        came_from = origin()

        def make(head: Head | None) -> Entry:
            number, digest = head or (0, NOTHING_BEFORE)
            return sealed(Entry(number + 1, self._clock(), came_from.address, came_from.request_id, act, digest))

        return make
