"""What it costs to watch: processor time of a request with all of monitoring and with none, and of a transaction.

Two servers stand side by side, one of them with nobody watching.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.durability import verdict
from bench.home import furnish
from bench.processor import compared, microseconds
from bench.report import Row, table
from bench.rounds import in_turns
from bench.scratch import scratch
from bench.servers import Ours
from bench.sides import Kind
from bench.unwatched import Uncounted
from discern.detection.store import VerdictStore
from discern.detection.store_tallies import Tallying
from discern.detection.types import LedgerEntry
from discern.store.sqlite import SqliteDatabase

_KINDS: dict[Kind, str] = {"records": "a record", "images": "an image"}
_TOGETHER = 8
_GROUPS = 1000
_ON, _OFF = "watched", "unwatched"


class Unwatched(Ours):
    """The same server, with nobody watching."""

    module = "bench.unwatched"


def rows(folder: Path, *, rounds: int = 40, seconds: float = 1) -> Iterator[Row]:
    """Yield the rows."""
    for kind, one in _KINDS.items():
        for name in (_ON, _OFF):
            furnish(folder / kind / name)
        servers = {_ON: Ours(folder / kind / _ON), _OFF: Unwatched(folder / kind / _OFF)}
        found = microseconds(folder, kind, servers, rounds, seconds)
        yield compared(found, _ON, _OFF, f"{one}, with all monitoring", "with none")
    yield _transactions(folder, rounds)


def _transactions(folder: Path, rounds: int) -> Row:
    measures: dict[str, Callable[[], float]] = {}
    databases = []
    for name, tallying in ((_ON, Tallying()), (_OFF, Uncounted())):
        database = SqliteDatabase(folder / f"{name}.db")
        database.open()
        databases.append(database)
        store = VerdictStore(database)
        store._tallying = tallying  # noqa: SLF001 - nobody but a benchmark wants it otherwise
        measures[name] = partial(_of_a_transaction, store)
    found = in_turns(measures, rounds)
    for database in databases:
        database.close()
    return Row(
        f"processor time of a transaction of {_TOGETHER} verdicts on SQLite, counted",
        f"{found.median(_ON, float):.0f} µs",
        f"{found.median(_OFF, float):.0f} µs not counted",
        found.ratio(_ON, _OFF, float),
    )


def _of_a_transaction(store: VerdictStore) -> float:
    groups = [[LedgerEntry(verdict(), "key:bench") for _ in range(_TOGETHER)] for _ in range(_GROUPS)]
    started = time.process_time()
    for group in groups:
        if not store.append_at_once(group):
            raise AssertionError("the database was not to be had at once")
    took = (time.process_time() - started) / _GROUPS * 1e6
    store.tidy()
    store.finish_tidying()
    return took


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
