"""Group commit: verdicts that are finished at the same time are written in one transaction.

- `write` returns when the ledger has the verdicts, and raises when it has not.
- While a transaction is written, further verdicts gather, and go together in the next.
- A small group is written from the event loop itself where the ledger can be had without waiting: handing it to a
  thread and back costs more than writing it. What takes waiting, and what proved slow, goes to one thread.
- The work that writing leaves is done beside further writing, and the little that is left of it then between two
  transactions, so that it comes to an end.
- A ledger that has failed several times in a row is left alone for some seconds: what comes meanwhile is refused.
- When a group is refused as a whole for another reason than that the database does not answer, each caller's verdicts
  are tried by themselves: what is wrong with one caller's is not the answer of another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from discern.core.breakers import Guard, Patience
from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.core.tracing import piece
from discern.detection.ports import Answering, Ledger, Watcher
from discern.detection.types import LedgerEntry

Entries = Sequence[LedgerEntry]
_MOST_ROWS_HERE = 64
# A write from the event loop that took so long was no quick one: for a while the thread does it.
_SLOW_SECONDS = 0.01
_PAUSE_SECONDS = 1.0
_PATIENCE_SECONDS = 0.002
_TIDY_AFTER_ROWS = 2_000


LEDGER_PATIENCE = Patience(failures=5, first_seconds=1.0, most_seconds=10.0)


class _Group(NamedTuple):
    """The verdicts of one caller."""

    entries: Entries
    written: Answering[None]


class Committer:
    """Writes to a ledger. For one event loop at a time."""

    def __init__(
        self, ledger: Ledger, counts: Counts, watchers: Sequence[Watcher] = (), guard: Guard | None = None
    ) -> None:
        self._ledger = ledger
        self._guard = guard or Guard("store", "ledger", LEDGER_PATIENCE)
        self._watchers = watchers
        self._counts = counts
        self._note_commit = counts.measures.noting("discern_ledger_commit_duration_seconds")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._gathered: list[_Group] = []
        self._writing = False
        self._here_from = 0.0
        self._refused_since: float | None = None
        self._untidy_rows = 0
        self._tidied = False

    async def write(self, entries: Entries) -> None:
        """Return when the verdicts, with their principals, are on the ledger. Raises StorageUnavailable when not."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        with piece("ledger", **{"discern.verdicts": len(entries)}):
            self._gather(_Group(entries, written), loop)
            await written

    def submit(self, entries: Entries, written: Answering[None]) -> None:
        """Do the same for `written`."""
        self._gather(_Group(entries, written), asyncio.get_running_loop())

    def close(self) -> None:
        """End the thread; what it is writing is finished first."""
        self._thread.shutdown()

    def _gather(self, group: _Group, loop: asyncio.AbstractEventLoop) -> None:
        if not self._guard.is_closed and not self._guard.admits():
            group.written.set_exception(self._left_alone())
            return
        self._gathered.append(group)
        if not self._writing:
            self._writing = True
            # Whatever else is finished in this turn of the loop goes along.
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._tidied:
            self._tidied = False
            self._in_the_thread(self._ledger.finish_tidying, partial(self._next, loop), loop)
            return
        if self._untidy_rows >= _TIDY_AFTER_ROWS:
            self._untidy_rows = 0
            self._in_the_thread(self._ledger.tidy, partial(self._finish_tidying, loop), loop)
        groups, self._gathered = self._gathered, []
        if not groups:
            self._writing = False
            return
        entries = groups[0].entries if len(groups) == 1 else [entry for group in groups for entry in group.entries]
        try:
            here = self._written_here(entries, loop)
        except Exception as defect:
            self._tell(groups, 0, defect)
            self._writing = False
            raise
        if here:
            self._tell(groups, len(entries), None)
            self._refused_since = None
            loop.call_soon(self._next, loop)
        elif self._is_worth_another_try(entries, loop.time()):
            self._gathered = groups + self._gathered
            loop.call_soon(self._next, loop)
        else:
            self._refused_since = None
            self._write(groups, loop)

    def _is_worth_another_try(self, entries: Entries, now: float) -> bool:
        """Tell whether the ledger is likely free in a moment: another process is in a short transaction."""
        if not self._ledger.is_quick or len(entries) > _MOST_ROWS_HERE or now < self._here_from:
            return False
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since < _PATIENCE_SECONDS

    def _written_here(self, entries: Entries, loop: asyncio.AbstractEventLoop) -> bool:
        if len(entries) > _MOST_ROWS_HERE or loop.time() < self._here_from:
            return False
        started = time.perf_counter()
        if not self._ledger.append_at_once(entries):
            return False
        took = time.perf_counter() - started
        self._note_commit(took)
        if took > _SLOW_SECONDS:
            self._here_from = loop.time() + _PAUSE_SECONDS
        return True

    def _write(self, groups: list[_Group], loop: asyncio.AbstractEventLoop) -> None:
        entries = [entry for group in groups for entry in group.entries]
        done = self._thread.submit(self._ledger.append, entries)
        done.add_done_callback(partial(self._left_the_thread, loop, groups, len(entries), time.perf_counter()))

    def _finish_tidying(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that no transaction begins before the rest is done; what comes meanwhile gathers."""
        self._tidied = True
        if not self._writing:
            self._writing = True
            self._next(loop)

    def _in_the_thread(
        self, call: Callable[[], None], following: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Call `call` in the thread, and then, whatever came of it, `following` on the event loop."""

        def done(_: Future[None]) -> None:
            if loop.is_closed():
                self._writing = False
            else:
                loop.call_soon_threadsafe(following)

        self._thread.submit(call).add_done_callback(done)

    def _left_the_thread(
        self, loop: asyncio.AbstractEventLoop, groups: list[_Group], rows: int, started: float, done: Future[None]
    ) -> None:
        """Runs in the writing thread: everything else is done on the event loop."""
        if done.exception() is None:
            self._note_commit(time.perf_counter() - started)
        if loop.is_closed():  # whoever asked is gone, and the loop with them
            self._writing = False
            return
        loop.call_soon_threadsafe(self._written, loop, groups, rows, done)

    def _written(self, loop: asyncio.AbstractEventLoop, groups: list[_Group], rows: int, done: Future[None]) -> None:
        error = done.exception()
        # The next transaction begins before the callers of this one are told.
        self._next(loop)
        if error is not None and len(groups) > 1 and not isinstance(error, StorageUnavailable):
            for group in groups:
                self._write([group], loop)
            return
        self._tell(groups, rows, error)

    def _left_alone(self) -> StorageUnavailable:
        seconds, reason = max(0.1, self._guard.seconds_left()), self._guard.reading().reason
        return StorageUnavailable(
            f"The ledger has not answered of late and is tried again in {seconds:.1f} s: {reason}",
            mend="Try again then; nothing was written.",
            retry_after=seconds,
        )

    def _tell(self, groups: list[_Group], rows: int, error: BaseException | None) -> None:
        if isinstance(error, StorageUnavailable):
            self._guard.failed(error.detail)
        else:
            self._guard.succeeded()
        if error is None:
            self._counts.add("ledger.commits")
            self._untidy_rows += rows
            entries = groups[0].entries if len(groups) == 1 else [entry for group in groups for entry in group.entries]
            workspaces = [entry.verdict.workspace for entry in entries]
            for workspace in set(workspaces):
                self._counts.add("ledger.verdicts", workspaces.count(workspace), workspace=workspace)
            for watcher in self._watchers:
                watcher.recorded(entries)
        for group in groups:
            if group.written.done():
                continue
            if error is None:
                group.written.set_result(None)
            else:
                group.written.set_exception(error)
