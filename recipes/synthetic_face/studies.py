"""What helped and what could leak: ablations, leaving a generator out, and what framing alone tells.

Invariants:

- Only the development side is seen; every figure is out of fold.
- Studies report; nothing they compute goes into the detector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from recipes.synthetic_face.measure import auc
from recipes.synthetic_face.stack import CLIP, SCALE_FLOOR, Rows, balanced, fit_quadratic, quadratic_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recipes.synthetic_face.data import Picture
    from recipes.synthetic_face.stack import FittedStack, StackSettings

    Floats = NDArray[np.float64]

TRANSFER_GRID = (0.0, 0.5, 1.0, 2.0, 4.0)
_RIDGE = 0.1


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


def leave_generator_out(
    fitted: FittedStack, rows: Rows, settings: StackSettings
) -> list[tuple[str, float, list[float]]]:
    """For each generator: (its kind, transfer share, AUC against each source of photographs) without any trace of it.

    The stack is refitted on the specialists that never saw the generator; pooled scores that did are left out too.
    """
    kinds = rows.kind
    photographs = sorted({kind for kind in kinds.tolist() if kind.endswith("/authentic")})
    clean = rows.view == 0
    table = []
    for made in sorted({kind for kind in kinds.tolist() if kind.endswith("/synthetic")}):
        blind = [i for i, one in enumerate(fitted.specialists) if made not in one.positive + one.negative]
        kept = kinds != made
        subset = Rows(rows.features[:0], kinds[kept], rows.label[kept], rows.view[kept], rows.fold[kept])
        columns = fitted.out_of_fold_columns[:, blind]
        odds = np.zeros(len(kinds))
        for fold in sorted(set(rows.fold.tolist())):
            inside = np.flatnonzero(subset.fold != fold)
            stack = fit_quadratic(columns[kept], subset, inside, settings)
            odds[rows.fold == fold] = quadratic_odds(columns[rows.fold == fold], *stack)
        if fitted.transfer_column not in blind:
            shares: tuple[float, ...] = (0.0,)
        else:
            shares = TRANSFER_GRID
        for share in shares:
            score = odds + share * np.clip(fitted.out_of_fold_columns[:, fitted.transfer_column], -CLIP, CLIP)
            aucs = [pair_auc(score[clean], kinds[clean], (made, photo)) for photo in photographs]
            table.append((made, share, aucs))
    return table


def family_table(rows: Rows, blocks: dict[str, slice]) -> list[tuple[str, list[float]]]:
    """For each feature family alone, then all: AUC of one ridge regression of all kinds, clean views, on two folds."""
    families = sorted({name.partition(".")[0] for name in blocks})
    clean = np.flatnonzero(rows.view == 0)
    pairs = pairs_of(rows.kind.tolist())
    grams = {}
    for family in families:
        index = np.concatenate(
            [np.arange(s.start, s.stop) for name, s in blocks.items() if name.startswith(f"{family}.")]
        )
        grams[family] = _gram(rows.features[np.ix_(clean, index)])
    table = [(family, _ridge_aucs(gram, rows, clean, pairs)) for family, gram in grams.items()]
    return [*table, ("all families", _ridge_aucs(sum(grams.values()), rows, clean, pairs))]  # type: ignore[arg-type]


def augmentation_table(rows: Rows) -> list[tuple[str, list[float], list[float]]]:
    """Trained on clean views, and on clean and strong ones: AUC on clean and on strong views, two folds."""
    first = rows.view <= 1
    rows = Rows(rows.features[first], rows.kind[first], rows.label[first], rows.view[first], rows.fold[first])
    gram = _gram(rows.features)
    pairs = pairs_of(rows.kind.tolist())
    clean, augmented = np.flatnonzero(rows.view == 0), np.flatnonzero(rows.view == 1)
    everything = np.arange(len(rows.view))
    return [
        (name, _ridge_aucs(gram, rows, used, pairs, clean), _ridge_aucs(gram, rows, used, pairs, augmented))
        for name, used in (("clean views", clean), ("clean and strong views", everything))
    ]


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


def _gram(features: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled = np.clip((features - features.mean(0)) / (features.std(0) + SCALE_FLOOR), -CLIP, CLIP)
    return np.asarray(scaled @ scaled.T)


def _ridge_aucs(
    gram: NDArray[np.float32],
    rows: Rows,
    used: NDArray[np.int64],
    pairs: list[tuple[str, str]],
    scored: NDArray[np.int64] | None = None,
) -> list[float]:
    """`gram` is over `used` rows, or over all rows when it is that large; folds 0 and 1 are predicted."""
    scored = used if scored is None else scored
    position = np.full(len(rows.fold), -1)
    position[used if len(gram) == len(used) else np.arange(len(rows.fold))] = np.arange(len(gram))
    score = np.full(len(rows.fold), np.nan)
    for fold in (0, 1):
        inside, outside = used[rows.fold[used] != fold], scored[rows.fold[scored] == fold]
        weight = balanced(rows.kind[inside], rows.label[inside])
        target = np.where(rows.label[inside] == 1, 1.0, -1.0).astype(np.float32)
        block = gram[np.ix_(position[inside], position[inside])]
        block[np.diag_indices(len(inside))] += (_RIDGE * np.trace(block) / len(inside) / weight).astype(np.float32)
        dual = cho_solve(cho_factor(block, lower=True, overwrite_a=True), target)
        score[outside] = gram[np.ix_(position[outside], position[inside])] @ dual
    seen = ~np.isnan(score)
    return [pair_auc(score[seen], rows.kind[seen], pair) for pair in pairs]
