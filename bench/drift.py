"""What watching over drift costs: a verdict on its way, a verdict in the other thread, and a release in the database.

`python -m bench.drift` prints all three, and the first as a share of what a record takes in a batch; `--verdicts` is
how many go into the release.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import text

from discern.access.types import Principal
from discern.app import Services, build_services
from discern.detection.types import BatchRequest, LedgerEntry
from discern.monitoring.drift.service_watching import DriftWatch
from discern.monitoring.drift.service_windows import DriftWindows
from discern.monitoring.drift.sources import MOST_SUBJECTS, Watched, begun_subject, piece_of
from discern.monitoring.drift.store import DriftStore
from discern.monitoring.drift.types import Plan, Release, ReleaseKey
from discern.monitoring.ports import NothingHappens
from discern.settings import load_settings
from discern.store.turns import Turn

_CALLER = Principal("bench", "default")
_KEY = ReleaseKey("default", "bench", "1.0.0")
_RECORDS = 500
_ROUNDS = 20
_PIECE = 20_000
_DAYS = 40


def on_the_way(services: Services) -> Iterator[str]:
    """Yield what a verdict costs, noted and looked at."""
    watch = DriftWatch(DriftStore(services.database, services.audit), services.catalogue)
    loop = asyncio.new_event_loop()
    entries = loop.run_until_complete(_entries(services))
    noting, looking, asking = [], [], []
    for _ in range(_ROUNDS):
        asking.append(loop.run_until_complete(_asked(services)))
        started = time.perf_counter()
        for entry in entries:
            watch.recorded((entry,))
        noting.append((time.perf_counter() - started) / len(entries))
        started = time.perf_counter()
        watch.look()
        looking.append((time.perf_counter() - started) / len(entries))
        watch.write()
    loop.close()
    noted, looked, asked = (median(times) * 1e6 for times in (noting, looking, asking))
    share = 100 * noted / asked
    yield f"on the way: {noted:.2f} us a verdict, {share:.2f} % of the {asked:.0f} us of a record in a batch"
    fields = len(entries[0].seen or ())
    yield f"in the other thread: {looked:.1f} us a verdict of {fields} fields, of at most 1,000 a second"


async def _entries(services: Services) -> list[LedgerEntry]:
    detector = services.catalogue.get("card-fraud")
    verdicts = await services.detect_batch(BatchRequest(_CALLER, "card-fraud", _records(services)))
    seen: tuple[Any, ...] = tuple([1.5] * len(detector.manifest.input.fields))  # type: ignore[union-attr]
    return [LedgerEntry(verdict, "bench", None, seen) for verdict in verdicts if not isinstance(verdict, Exception)]


async def _asked(services: Services) -> float:
    """Return the seconds of a record in a batch, the ledger included."""
    started = time.perf_counter()
    await services.detect_batch(BatchRequest(_CALLER, "card-fraud", _records(services)))
    return (time.perf_counter() - started) / _RECORDS


def _records(services: Services) -> list[dict[str, Any]]:
    fields = services.catalogue.find("card-fraud").bundle.manifest.input.fields  # type: ignore[union-attr]
    values = {"boolean": False, "integer": 3, "number": 0.5}
    return [{field.name: values[field.type] for field in fields} for _ in range(_RECORDS)]


def in_the_database(services: Services, verdicts: int) -> Iterator[str]:
    """Yield what a release with the most subjects takes after so many verdicts, over more days than are kept."""
    store = DriftStore(services.database, services.audit)
    watched = tuple(Watched(f"field:a_name_of_some_length_{number}", "number") for number in range(MOST_SUBJECTS))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    release = Release(0, now, tuple(begun_subject(one, {}, 0) for one in watched))
    store.begin(_KEY, release, now)
    turn = Turn(services.database, "drift")
    windows = DriftWindows(store, Plan(1000, 60.0, 10_000, 0.05, 10), turn, NothingHappens(), lambda: now)
    drawn, pieces = np.random.default_rng(1), max(1, verdicts // _PIECE)
    started = time.perf_counter()
    for _ in range(pieces):
        standing = store.release(_KEY)
        release = release if standing is None else standing.release
        values = drawn.normal(size=(_PIECE, MOST_SUBJECTS)).astype(np.float32)
        store.add([(_KEY, piece_of(values, watched, release, now))])
        windows.fold()
        now += timedelta(days=_DAYS) / pieces
    seconds = time.perf_counter() - started
    with services.database.read() as connection:
        tables = ("drift_releases", "drift_pieces", "drift_windows", "drift_periods", "drift_changes")
        queries = [text(f"SELECT coalesce(sum(length(body)), 0) FROM {table}") for table in tables]
        total = sum(int(connection.execute(query).scalar() or 0) for query in queries) / 1e6
    put = f"{pieces * _PIECE:,} verdicts in {_DAYS} days ({seconds:.0f} s to put them in)"
    yield f"in the database: {total:.2f} MB for a release of {MOST_SUBJECTS} subjects after {put}; the limit is 10 MB"


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as folder:
        settings = {"DISCERN_HOME": folder, "DISCERN_CACHE_ENTRIES": "0", "DISCERN_DRIFT_WINDOW_VERDICTS": "0"}
        services = build_services(load_settings(settings))
        services.open()
        for line in chain(on_the_way(services), in_the_database(services, options.verdicts)):
            print(line, flush=True)
        services.close()


if __name__ == "__main__":
    main()
