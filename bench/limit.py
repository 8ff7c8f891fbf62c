"""What this machine can do with a model and nothing around it: decode and run, one thread a core.

`python -m bench.limit KIND MODELS SECONDS` prints one line, `RESULT` and rows a second: records (from
their JSON, one at a time), matrix (64 prepared records a run), images, or frames of clips.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench import baseline, inputs

_TOGETHER = 64
_SAMPLED = 16


def per_second(kind: str, models: Path, seconds: float) -> float:
    """Return rows a second of `kind`, measured in a process of its own."""
    command = [sys.executable, "-m", "bench.limit", kind, str(models), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    line = next(line for line in ended.stdout.splitlines() if line.startswith("RESULT "))
    return float(line.removeprefix("RESULT "))


def one_row_milliseconds(kind: str, models: Path) -> Callable[[], float]:
    """Return a function that decodes and runs one input in this process, and returns how long it took."""
    step = _STEPS[kind](models)

    def timed() -> float:
        started = time.perf_counter()
        step()
        return (time.perf_counter() - started) * 1000

    return timed


def main() -> None:
    """Measure: a process a core for records, which keep the interpreter busy, a thread a core for the others."""
    kind, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    cores = os.cpu_count() or 1
    if kind in {"records", "matrix"}:
        with get_context("spawn").Pool(cores) as pool:
            counts = pool.starmap(_count, [(kind, folder, seconds)] * cores)
        rate = sum(counts)
    else:
        rate = _threads(kind, folder, seconds, cores)
    print(f"RESULT {rate}")


def _count(kind: str, folder: Path, seconds: float) -> float:
    """Return the rows a second of one thread."""
    step = _STEPS[kind](folder)
    step()
    rows, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        rows += step()
    return rows / elapsed


def _threads(kind: str, folder: Path, seconds: float, cores: int) -> float:
    rates: list[float] = []
    threads = [threading.Thread(target=lambda: rates.append(_count(kind, folder, seconds))) for _ in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _records(folder: Path) -> Callable[[], int]:
    model = baseline.session(folder / "record.onnx")
    bodies = _Round([inputs.record(serial) for serial in range(inputs.VARIANTS)])

    def step() -> int:
        baseline.probability(model, "record", baseline.row(json.loads(bodies.following())))
        return 1

    return step


def _matrix(folder: Path) -> Callable[[], int]:
    model = baseline.session(folder / "record.onnx")
    rows = np.concatenate([baseline.row(json.loads(inputs.record(serial))) for serial in range(_TOGETHER)])

    def step() -> int:
        return len(model.run(["probability"], {"record": rows})[0])

    return step


def _images(folder: Path) -> Callable[[], int]:
    model = baseline.session(folder / "image.onnx")
    photos = _Round([inputs.photo(serial) for serial in range(inputs.VARIANTS)])

    def step() -> int:
        baseline.probability(model, "image", baseline.picture(photos.following()))
        return 1

    return step


def _clips(folder: Path) -> Callable[[], int]:
    model = baseline.session(folder / "image.onnx")
    content = b"".join(inputs.clip_template(0))

    def step() -> int:
        total, rows = baseline.frames(content, _SAMPLED)
        model.run(["probability"], {"image": rows})
        return total

    return step


class _Round:
    """Gives its members over and over again."""

    def __init__(self, members: list[bytes]) -> None:
        self._members = members
        self._at = 0

    def following(self) -> bytes:
        self._at += 1
        return self._members[self._at % len(self._members)]


_STEPS: dict[str, Callable[[Path], Callable[[], int]]] = {
    "records": _records,
    "matrix": _matrix,
    "images": _images,
    "clips": _clips,
}

if __name__ == "__main__":
    main()
