"""Curves and bars to be drawn: a few hundred points of what may be a million."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from discern.evaluation.metrics_weighted import Steps
from discern.evaluation.statistics import nothing_to_measure
from discern.evaluation.types import Bar, Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.evaluation.statistics import Rows

    Floats = NDArray[np.float64]

_POINTS = 200
_BARS = 20


def roc(rows: Rows) -> tuple[Point, ...]:
    """Return the ROC curve from (0, 0) to (1, 1): false positive rate, true positive rate."""
    if nothing_to_measure(rows):
        return ()
    positive, negative, thresholds = _counts(rows)
    x, y = np.append(0.0, negative / rows.negatives), np.append(0.0, positive / rows.positives)
    scores = [None, *thresholds.tolist()]
    return tuple(Point(float(x[at]), float(y[at]), scores[at]) for at in _thinned(x + y))


def precision_recall(rows: Rows) -> tuple[Point, ...]:
    """Return recall and precision."""
    if nothing_to_measure(rows):
        return ()
    positive, negative, thresholds = _counts(rows)
    recall, precision = positive / rows.positives, positive / (positive + negative)
    return tuple(Point(float(recall[at]), float(precision[at]), float(thresholds[at])) for at in _thinned(recall))


def histogram(rows: Rows) -> tuple[Bar, ...]:
    """Return how many items of each class have a score in each twentieth of [0, 1]."""
    places = np.clip((rows.scores * _BARS).astype(np.int64), 0, _BARS - 1)
    counts = [np.bincount(places[rows.labels == label], minlength=_BARS).tolist() for label in (False, True)]
    return tuple(Bar(at / _BARS, (at + 1) / _BARS, counts[0][at], counts[1][at]) for at in range(_BARS))


def _counts(rows: Rows) -> tuple[Floats, Floats, Floats]:
    """Return how many positives and negatives score at least as high as each distinct score, the highest first."""
    steps = Steps(rows)
    positive, negative = steps(np.ones((1, rows.group_count)))
    return positive[0], negative[0], steps.thresholds


def _thinned(along: Floats) -> list[int]:
    """Return places of a growing column, evenly spaced in what it grows by, its ends among them."""
    wanted = np.linspace(along[0], along[-1], _POINTS)
    last = len(along) - 1
    places = np.minimum(np.searchsorted(along, wanted), last)
    return sorted({0, last, *(int(place) for place in places)})
