"""Calibration: how a stage's raw probability becomes its score.

- A temperature of 1 is the identity to the last bit: nothing is clipped, nothing is rounded.
- Calibration keeps the order: a higher probability never gets a lower score.
- Each value is calibrated by itself; what else is in the array does not matter.

Sources: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks" (2017), arXiv:1706.04599, section 4.2;
Kull, Silva Filho, Flach, "Beta calibration" (AISTATS 2017); Zadrozny and Elkan, "Transforming classifier scores into
accurate multiclass probability estimates" (KDD 2002) for the isotonic one.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from discern.detectors.manifest import Calibration

    Calibrate = Callable[[ArrayLike], NDArray[np.float64]]
    """Raw probabilities in [0, 1] to scores in [0, 1], float64 of the same shape. NaN stays NaN."""

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


def calibrate_beta(probabilities: ArrayLike, a: float, b: float, c: float) -> NDArray[np.float64]:
    """Return sigmoid(a ln p - b ln(1 - p) + c) for every p, as float64 of the same shape.

    `probabilities` are in [0, 1] and are clipped to [1e-7, 1 - 1e-7] first. NaN stays NaN.
    Raises ValueError for a or b below 0, which would turn the order round, and for what is not finite.
    """
    if not (a >= 0 and b >= 0 and all(map(math.isfinite, (a, b, c)))):
        raise ValueError(f"a {a}, b {b}, c {c} do not keep the order")
    clipped = _clipped(np.asarray(probabilities, dtype=np.float64))
    return _sigmoid(a * np.log(clipped) - b * np.log1p(-clipped) + c)


def calibrate_isotonic(
    probabilities: ArrayLike, points: Sequence[float], scores: Sequence[float]
) -> NDArray[np.float64]:
    """Return for every p the value of the curve through (`points`, `scores`), as float64 of the same shape.

    Between two points it is straight, outside of them level. NaN stays NaN.
    """
    return _Curve(points, scores)(probabilities)


def calibrator(calibration: Calibration) -> Calibrate:
    """Return what calibrates a stage."""
    if calibration.beta is not None:
        beta = calibration.beta
        return partial(calibrate_beta, a=beta.a, b=beta.b, c=beta.c)
    if calibration.isotonic is not None:
        return _Curve(calibration.isotonic.probabilities, calibration.isotonic.scores)
    return partial(calibrate, temperature=calibration.temperature)


class _Curve:
    """A curve of straight pieces that never falls."""

    def __init__(self, points: Sequence[float], scores: Sequence[float]) -> None:
        self._points, self._scores = np.array(points, np.float64), np.array(scores, np.float64)
        # The highest value before, between and behind the points, by how many points are not above it.
        self._ceilings = np.append(self._scores, self._scores[-1])

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        raw = np.asarray(probabilities, dtype=np.float64)
        # What np.interp rounds up beyond the end of a piece would be above the beginning of the next.
        ceiling = self._ceilings[np.searchsorted(self._points, raw, side="right")]
        found: NDArray[np.float64] = np.minimum(np.interp(raw, self._points, self._scores), ceiling)
        return found


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
    clipped = _clipped(probabilities)
    return np.log(clipped) - np.log1p(-clipped)


def _clipped(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(np.maximum(probabilities, CLIP), 1 - CLIP)  # np.clip takes three times as long for one row


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
