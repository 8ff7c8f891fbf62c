"""Figures of a fraud model on one test fold, each with a 95 % interval.

Invariants:
- The area under the ROC curve has DeLong's interval; average precision and card precision have percentile bootstrap
  intervals over customers, whose payments are drawn together because they are not independent.
- The same draw of customers is applied to every fold, so that the interval of a mean over folds counts a customer that
  appears in several of them once.
- Everything is deterministic given the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CARDS_A_DAY = 100
"""Cards that investigators can look at in a day (the k of card precision@k)."""

BOOTSTRAP_DRAWS = 1000

_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Scored:
    """Scored payments of one fold: four arrays of the same length.

    `fraud` bool, `score` in [0, 1] (higher is more suspicious), `customer` small non-negative integers shared by all
    folds, `day` any integer that grows from day to day.
    """

    fraud: NDArray[np.bool_]
    score: NDArray[np.float64]
    customer: NDArray[np.int64]
    day: NDArray[np.int64]


@dataclass(frozen=True)
class Figures:
    """The three published figures."""

    auc: Estimate
    average_precision: Estimate
    card_precision: Estimate

    def __str__(self) -> str:
        return f"AUC {self.auc}  average precision {self.average_precision}  card precision@100 {self.card_precision}"


def _mid_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing the mean of their ranks."""
    unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    del unique
    last = np.cumsum(counts)
    mid: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return mid


def auc_delong(fraud: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[float, float]:
    """Area under the ROC curve and its variance (DeLong et al. 1988, computed by mid-ranks as in Sun and Xu 2014).

    Raises ValueError unless both classes are there with at least two members.
    """
    positive, negative = score[fraud], score[~fraud]
    m, n = len(positive), len(negative)
    if m < 2 or n < 2:
        raise ValueError("the area under the curve needs at least two payments of each class")
    together = _mid_ranks(np.concatenate([positive, negative]))
    over_negatives = (together[:m] - _mid_ranks(positive)) / n
    over_positives = 1.0 - (together[m:] - _mid_ranks(negative)) / m
    variance = over_negatives.var(ddof=1) / m + over_positives.var(ddof=1) / n
    return float(over_negatives.mean()), float(variance)


class _PrecisionCurve:
    """Average precision under varying weights of the customers; the payments are sorted once."""

    def __init__(self, scored: Scored) -> None:
        order = np.argsort(-scored.score, kind="stable")
        score = scored.score[order]
        self._customer = scored.customer[order]
        self._fraud = scored.fraud[order].astype(np.float64)
        self._last_of_tie = np.flatnonzero(np.append(score[1:] != score[:-1], True))

    def average(self, weights: NDArray[np.float64]) -> float:
        weight = weights[self._customer]
        alerts = np.cumsum(weight)[self._last_of_tie]
        hits = np.cumsum(weight * self._fraud)[self._last_of_tie]
        precision = np.divide(hits, alerts, out=np.zeros_like(hits), where=alerts > 0)
        return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1]) if hits[-1] else float("nan")


class _CardRanking:
    """Card precision@k under varying weights of the customers; each day's cards are ranked once."""

    def __init__(self, scored: Scored) -> None:
        self._days = [self._rank(scored, day) for day in np.unique(scored.day)]

    @staticmethod
    def _rank(scored: Scored, day: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Cards of a day, the most suspicious first (ties by number), and whether each was defrauded that day."""
        of_day = scored.day == day
        cards, inverse = np.unique(scored.customer[of_day], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, inverse, scored.score[of_day])
        defrauded = np.zeros(len(cards), dtype=np.bool_)
        np.logical_or.at(defrauded, inverse, scored.fraud[of_day])
        order = np.argsort(-highest, kind="stable")
        return cards[order], defrauded[order]

    def precision(self, weights: NDArray[np.float64], k: int = CARDS_A_DAY) -> float:
        """Mean over days of the share of defrauded cards among the k first; a card found is not looked at again."""
        left = weights.copy()
        found = []
        for cards, defrauded in self._days:
            weight = left[cards]
            taken = np.clip(k - (np.cumsum(weight) - weight), 0, weight)
            found.append(float(np.sum(taken[defrauded])) / k)
            left[cards[defrauded & (taken > 0)]] = 0.0
        return float(np.mean(found))


def average_precision(scored: Scored) -> float:
    """Area under the precision-recall curve by steps (precision at each threshold, weighted by the recall gained)."""
    return _PrecisionCurve(scored).average(np.ones(int(scored.customer.max()) + 1))


def card_precision(scored: Scored, k: int = CARDS_A_DAY) -> float:
    """Card precision@k of the handbook: see `_CardRanking.precision`."""
    return _CardRanking(scored).precision(np.ones(int(scored.customer.max()) + 1), k)


def _percentile(value: float, draws: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _wald(value: float, variance: float) -> Estimate:
    half = _NORMAL_975 * float(np.sqrt(variance))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def measure(folds: Sequence[Scored], *, seed: int, draws: int = BOOTSTRAP_DRAWS) -> tuple[list[Figures], Figures]:
    """Figures of each fold and of their mean.

    The variance of a mean AUC takes the test weeks as independent; the other two intervals do not need that.
    """
    customers = 1 + max(int(fold.customer.max()) for fold in folds)
    curves = [_PrecisionCurve(fold) for fold in folds]
    rankings = [_CardRanking(fold) for fold in folds]
    ones = np.ones(customers)
    points = np.array([[c.average(ones), r.precision(ones)] for c, r in zip(curves, rankings, strict=True)])
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(folds), 2))
    for draw in range(draws):
        weights = np.bincount(random.integers(0, customers, customers), minlength=customers).astype(np.float64)
        drawn[draw] = [[c.average(weights), r.precision(weights)] for c, r in zip(curves, rankings, strict=True)]
    areas = [auc_delong(fold.fraud, fold.score) for fold in folds]
    each = [
        Figures(_wald(*areas[i]), _percentile(points[i, 0], drawn[:, i, 0]), _percentile(points[i, 1], drawn[:, i, 1]))
        for i in range(len(folds))
    ]
    mean_area = _wald(float(np.mean([a for a, _ in areas])), sum(v for _, v in areas) / len(folds) ** 2)
    means = drawn.mean(axis=1)
    mean = Figures(
        mean_area,
        _percentile(float(points[:, 0].mean()), means[:, 0]),
        _percentile(float(points[:, 1].mean()), means[:, 1]),
    )
    return each, mean
