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

from discern.evaluation import metrics_weighted as weighted
from discern.evaluation.metrics import area_of, placements
from discern.evaluation.metrics_cards import CardRanking
from discern.evaluation.statistics import Rows, rows_of
from discern.evaluation.statistics_bootstrap import Statistic
from discern.evaluation.statistics_bootstrap import drawn as resampled

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
    """Scored payments of one fold: arrays of the same length.

    `fraud` bool, `score` in [0, 1] (higher is more suspicious), `customer` small non-negative integers shared by all
    folds, `day` any integer that grows from day to day, `amount` in currency units.
    """

    fraud: NDArray[np.bool_]
    score: NDArray[np.float64]
    customer: NDArray[np.int64]
    day: NDArray[np.int64]
    amount: NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """The three published figures."""

    auc: Estimate
    average_precision: Estimate
    card_precision: Estimate

    def __str__(self) -> str:
        return f"AUC {self.auc}  average precision {self.average_precision}  card precision@100 {self.card_precision}"


def _rows(scored: Scored, customers: int) -> Rows:
    return Rows(scored.fraud, scored.score, scored.customer, customers)


def auc_delong(fraud: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[float, float]:
    """Area under the ROC curve and its variance (DeLong et al. 1988).

    Raises ValueError unless both classes are there with at least two members.
    """
    rows = rows_of(fraud, score)
    if min(rows.positives, rows.negatives) < 2:
        raise ValueError("the area under the curve needs at least two payments of each class")
    area = area_of(placements(rows), rows)
    return area.value, area.variance


def _figures(folds: Sequence[Scored], customers: int) -> Statistic:
    """Average precision and card precision of each fold, float64 [draws, folds, 2], for weights of the customers."""
    curves = [weighted.average_precision(_rows(fold, customers)) for fold in folds]
    rankings = [CardRanking(fold.fraud, fold.score, fold.customer, fold.day) for fold in folds]

    def figures(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        each = [
            np.stack([curve(weights), ranking.precision(weights, CARDS_A_DAY)], axis=-1)
            for curve, ranking in zip(curves, rankings, strict=True)
        ]
        return np.stack(each, axis=1)

    return figures


def average_precision(scored: Scored) -> float:
    """Area under the precision-recall curve by steps (precision at each threshold, weighted by the recall gained)."""
    customers = int(scored.customer.max()) + 1
    return float(weighted.average_precision(_rows(scored, customers))(np.ones((1, customers)))[0])


def card_precision(scored: Scored, k: int = CARDS_A_DAY) -> float:
    """Card precision@k of the handbook: see `discern.evaluation.metrics_cards`."""
    ranking = CardRanking(scored.fraud, scored.score, scored.customer, scored.day)
    return float(ranking.precision(np.ones((1, int(scored.customer.max()) + 1)), k)[0])


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
    figures = _figures(folds, customers)
    points = figures(np.ones((1, customers)))[0]
    drawn = resampled(figures, customers, max(len(fold.fraud) for fold in folds), seed=seed, draws=draws)
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
