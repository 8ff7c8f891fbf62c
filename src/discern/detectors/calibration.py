"""Temperature scaling: how a stage's raw probability becomes its score.

- A temperature of 1 is the identity to the last bit: nothing is clipped, nothing is rounded.
- Calibration keeps the order: a higher probability never gets a lower score.
- Each value is calibrated by itself; what else is in the array does not matter.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks" (2017), arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 where their logit is taken."""

LOWEST_TEMPERATURE = 0.05
HIGHEST_TEMPERATURE = 20.0
_GOLDEN = (math.sqrt(5) - 1) / 2
_SEARCH_STEPS = 80


def calibrate(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return sigmoid(logit(p) / temperature) for every p, as float64 of the same shape.

    `probabilities` are in [0, 1] and are clipped to [1e-7, 1 - 1e-7] first, unless the temperature is 1. NaN stays NaN.
    Raises ValueError for a temperature that is not positive and finite.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature {temperature} is not a positive number")
    raw = np.array(probabilities, dtype=np.float64)
    return raw if temperature == 1.0 else _sigmoid(_logit(raw) / temperature)


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature with the lowest mean negative log-likelihood on held-out predictions.

    `probabilities` and `labels` have shape [n]; labels are 0 or 1 and both occur. The likelihood is convex in 1 /
    temperature, so it has one minimum, which a golden-section search over log temperature finds; a minimum outside
    0.05..20 gives that bound (perfectly separated data want 0, a ranking that is no better than chance wants
    infinity).
    Raises ValueError when the data cannot fit a temperature.
    """
    raw, truth = _checked(probabilities, labels)
    # log(1 + exp(-margin)) is the loss of one prediction, where margin is the logit towards the true class.
    margins = np.where(truth == 1, 1.0, -1.0) * _logit(raw)

    def loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0.0, -margins / math.exp(log_temperature))))

    low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    for _ in range(_SEARCH_STEPS):
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - _GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + _GOLDEN * (high - low)
            loss_right = loss(right)
    return math.exp((low + high) / 2)


def _logit(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.minimum(np.maximum(probabilities, CLIP), 1 - CLIP)  # np.clip takes three times as long for one row
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # exp of a negative number only: no overflow at either end.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    raw = np.asarray(probabilities, dtype=np.float64)
    given = np.asarray(labels)
    if raw.ndim != 1 or raw.shape != given.shape:
        raise ValueError(f"probabilities {raw.shape} and labels {given.shape} are not two columns of equal length")
    if not np.all((raw >= 0) & (raw <= 1)):
        raise ValueError("a probability is NaN or outside [0, 1]")
    if not np.all((given == 0) | (given == 1)):
        raise ValueError("a label is neither 0 nor 1")
    truth = given.astype(np.int64)
    if not 0 < int(truth.sum()) < len(truth):
        raise ValueError("the labels hold only one class")
    return raw, truth
