"""What it costs to watch: processor time of a request with all of monitoring and with none, and of a transaction.

Two servers of one process each answer the same load in turns, from connection to answer, what runs beside requests
included. Processor time is compared: it drifts less than time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import sides
from bench.durability import verdict
from bench.home import furnish
from bench.load import Traffic, load
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

MOST = 1.03
CONNECTIONS = 16
_WARM_SECONDS = 3.0
_TOGETHER = 8
_GROUPS = 1000
_ON, _OFF = "watched", "unwatched"


class Unwatched(Ours):
    """The same server, with nobody watching."""

    module = "bench.unwatched"


def rows(folder: Path, *, rounds: int = 9, seconds: float = 5) -> Iterator[Row]:
    """Yield the rows."""
    yield _requests(folder / "records", "records", rounds, seconds)
    yield _requests(folder / "images", "images", rounds, seconds)
    yield _transactions(folder, rounds)


def _requests(folder: Path, kind: Kind, rounds: int, seconds: float) -> Row:
    servers: dict[str, Ours] = {}
    for name, make in ((_ON, Ours), (_OFF, Unwatched)):
        furnish(folder / name)
        servers[name] = make(folder / name)
    with servers[_ON], servers[_OFF]:
        measures = {}
        for name, server in servers.items():
            traffic = sides.ours(kind, server.secret)
            load(server.port, traffic, folder, connections=CONNECTIONS, seconds=_WARM_SECONDS)
            measures[name] = partial(_microseconds, server, traffic, folder, seconds)
        found = in_turns(measures, rounds)
    ratio = found.ratio(_ON, _OFF, float)
    least, most = found.spread(_ON, _OFF, float)
    return Row(
        f"processor time of a request with all monitoring: {kind}, {CONNECTIONS} connections",
        f"{found.median(_ON, float):.1f} µs",
        f"{found.median(_OFF, float):.1f} µs with none, {least:.2f} to {most:.2f} x; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )


def _microseconds(server: Ours, traffic: Traffic, folder: Path, seconds: float) -> float:
    before = server.processor_seconds()
    found = load(server.port, traffic, folder, connections=CONNECTIONS, seconds=seconds)
    if found.failed:
        raise AssertionError(f"{found.failed} of {found.answered + found.failed} requests failed")
    return (server.processor_seconds() - before) / found.answered * 1e6


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
