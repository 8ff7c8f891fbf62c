"""Calibrations fitted, and one chosen by what it says of groups that it was not fitted on.

- Candidates are temperature, beta and isotonic calibration, in this order of how much they can bend. The first is taken
  whose log loss is within one standard error of the best (Breiman et al., Classification and Regression Trees, 1984);
  the error is that of the difference, for all are tried on the same items, and counts groups.
- A fit never sees a group that it is judged on.
- Too few items of a class, one class only, or a probability that is none is an error, never a fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression, minimize

from discern.core.errors import CallerError
from discern.detectors.calibration import CLIP, calibrator, fit_temperature
from discern.detectors.manifest import Calibration
from discern.evaluation.statistics import sums_by_group
from discern.evaluation.studio.types import KindLoss, StageCalibration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST = 30
"""Items of each class below which nothing is fitted; they come from twice as many groups as there are folds."""

LEAST_ISOTONIC = 200
FOLDS = 5
_DIGITS = 6
_POINTS = 200
_STEEPEST = 100.0


def fit_beta(probabilities: Floats, labels: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a, b and c of beta calibration by maximum likelihood with a, b >= 0, a convex problem."""
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    features = np.stack([np.log(clipped), -np.log1p(-clipped), np.ones(len(clipped))])
    sign = np.where(labels, 1.0, -1.0)

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = sign * (weights @ features)
        pull = -sign * np.exp(-np.logaddexp(0.0, margins))
        return float(np.mean(np.logaddexp(0.0, -margins))), features @ pull / len(sign)

    bounds = [(0.0, _STEEPEST), (0.0, _STEEPEST), (-_STEEPEST, _STEEPEST)]
    found = minimize(
        loss,
        np.array([1.0, 1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    return {"beta": dict(zip("abc", map(_rounded, found.x.tolist()), strict=True))}


def fit_isotonic(probabilities: Floats, labels: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the points of centred isotonic calibration.

    Each block of isotonic regression stands at the mean of its probabilities (Oron and Flournoy, Statistics in
    Biopharmaceutical Research 9, 2017), so that scores inside of it keep their order. No point is nearer to 0 or 1 than
    one item in n + 2.
    """
    values, places, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    share = np.bincount(places, weights=labels.astype(np.float64)) / counts
    found = isotonic_regression(share, weights=counts)
    starts = found.blocks[:-1]
    mass = np.add.reduceat(counts, starts)
    centres = np.add.reduceat(values * counts, starts) / mass
    edge = 1 / (len(labels) + 2)
    heights = np.clip(found.x[starts], edge, 1 - edge)
    if len(centres) > _POINTS:
        kept = np.unique(np.linspace(0, len(centres) - 1, _POINTS).astype(int))
        centres, heights = centres[kept], heights[kept]
    points = {_rounded(x): _rounded(y) for x, y in zip(centres.tolist(), heights.tolist(), strict=True)}
    if len(points) == 1:
        points = {0.0: min(points.values()), 1.0: max(points.values())}
    return {
        "isotonic": {"probabilities": list(points), "scores": np.maximum.accumulate(list(points.values())).tolist()}
    }


def _fit_temperature(probabilities: Floats, labels: NDArray[np.bool_]) -> dict[str, Any]:
    return {"temperature": _rounded(fit_temperature(probabilities, labels))}


Fit = Callable[["Floats", "NDArray[np.bool_]"], dict[str, Any]]
KINDS: dict[str, Fit] = {"temperature": _fit_temperature, "beta": fit_beta, "isotonic": fit_isotonic}


def choose_calibration(
    stage: str, probabilities: Floats, labels: NDArray[np.bool_], groups: NDArray[np.int64], seed: int
) -> StageCalibration:
    """Return the calibration of a stage from raw probabilities. Raises CallerError where the items do not allow one."""
    _check(stage, probabilities, labels, groups)
    numbers = np.unique(groups, return_inverse=True)[1]
    group_count = int(numbers.max()) + 1
    fold = np.random.Generator(np.random.PCG64(seed)).permutation(group_count)[numbers] % FOLDS
    least = min(int(labels.sum()), int((~labels).sum()))
    losses: dict[str, Floats] = {}
    caveats: dict[str, str] = {}
    for kind, fit in KINDS.items():
        if kind == "isotonic" and least < LEAST_ISOTONIC:
            caveats[kind] = f"needs {LEAST_ISOTONIC} items of each class, has {least}"
            continue
        losses[kind] = _held_out(fit, probabilities, labels, fold)
    means = {kind: float(np.mean(loss)) for kind, loss in losses.items()}
    best = min(means, key=lambda kind: means[kind])
    tried, chosen = [], ""
    for kind in KINDS:
        if kind in caveats:
            tried.append(KindLoss(kind, None, caveat=caveats[kind]))
            continue
        apart = losses[kind] - losses[best]
        above = float(np.mean(apart))
        sums = sums_by_group(apart - above, numbers.astype(np.int64), group_count) / len(apart)
        error = float(np.sqrt(group_count / (group_count - 1) * np.sum(sums**2)))
        tried.append(KindLoss(kind, means[kind], above, error))
        if not chosen and above <= error:
            chosen = kind
    return StageCalibration(stage, chosen, KINDS[chosen](probabilities, labels), tuple(tried), len(labels))


def _held_out(fit: Fit, probabilities: Floats, labels: NDArray[np.bool_], fold: NDArray[np.int64]) -> Floats:
    """Return the log loss of each item by the fit on the other folds."""
    losses = np.empty(len(labels))
    for number in range(FOLDS):
        held = fold == number
        given = calibrator(Calibration.model_validate(fit(probabilities[~held], labels[~held])))
        scores = np.clip(given(probabilities[held]), CLIP, 1 - CLIP)
        losses[held] = -np.where(labels[held], np.log(scores), np.log1p(-scores))
    return losses


def _check(stage: str, probabilities: Floats, labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> None:
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise CallerError(f"Stage {stage}: a probability is NaN or outside [0, 1].", mend="See the detector.")
    for label, name in ((True, "positive"), (False, "negative")):
        items, held = int(np.count_nonzero(labels == label)), len(np.unique(groups[labels == label]))
        if items < LEAST or held < FOLDS * 2:
            raise CallerError(
                f"Stage {stage}: {items} {name} items in {held} groups are too few to calibrate on; it takes {LEAST} "
                f"in {FOLDS * 2}.",
                mend="Give a larger side, or leave the calibration as it is.",
            )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
