"""What helped, what carries over and what could leak, on the development side alone.

Invariants:

- Every figure is of pictures that the backbone behind it did not see.
- Studies report; nothing they compute goes into the detector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from recipes.synthetic_face.measure import auc
from recipes.synthetic_face.network import KindOdds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recipes.synthetic_face.data import Picture

    Floats = NDArray[np.float64]


def pairs_of(kinds: list[str]) -> list[tuple[str, str]]:
    """(synthetic, authentic) kinds of one source; a source without photographs is set against each that has some."""
    synthetic = sorted({kind for kind in kinds if kind.endswith("/synthetic")})
    authentic = sorted({kind for kind in kinds if kind.endswith("/authentic")})
    pairs = []
    for made in synthetic:
        own = made.replace("/synthetic", "/authentic")
        pairs += [(made, own)] if own in authentic else [(made, photo) for photo in authentic]
    return pairs


def pair_auc(score: Floats, kind: NDArray[np.str_], pair: tuple[str, str]) -> float:
    """AUC between the two kinds of a pair."""
    return auc(score[kind == pair[0]], score[kind == pair[1]]).value


def odds_of(scores: Floats, kinds: list[str]) -> Floats:
    """Log odds [n] of scores of the kinds."""
    return np.asarray(KindOdds(kinds)(torch.from_numpy(scores)), np.float64)


def mirror_table(plain: Floats, mirrored: Floats, kind: NDArray[np.str_], kinds: list[str]) -> list[list[object]]:
    """AUC for each pair of a picture's score alone, and of its average with its mirror image's."""
    pairs = pairs_of(kind.tolist())
    named = (("picture", plain), ("picture and mirror image", mirrored))
    return [[name, *(pair_auc(odds_of(scores, kinds), kind, pair) for pair in pairs)] for name, scores in named]


def framing_table(pictures: list[Picture], boxes: NDArray[np.float32], margin: float) -> list[tuple[str, float, float]]:
    """For each pair: AUC from the face box in the picture, and from what is left of it in the crop.

    Random forest, five folds. Before: found, side and centre. After: the face's share of the crop's side, and the
    share of the picture's side that the crop covers.
    """
    kind = np.array([picture.kind for picture in pictures])
    found, side = boxes[:, 0], boxes[:, 1]
    covered = np.where(found == 1, np.minimum(side * (1 + 2 * margin), 1), 1)
    after = np.column_stack([np.where(found == 1, side / np.maximum(covered, 1e-6), 0), covered])
    table = []
    for made, photo in pairs_of(kind.tolist()):
        chosen = np.isin(kind, (made, photo))
        target = (kind[chosen] == made).astype(int)
        values = []
        for inputs in (boxes[chosen], after[chosen]):
            forest = RandomForestClassifier(200, min_samples_leaf=10, random_state=0, class_weight="balanced")
            score = cross_val_predict(forest, inputs, target, cv=5, method="predict_proba")[:, 1]
            values.append(auc(score[target == 1], score[target == 0]).value)
        table.append((f"{made} against {photo}", values[0], values[1]))
    return table
