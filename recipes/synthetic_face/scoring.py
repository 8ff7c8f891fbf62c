"""Scores of the kinds for many pictures, and what carries over to a generator that no training picture shows.

Invariants:

- A picture is scored by a backbone that did not see it.
- Backbones are scored as they are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from recipes.synthetic_face import finetune, studies
from recipes.synthetic_face.measure import auc
from recipes.synthetic_face.network import KindScores, as_stored

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from recipes.synthetic_face.data import Picture

    Floats = NDArray[np.float64]

_ROWS = 16


def kind_scores(weights: Path, kinds: int, images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Scores [n, kinds] of uint8 pictures by one backbone: of the picture, and averaged with its mirror image."""
    network = KindScores([as_stored(finetune.loaded(weights, kinds))], mirrored=False)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), _ROWS):
            pixels = torch.from_numpy(images[start : start + _ROWS])
            rows.append(torch.stack([network(pixels), network(pixels.flip(2))]).double())
    both = np.asarray(torch.cat(rows, 1))
    return both[0], both.mean(0)


def out_of_fold(
    weights: list[Path], kinds: int, images: NDArray[np.uint8], fold: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Scores [n, kinds] of the picture, and averaged with its mirror image; each row by the backbone of its fold."""
    plain, mirrored = np.zeros((2, len(images), kinds))
    for number, path in enumerate(weights):
        plain[fold == number], mirrored[fold == number] = kind_scores(path, kinds, images[fold == number])
    return plain, mirrored


def carry_over(images: NDArray[np.uint8], pictures: list[Picture], seed: int, folder: Path) -> list[list[object]]:
    """For each generator: AUC of a backbone that saw none of it, against photographs it did not see either."""
    kind = np.array([picture.kind for picture in pictures])
    fold = np.array([picture.fold for picture in pictures])
    kinds = sorted(set(kind.tolist()))
    photographs = [name for name in kinds if name.endswith("/authentic")]
    lessons = finetune.generator_lessons(images, pictures, seed)
    weights = finetune.train(list(lessons.values()), folder)
    table: list[list[object]] = []
    for generator, path in zip(lessons, weights, strict=True):
        kept = [name for name in kinds if name != generator]
        judged = np.flatnonzero((fold == 0) & np.isin(kind, [generator, *photographs]))
        odds = studies.odds_of(kind_scores(path, len(kept), images[judged])[1], kept)
        seen = kind[judged]
        table.append([generator, *(auc(odds[seen == generator], odds[seen == photo]).value for photo in photographs)])
    return table
