"""Deleting what is old: whole months where nobody wants them any more, the rest in small transactions.

- One process at a time deletes, once a day; the command line may in between.
- Whoever writes meanwhile waits for one small transaction at most, and as long as a transaction took nothing is deleted
  after it.
- What was deleted is on the audit log of its workspace, as sums.
- Without a word from the workspace nothing is deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from discern.access.types import LOCAL, Principal
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, Forbidden, StorageUnavailable
from discern.core.months import Month
from discern.retention.ports import ByMonth, Expiring
from discern.retention.rules import check_days, cutoff, has_expired
from discern.retention.store import RetentionStore
from discern.retention.types import KINDS, Expired, Keeping, Kind

log = logging.getLogger(__name__)
_BATCH_ROWS = 200
_LEAST_PAUSE_SECONDS = 0.005
_DAY = timedelta(days=1)
# Somebody who died in his turn is waited for so long.
_TURN = timedelta(hours=1)


class Retention:
    """What an installation keeps, and for how long. `ledger` has the verdicts by month."""

    def __init__(
        self, store: RetentionStore, kinds: Mapping[Kind, Expiring], ledger: ByMonth, clock: Clock = utc_now
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._ledger = ledger
        self._clock = clock
        self._stopping = threading.Event()

    def show(self, workspace: str) -> Keeping:
        """Return for how long a workspace keeps what."""
        return self._store.all().get(workspace, Keeping())

    def change(self, workspace: str, kind: Kind, days: int | None, by: Principal = LOCAL) -> Keeping:
        """Set for how many days a kind is kept, None for ever; return what holds then.

        Raises CallerError, and Forbidden to whoever was granted single detectors.
        """
        check_days(days)
        if by.detectors is not None:
            raise Forbidden(
                "What a workspace keeps concerns all its detectors, and this key was granted single ones.",
                mend="Ask with one that was granted all.",
                action="retention.change",
                role=by.role,
            )
        before = self.show(workspace)
        after = msgspec.structs.replace(before, **{kind: days})
        target, days_before = f"workspace:{workspace}", before.days(kind)
        act = Act(workspace, by.id, "retention.change", target, before={kind: days_before}, after={kind: days})
        self._store.change(workspace, kind, days, act)
        return after

    def old(self) -> list[Expired]:
        """Return what a run would delete at this moment."""
        return [
            Expired(workspace, kind, before, self._kinds[kind].count(workspace, before))
            for workspace, kind, before in self._cutoffs()
        ]

    def run(self) -> list[Expired]:
        """Delete what is old, and return it. Raises CallerError where another process does so at this moment."""
        now = self._clock()
        if not self._store.take_turn(now, now + _TURN, only_if_due=False):
            raise CallerError("Another process deletes at this moment.", mend="Try again when it is done.")
        return self._run(LOCAL.id)

    def tend(self) -> None:
        """Make the months to come and, once a day, delete what is old. Raises nothing."""
        try:
            now = self._clock()
            for month in self._ledger.make_ahead(now):
                log.info("ledger_month_made", extra={"month": str(month)})
            if self._store.take_turn(now, now + _TURN, only_if_due=True):
                self._run("retention")
        except StorageUnavailable as error:
            log.warning("retention_waits", extra={"detail": str(error)})

    def stop(self) -> None:
        """Have a run leave off after the transaction it is in."""
        self._stopping.set()

    def _run(self, who: str) -> list[Expired]:
        finished = False
        try:
            sums = self._drop_months()
            found = []
            for workspace, kind, before in self._cutoffs():
                rows = self._delete(workspace, kind, before)
                rows += sums.get(workspace, 0) if kind == "verdicts" else 0
                found.append(Expired(workspace, kind, before, rows))
            finished = not self._stopping.is_set()
            return found
        finally:
            for workspace in {workspace for workspace, _, _ in self._cutoffs()}:
                self._store.tell(workspace, partial(_act, workspace, who))
            self._store.end_turn(self._clock() + _DAY if finished else None)

    def _cutoffs(self) -> Iterator[tuple[str, Kind, datetime]]:
        now = self._clock()
        for workspace, keeping in self._store.all().items():
            for kind in KINDS:
                days = keeping.days(kind)
                if days is not None:
                    yield workspace, kind, cutoff(now, days)

    def _drop_months(self) -> dict[str, int]:
        """Drop the months that are old for everybody, the oldest first; return how many rows each workspace had."""
        sums: dict[str, int] = {}
        for month in self._ledger.months():
            cutoffs = {workspace: before for workspace, kind, before in self._cutoffs() if kind == "verdicts"}
            if self._stopping.is_set() or not has_expired(month, self._ledger.workspaces(month), cutoffs):
                break
            rows = self._ledger.rows(month)
            if not self._drop(month, rows):
                break
            log.info("ledger_month_dropped", extra={"month": str(month), "rows": sum(rows.values())})
            for workspace, count in rows.items():
                sums[workspace] = sums.get(workspace, 0) + count
        return sums

    def _drop(self, month: Month, rows: Mapping[str, int]) -> bool:
        """Drop a month; False where the table was not to be had, and it waits for another day."""

        def note(connection: Any) -> None:  # noqa: ANN401 - a transaction of the store's
            for workspace, count in rows.items():
                self._store.note(connection, workspace, "verdicts", count)

        try:
            return self._ledger.drop_oldest(month, note)
        except StorageUnavailable as error:
            log.warning("ledger_month_not_dropped", extra={"month": str(month), "detail": str(error)})
            return False

    def _still_goes(self, workspace: str, kind: Kind, before: datetime) -> bool:
        days = self.show(workspace).days(kind)
        return days is not None and cutoff(self._clock(), days) >= before

    def _delete(self, workspace: str, kind: Kind, before: datetime) -> int:
        deleted = 0

        def note(connection: Any, rows: int) -> None:  # noqa: ANN401 - likewise
            self._store.note(connection, workspace, kind, rows)

        # Whoever says meanwhile that it is to be kept is heard before the next rows go.
        while not self._stopping.is_set() and self._still_goes(workspace, kind, before):
            started = time.monotonic()
            gone = len(self._kinds[kind].delete(workspace, before, _BATCH_ROWS, note))
            deleted += gone
            if gone < _BATCH_ROWS:
                break
            self._stopping.wait(max(_LEAST_PAUSE_SECONDS, time.monotonic() - started))
        return deleted


def _act(workspace: str, who: str, sums: dict[str, int]) -> Act:
    return Act(workspace, who, "retention.run", f"workspace:{workspace}", after={"deleted": sums})
