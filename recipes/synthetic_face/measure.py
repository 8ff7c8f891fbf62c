"""Figures the card states: AUC with its interval, operating points, temperature, thresholds, exits.

Invariants:

- Pure functions of scores and labels; nothing here reads a file or draws a random number.
- Labels are 1 for synthetic, 0 for authentic; scores rise with the suspicion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm, rankdata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

_TINY = 1e-6


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve with its 95 % interval, and the counts it rests on."""

    value: float
    low: float
    high: float
    positives: int
    negatives: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auc(positives: ArrayLike, negatives: ArrayLike) -> Auc:
    """AUC of two samples of scores with DeLong's interval on the logit scale.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); midranks after Sun and Xu, IEEE SPL 21 (2014). The
    logit scale keeps the interval inside 0..1.
    """
    high_scores = np.asarray(positives, np.float64)
    low_scores = np.asarray(negatives, np.float64)
    m, n = len(high_scores), len(low_scores)
    joint = rankdata(np.concatenate([high_scores, low_scores]))
    structural_positive = (joint[:m] - rankdata(high_scores)) / n
    structural_negative = 1.0 - (joint[m:] - rankdata(low_scores)) / m
    value = float(structural_positive.mean())
    variance = float(structural_positive.var(ddof=1) / m + structural_negative.var(ddof=1) / n)
    bounded = min(max(value, _TINY), 1 - _TINY)
    spread = float(norm.ppf(0.975)) * np.sqrt(variance) / (bounded * (1 - bounded))
    centre = np.log(bounded / (1 - bounded))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-spread, spread]))))
    return Auc(value, float(low), float(high), m, n)


def logit(probability: ArrayLike) -> Floats:
    """Log odds, with probabilities kept a millionth away from 0 and 1."""
    clipped = np.clip(np.asarray(probability, np.float64), _TINY, 1 - _TINY)
    return np.asarray(np.log(clipped / (1 - clipped)))


def sigmoid(value: ArrayLike) -> Floats:
    """Probability of log odds."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(value, np.float64))))


def log_loss(probability: ArrayLike, label: ArrayLike, weight: ArrayLike) -> float:
    """Weighted mean negative log likelihood in nats."""
    p = np.clip(np.asarray(probability, np.float64), _TINY, 1 - _TINY)
    y = np.asarray(label, np.float64)
    return float(np.average(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights=np.asarray(weight)))


def fit_temperature(probability: ArrayLike, label: ArrayLike, weight: ArrayLike) -> float:
    """Temperature with the least weighted log loss (Guo et al., ICML 2017), between 0.05 and 20."""
    odds = logit(probability)

    def loss(log_temperature: float) -> float:
        return log_loss(sigmoid(odds / np.exp(log_temperature)), label, weight)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def calibration_error(probability: ArrayLike, label: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over bins of equal count (Nixon et al., CVPR Workshops 2019)."""
    p, y = np.asarray(probability, np.float64), np.asarray(label, np.float64)
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(len(part) * abs(p[part].mean() - y[part].mean()) for part in parts if len(part)) / len(p))


def threshold_at_false_positive_rate(negatives: ArrayLike, rate: float) -> float:
    """Smallest cut, rounded up to four decimals, from which at most `rate` of the negatives score."""
    ordered = np.sort(np.asarray(negatives, np.float64))[::-1]
    allowed = int(np.floor(rate * len(ordered)))
    first_allowed_out = ordered[min(allowed, len(ordered) - 1)]
    return float(min(np.ceil((first_allowed_out + 1e-9) * 1e4) / 1e4, 0.9999))


def share_from(scores: ArrayLike, cut: float) -> float:
    """Share of scores at or above the cut."""
    return float((np.asarray(scores, np.float64) >= cut).mean())


def quantiles(scores: ArrayLike) -> list[float]:
    """The 101 percentiles 0..100, six decimals."""
    values = np.quantile(np.asarray(scores, np.float64), np.linspace(0, 1, 101))
    return [round(float(value), 6) for value in values]


def balanced(kind: NDArray[np.str_], label: NDArray[np.int64]) -> Floats:
    """Weights with mean 1: each class weighs the same, and kinds within it by the square root of their size."""
    weights = np.ones(len(kind))
    for name in sorted(set(kind.tolist())):
        weights[kind == name] = 1 / np.sqrt((kind == name).sum())
    for value in (0, 1):
        weights[label == value] /= weights[label == value].sum()
    return np.asarray(weights / weights.mean())
