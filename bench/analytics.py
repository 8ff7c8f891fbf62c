"""Rolling up one busy hour, and a report of a week, against counting the same verdicts on the ledger.

`python -m bench.analytics` takes a hundred thousand verdicts, `--verdicts 1000000` a million; add
`--database postgresql://...` to measure PostgreSQL, whose database must be empty.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy import func, select

from bench.durability import verdict
from bench.report import Row, at_most, table
from bench.scratch import scratch
from discern.app import Services, build_services
from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.verdict import Decision
from discern.detection.store import verdicts
from discern.detection.types import LedgerEntry
from discern.monitoring.analytics.report import html
from discern.monitoring.analytics.rules_page import page_of
from discern.monitoring.analytics.rules_periods import period_of
from discern.settings import load_settings

_VERDICTS = 100_000
_CHUNK = 5000
_TURNS = 5
# The loop looks once a minute: an hour must be done by the next look.
_MOST_SECONDS = 60.0
_MOST_REPORT_SECONDS = 1.0
_DECISIONS: tuple[Decision, ...] = ("clear", "review", "flag")


def rows(folder: Path, *, count: int = _VERDICTS, database_url: str = "") -> Iterator[Row]:
    """Yield a row for an hour, and one for a report."""
    services = build_services(load_settings({"DISCERN_HOME": str(folder), "DISCERN_DATABASE_URL": database_url}))
    services.open()
    this = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    busy = this - timedelta(hours=2)
    analytics, reports = services.monitoring.analytics.analytics, services.monitoring.analytics.reports
    week = period_of("week", None, UTC, this)
    _fill(services, week.since, 168, count)
    analytics.roll_up(whole=True)
    _fill(services, busy, 1, count)

    started = time.perf_counter()
    counted = _counted(services, busy)
    alone = time.perf_counter() - started
    started = time.perf_counter()
    analytics.roll_up()
    seconds = time.perf_counter() - started
    if sum(row.numbers.verdicts for row in analytics.hours(busy, busy + timedelta(hours=1))) != counted:
        raise AssertionError("The hour has another number than the ledger.")
    yield at_most(f"rolling up an hour of {count:,} verdicts", seconds, _MOST_SECONDS, "s")
    yield Row("the same against counting its rows once", f"{seconds:.2f} s", f"{alone:.2f} s", seconds / alone)
    took = _median(lambda: html(page_of(reports.report("default", week))))
    yield at_most(f"the report of a week of {count:,} verdicts, HTML", took, _MOST_REPORT_SECONDS, "s")
    services.close()


def _fill(services: Services, start: datetime, hours: int, count: int) -> None:
    chance, pattern = random.Random(7), verdict()
    seconds = hours * 3600 / count
    for first in range(0, count, _CHUNK):
        entries = []
        for number in range(first, min(count, first + _CHUNK)):
            at = start + timedelta(seconds=number * seconds)
            identifier = str(UUID(int=least_id(at).int | (uuid7().int & ((1 << 80) - 1))))
            changed = msgspec.structs.replace(
                pattern,
                id=identifier,
                created_at=at,
                decision=chance.choices(_DECISIONS, (90, 7, 3))[0],
                milliseconds=chance.lognormvariate(1, 1),
            )
            entries.append(LedgerEntry(changed, f"key:{number % 50}"))
        services.verdicts.append(entries)
    print(f"{count:,} verdicts in {hours} h are there", file=sys.stderr)


def _counted(services: Services, hour: datetime) -> int:
    ids = verdicts.c.id >= least_id(hour), verdicts.c.id < least_id(hour + timedelta(hours=1))
    query = select(func.count(), func.min(verdicts.c.score)).where(verdicts.c.workspace == "default", *ids)
    with services.database.read() as connection:
        return int(connection.execute(query).one()[0])


def _median(run: Callable[[], object]) -> float:
    found = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=_VERDICTS)
    parser.add_argument("--database", default="")
    options = parser.parse_args()
    with scratch() as folder:
        print(table(rows(folder, count=options.verdicts, database_url=options.database)))


if __name__ == "__main__":
    main()
