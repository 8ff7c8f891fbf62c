"""What it costs to watch: processor time of a request with all of monitoring and with none, and of a transaction.

Both servers run, and are asked in turns. Processor time is compared, for it drifts less than how many are answered.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import sides
from bench.home import furnish
from bench.load import load
from bench.report import Row, table
from bench.rounds import in_turns
from bench.scratch import scratch
from bench.servers import Ours
from discern.core.ids import uuid7_text
from discern.core.verdict import InputFacts, StageReading, Thresholds, Verdict
from discern.detection.store import VerdictStore
from discern.detection.store_tallies import Tallying
from discern.detection.types import LedgerEntry
from discern.store.sqlite import SqliteDatabase

CONNECTIONS = 16
MOST = 1.03
_VERDICTS = 8
_COMMITS = 100
_COMMIT_ROUNDS = 60
_ON, _OFF = "watched", "unwatched"


class _Unwatched(Ours):
    """The same without anything that watches."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._command = [sys.executable, "-m", "bench.unwatched", "up"]


class _Uncounted(Tallying):
    def values(self, entries: object) -> list[list[object]]:  # noqa: ARG002 - counts nothing
        return []


def rows(folder: Path, *, rounds: int = 7, seconds: float = 4) -> Iterator[Row]:
    """Yield the rows."""
    for name in (_ON, _OFF):
        furnish(folder / name)
    with Ours(folder / _ON) as watched, _Unwatched(folder / _OFF) as unwatched:
        measures = {
            name: partial(_of_a_request, one, folder, seconds) for name, one in ((_ON, watched), (_OFF, unwatched))
        }
        for measure in measures.values():
            measure()
        found = in_turns(measures, rounds)
    ratio = found.ratio(_ON, _OFF, float)
    yield Row(
        f"processor time of a record, one at a time, {CONNECTIONS} connections, all monitoring on",
        f"{found.median(_ON, float):.0f} µs",
        f"{found.median(_OFF, float):.0f} µs with none; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )
    yield _transactions(folder)


def _of_a_request(server: Ours, folder: Path, seconds: float) -> float:
    """Return the processor time of a request, in microseconds."""
    before = server.processor_seconds()
    found = load(server.port, sides.ours("records", server.secret), folder, connections=CONNECTIONS, seconds=seconds)
    if found.failed:
        raise AssertionError(f"{found.failed} requests failed")
    return (server.processor_seconds() - before) / found.answered * 1e6


def _transactions(folder: Path) -> Row:
    measures: dict[str, Callable[[], float]] = {}
    databases = []
    for name, tallying in ((_ON, Tallying()), (_OFF, _Uncounted())):
        database = SqliteDatabase(folder / f"{name}.db")
        database.open()
        databases.append(database)
        store = VerdictStore(database)
        store._tallying = tallying  # noqa: SLF001 - nobody but a benchmark wants it otherwise
        measures[name] = partial(_of_a_transaction, store)
    found = in_turns(measures, _COMMIT_ROUNDS)
    for database in databases:
        database.close()
    return Row(
        f"processor time of a transaction of {_VERDICTS} verdicts on SQLite, counted",
        f"{found.median(_ON, float):.0f} µs",
        f"{found.median(_OFF, float):.0f} µs not counted",
        found.ratio(_ON, _OFF, float),
    )


def _of_a_transaction(store: VerdictStore) -> float:
    groups = [[_entry(number) for number in range(_VERDICTS)] for _ in range(_COMMITS)]
    started = time.process_time()
    for group in groups:
        if not store.append_at_once(group):
            raise AssertionError("the database was not to be had at once")
    took = (time.process_time() - started) / _COMMITS * 1e6
    store.tidy()
    store.finish_tidying()
    return took


def _entry(number: int) -> LedgerEntry:
    score = number / _VERDICTS
    return LedgerEntry(
        Verdict(
            id=uuid7_text(),
            workspace="default",
            detector="bench-record",
            version="1.0.0",
            decision="clear" if score < 0.4 else "review" if score < 0.8 else "flag",
            label=None,
            score=score,
            thresholds=Thresholds(0.4, 0.8),
            decided_by="only",
            stages=(StageReading("only", score, 0.01),),
            input=InputFacts("record", "ab" * 32, 800),
            created_at=datetime.now(UTC),
            milliseconds=0.123,
        ),
        "key:bench",
    )


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
