"""Scores of the exported stages on ONNX Runtime, one picture at a time, as production runs them.

Invariants:

- Each process holds one session per stage on one thread.
- Row i of the answer belongs to picture i.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Self

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from recipes.synthetic_face.augment import View

    Floats = NDArray[np.float64]

_CHUNK = 16


def open_session(path: str) -> onnxruntime.InferenceSession:
    """CPU session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class ServedStages:
    """A pool of processes that run exported stages; use it as a context manager."""

    def __init__(self, models: Sequence[Path], workers: int) -> None:
        self._models = tuple(str(model) for model in models)
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def probabilities(self, images: NDArray[np.uint8], digests: Sequence[str], view: View | None = None) -> Floats:
        """Raw probabilities [n, stages] of pictures as they are, or of a random view of each."""
        tasks = [
            (self._models, images[start : start + _CHUNK], tuple(digests[start : start + _CHUNK]), view)
            for start in range(0, len(images), _CHUNK)
        ]
        return np.concatenate(list(self._pool.map(_run, tasks)))


def largest_batch_difference(model: Path, images: NDArray[np.uint8]) -> float:
    """Largest difference between one batch and single rows."""
    session = open_session(str(model))
    batch = session.run(None, {"image": images})[0]
    single = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    return float(np.abs(np.asarray(batch) - single).max())


def median_milliseconds(model: Path, images: NDArray[np.uint8]) -> float:
    """Median wall time of a single row on one thread."""
    session = open_session(str(model))
    session.run(None, {"image": images[:1]})
    times = []
    for image in images:
        start = time.perf_counter()
        session.run(None, {"image": image[None]})
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


@cache
def _sessions(models: tuple[str, ...]) -> list[onnxruntime.InferenceSession]:
    return [open_session(model) for model in models]


def _run(task: tuple[tuple[str, ...], NDArray[np.uint8], tuple[str, ...], View | None]) -> Floats:
    models, images, digests, view = task
    if view is not None:
        images = view.of(images, digests)
    rows = [
        [float(session.run(None, {"image": image[None]})[0][0]) for session in _sessions(models)] for image in images
    ]
    return np.array(rows, np.float64)
