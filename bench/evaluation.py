"""Evaluation: `discern evaluate` over a folder of pictures, beside decoding and running the model alone.

The limit decodes a picture and runs the same model file, one thread a core, and checks, compares and writes nothing.
`discern evaluate` reads every file twice, once for its digest, and once to judge it.

`python -m bench.evaluation` prints the rows; `--pictures` says how many there are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import inputs, limit
from bench.home import IMAGE, furnish
from bench.report import Row, at_least, table
from bench.rounds import in_turns
from bench.scratch import scratch

_PICTURES = 10_000
_TARGET = 0.8
_ROUNDS = 3
_LIMIT_SECONDS = 20.0


@dataclass(frozen=True)
class Evaluated:
    """Pictures a second while they are scored, and of the whole command, start and report included."""

    steady: float
    whole: float


def rows(folder: Path, *, pictures: int = _PICTURES, rounds: int = _ROUNDS) -> Iterator[Row]:
    """Yield the ratio of scoring, and of the whole command."""
    home, data = folder / "home", folder / "data"
    furnish(home)
    _write(data, pictures)
    measured = in_turns(
        {
            "limit": lambda: _limit(home / "models"),
            "ours": lambda: _evaluate(home, data, folder / "out", pictures),
        },
        rounds,
    )
    most = measured.median("limit", lambda one: one.steady)
    steady, whole = (
        measured.median("ours", lambda one: one.steady),
        measured.median("ours", lambda one: one.whole),
    )
    against = f"{most:,.0f} pictures/s in process"
    ratio = measured.ratio("ours", "limit", lambda one: one.whole)
    what = f"Evaluating {pictures:,} pictures, start and report included"
    yield at_least(what, f"{whole:,.0f} pictures/s", against, ratio, _TARGET)
    yield Row("... while pictures are scored", f"{steady:,.0f} pictures/s", against, steady / most)


def _limit(models: Path) -> Evaluated:
    a_second = limit.per_second("images", models, _LIMIT_SECONDS)
    return Evaluated(a_second, a_second)


def _write(folder: Path, pictures: int) -> None:
    for number in range(pictures):
        path = folder / ("fine", "odd")[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(inputs.photo(number))


def _evaluate(home: Path, data: Path, out: Path, pictures: int) -> Evaluated:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "discern.cli.main", "evaluate", IMAGE, "--data", str(data), "-o", str(out)]
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, "DISCERN_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL)
    whole = pictures / (time.perf_counter() - started)
    timings = json.loads((out / "timings.json").read_text(encoding="utf-8"))
    (steady,) = timings["items_per_second"].values()
    result = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if result["datasets"][0]["not_scored"]:
        raise RuntimeError("Some pictures were not judged, which takes no time.")
    return Evaluated(steady, whole)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=_PICTURES)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    options = parser.parse_args()
    with scratch() as folder:
        print(table(rows(folder, pictures=options.pictures, rounds=options.rounds)))


if __name__ == "__main__":
    main()
