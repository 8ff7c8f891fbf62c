"""Bulk scoring: `discern score` from Parquet to Parquet, beside the model alone on as many threads as cores.

The limit is the same model file, called with batches of rows that are in memory already, one ONNX Runtime thread a
core, in the batch size that is quickest on this machine; nothing is read, checked, decided or written.

`python -m bench.bulk` prints the rows; `--rows` says how many the smaller input has.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench import baseline
from bench.home import RECORD, furnish
from bench.report import Row, at_least, table
from bench.rounds import in_turns
from bench.scratch import scratch

_TARGET = 0.7
_TIMES = 10
_MOST_GROWTH = 1.25
_ROWS = 400_000
_ROUNDS = 3
_BATCHES = (64, 128, 256, 512, 1024)
_CHUNK = 100_000


@dataclass(frozen=True)
class Scored:
    """What one run of the command came to: rows a second while it scored and of the whole command, and its memory."""

    steady: float
    whole: float
    peak_bytes: int


def rows(folder: Path, *, small_rows: int = _ROWS, rounds: int = _ROUNDS) -> Iterator[Row]:
    """Yield the rates, the ratio and the memory."""
    home = folder / "home"
    furnish(home)
    large_rows = small_rows * _TIMES
    small, large = folder / "small.parquet", folder / "large.parquet"
    matrix = _write(small, small_rows)
    _write(large, large_rows)
    model = home / "models" / "record.onnx"
    batch = max(_BATCHES, key=lambda size: _limit(model, matrix, size, 1.0))
    measured = in_turns(
        {
            "limit": lambda: Scored(_limit(model, matrix, batch, 4.0), 0.0, 0),
            "ours": lambda: _score(home, large, folder, large_rows),
        },
        rounds,
    )
    of_small = _score(home, small, folder, small_rows)
    limit = measured.median("limit", lambda one: one.steady)
    steady, whole = (
        measured.median("ours", lambda one: one.steady),
        measured.median("ours", lambda one: one.whole),
    )
    against = f"{limit:,.0f} rows/s in process, batches of {batch}"
    counted = f"{large_rows:,} rows of {len(baseline.FIELDS)} fields"
    ratio = measured.results
    steady_ratio = float(
        np.median([ours.steady / alone.steady for ours, alone in zip(ratio["ours"], ratio["limit"], strict=True)])
    )
    yield at_least(f"`discern score`, {counted}", f"{steady:,.0f} rows/s", against, steady_ratio, _TARGET)
    yield Row("the whole command, its start included", f"{whole:,.0f} rows/s", against, whole / limit)
    peak = max(one.peak_bytes for one in measured.results["ours"])
    growth = peak / of_small.peak_bytes
    yield Row(
        f"peak memory, {large_rows:,} rows",
        f"{peak / 1e6:.0f} MB",
        f"{of_small.peak_bytes / 1e6:.0f} MB with {small_rows:,} rows; at most {_MOST_GROWTH:g} x",
        growth,
        growth <= _MOST_GROWTH,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=_ROWS, help=f"rows of the smaller input; the larger has {_TIMES} x")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    options = parser.parse_args()
    with scratch() as folder:
        print(table(rows(folder, small_rows=options.rows, rounds=options.rounds)))


def _write(path: Path, count: int) -> NDArray[np.float32]:
    """Write records to a Parquet file, and return the first of them as the model takes them."""
    random = np.random.default_rng(3)
    first: NDArray[np.float32] | None = None
    schema = pa.schema([("payment", pa.int64()), *((name, pa.float64()) for name in baseline.FIELDS)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, _CHUNK):
            values = random.uniform(-1, 1, (min(_CHUNK, count - start), len(baseline.FIELDS))).round(4)
            names = np.arange(start, start + len(values))
            columns: list[Any] = [pa.array(names), *(pa.array(column) for column in values.T)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            first = values.astype(np.float32) if first is None else first
    assert first is not None
    return first


def _limit(model: Path, matrix: NDArray[np.float32], batch: int, seconds: float) -> float:
    """Return the rows a second of the model alone, a thread a core."""
    session = baseline.session(model)
    counts: list[int] = []

    def run() -> None:
        count = start = 0
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            piece = matrix[start : start + batch]
            session.run(["probability"], {"record": piece})
            count += len(piece)
            start = start + batch if start + batch < len(matrix) else 0
        counts.append(count)

    threads = [threading.Thread(target=run) for _ in range(os.cpu_count() or 1)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def _score(home: Path, source: Path, folder: Path, count: int) -> Scored:
    """Run the command as a user does, and check that it wrote every row."""
    output = folder / "scored.parquet"
    command = [sys.executable, "-m", "discern.cli.main", "score", str(source), "-d", RECORD, "-o", str(output)]
    environment = {**os.environ, "DISCERN_HOME": str(home)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--id", "payment", "--restart"], env=environment, stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak_bytes(process.pid))
        time.sleep(0.05)
    elapsed = time.perf_counter() - started
    assert process.stdout is not None
    said = process.stdout.read()
    process.stdout.close()
    found = re.search(r"([0-9,]+) rows/s", said)
    if process.returncode != 0 or found is None:
        raise RuntimeError(f"discern score ended with {process.returncode}: {said}")
    written = pq.read_metadata(output).num_rows
    if written != count:
        raise AssertionError(f"{count} rows went in and {written} came out")
    return Scored(float(found[1].replace(",", "")), count / elapsed, peak)


def _peak_bytes(process: int) -> int:
    # Not what wait4 tells: that begins with the memory of the process that started this one.
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
