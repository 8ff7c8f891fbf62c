"""Feature matrices of many pictures, on several processes.

Invariants:

- Row i belongs to picture i; a view is drawn from the picture's digest and the seed, so order does not matter.
- Each process runs torch on one thread.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np
import torch

from recipes.synthetic_face.features import ForensicFeatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from recipes.synthetic_face.augment import View

    Floats = NDArray[np.float32]

_CHUNK = 16


class Extractor:
    """A pool of processes that measure pictures; use it as a context manager."""

    def __init__(self, workers: int, side: int, family_sets: Sequence[tuple[str, ...]]) -> None:
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
        self._side = side
        self._family_sets = tuple(family_sets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def features(self, images: NDArray[np.uint8], digests: Sequence[str], view: View | None = None) -> list[Floats]:
        """One float32 [n, features] per family set; the pictures as they are, or a random view of each."""
        chunks = [
            (
                self._side,
                self._family_sets,
                images[start : start + _CHUNK],
                digests[start : start + _CHUNK],
                view,
            )
            for start in range(0, len(images), _CHUNK)
        ]
        results = list(self._pool.map(_measure, chunks))
        return [np.concatenate([result[index] for result in results]) for index in range(len(self._family_sets))]


_Task = tuple[int, tuple[tuple[str, ...], ...], "NDArray[np.uint8]", "Sequence[str]", "View | None"]


@cache
def _extractors(side: int, family_sets: tuple[tuple[str, ...], ...]) -> list[ForensicFeatures]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return [ForensicFeatures(side, families) for families in family_sets]


def _measure(task: _Task) -> list[Floats]:
    side, family_sets, images, digests, view = task
    extractors = _extractors(side, family_sets)
    if view is not None:
        images = view.of(images, digests)
    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(images))
        return [np.asarray(extractor(batch).numpy(), np.float32) for extractor in extractors]
