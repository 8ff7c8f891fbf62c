"""Figures of many resamples at once: each takes weights of groups, float64 [draws, groups], and returns [draws].

- Rows are sorted once; ties count as ties, in whatever order they came.
- With every weight 1 each gives what scikit-learn gives, where scikit-learn has it.
- NaN where the weights leave no positive, or no negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from discern.evaluation.statistics import Rows
    from discern.evaluation.statistics_bootstrap import Statistic

    Floats = NDArray[np.float64]


class Steps:
    """How many positives and negatives score at least as high as each score, the highest first."""

    def __init__(self, rows: Rows) -> None:
        order = np.argsort(-rows.scores, kind="stable")
        score, labels = rows.scores[order], rows.labels[order]
        self._groups = rows.groups[order]
        self._last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
        self._of_positives = self._groups[labels]
        self._positives = np.cumsum(labels)[self._last]
        self.thresholds: Floats = score[self._last]
        """The distinct scores, falling."""

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the weight of positives and of negatives from each threshold on, float64 [draws, thresholds]."""
        everything = np.cumsum(np.take(weights, self._groups, axis=1), axis=1)
        positive = np.zeros((len(weights), len(self._of_positives) + 1))
        np.cumsum(np.take(weights, self._of_positives, axis=1), axis=1, out=positive[:, 1:])
        found = np.take(positive, self._positives, axis=1)
        return found, np.take(everything, self._last, axis=1) - found


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide, NaN where the divisor is zero."""
    empty: Floats = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    return np.divide(above, below, out=empty, where=below > 0)


def area_under_roc(rows: Rows) -> Statistic:
    """The area under the ROC curve, by trapezoids, so that a tie counts one half."""
    steps = Steps(rows)

    def statistic(weights: Floats) -> Floats:
        positive, negative = steps(weights)
        heights = positive + np.pad(positive, ((0, 0), (1, 0)))[:, :-1]
        widths = np.diff(negative, axis=1, prepend=0.0)
        return _ratio((heights * widths).sum(axis=1) / 2, positive[:, -1] * negative[:, -1])

    return statistic


def average_precision(rows: Rows) -> Statistic:
    """The precision at each threshold, weighted by the recall it gains."""
    steps = Steps(rows)

    def statistic(weights: Floats) -> Floats:
        positive, negative = steps(weights)
        chosen = positive + negative
        precision = np.divide(positive, chosen, out=np.zeros_like(positive), where=chosen > 0)
        gained = np.diff(positive, axis=1, prepend=0.0)
        return _ratio((gained * precision).sum(axis=1), positive[:, -1])

    return statistic


def equal_error_rate(rows: Rows) -> Statistic:
    """Where the false positive rate and the false negative rate meet, on the line between the two points around it."""
    steps = Steps(rows)
    return lambda weights: _met(*steps(weights))


def true_positive_rate_at(rows: Rows, false_positive_rate: float) -> Statistic:
    """The largest true positive rate of a threshold whose false positive rate is no larger than asked for."""
    steps = Steps(rows)
    return lambda weights: _reached(*steps(weights), false_positive_rate)


def error_rates(rows: Rows, false_positive_rates: Sequence[float]) -> Statistic:
    """The equal error rate and the true positive rate at each false positive rate, float64 [draws, 1 + rates].

    Most of what a resample costs is its steps, which all of them share.
    """
    steps = Steps(rows)

    def statistic(weights: Floats) -> Floats:
        positive, negative = steps(weights)
        reached = (_reached(positive, negative, rate) for rate in false_positive_rates)
        return np.stack([_met(positive, negative), *reached], axis=1)

    return statistic


def _met(positive: Floats, negative: Floats) -> Floats:
    alarms = np.pad(_ratio(negative, negative[:, -1:]), ((0, 0), (1, 0)))
    misses = 1 - np.pad(_ratio(positive, positive[:, -1:]), ((0, 0), (1, 0)))
    ahead = alarms - misses
    at = np.maximum(np.argmax(ahead >= 0, axis=1), 1)[:, None]
    before, after = np.take_along_axis(ahead, at - 1, 1), np.take_along_axis(ahead, at, 1)
    way = -before / (after - before)
    start = np.take_along_axis(alarms, at - 1, 1)
    met: Floats = (start + way * (np.take_along_axis(alarms, at, 1) - start))[:, 0]
    return np.where(np.isnan(ahead).any(axis=1), np.nan, met)


def _reached(positive: Floats, negative: Floats, false_positive_rate: float) -> Floats:
    # A hair more, for 0.01 * 300 is a little less than 3.
    allowed = np.floor(false_positive_rate * negative[:, -1:] + 1e-9)
    within = np.count_nonzero(negative <= allowed, axis=1)[:, None]
    reached = np.where(within > 0, np.take_along_axis(positive, np.maximum(within - 1, 0), 1), 0.0)[:, 0]
    rate = _ratio(reached, positive[:, -1])
    return np.where(negative[:, -1] > 0, rate, np.nan)
