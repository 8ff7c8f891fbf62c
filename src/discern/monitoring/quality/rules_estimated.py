"""Quality before any label has come, from how sure the detector was. Pure.

- A calibrated score is the probability that an input is positive, so the scores of a window tell how many positives to
  expect behind each decision, whatever the inputs are: a shift of the inputs alone leaves the estimate right.
- Where what a score means has shifted (a new kind of fraud that scores low, another share of positives), the estimate
  is wrong and does not show it. Only labels do.
- The interval is of what labels would show: chance in the labels, given the scores, and as far as the bundle tells on
  how much its calibration was fitted, that calibration may be off.

The idea: Guillory, Shankar, Ebrahimi, Darrell, Schmidt, "Predicting with Confidence on Unseen Distributions" (ICCV
2021); at thresholds of two classes it is called confidence-based performance estimation. Counts of positives are sums
of unequal Bernoulli draws, here matched in mean and variance by a binomial (Ehm, Statistics & Probability Letters 11,
1991).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from discern.core.verdict import Decision
from discern.monitoring.quality.rules_drawing import DECISIONS, DRAWS, SEED, figures_of
from discern.monitoring.quality.types import NOTHING, CalibrationDoubt, Figure, Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MOST_LOG_ODDS = 16.0
# Between two quantiles of the reference scores lie so many steps, evenly in log odds.
_STEPS = 20


def estimated(groups: Mapping[Decision, Group], doubt: CalibrationDoubt | None) -> tuple[Figure, ...]:
    """Return every measure of a window, with intervals that include `doubt` where there is one."""
    generator = np.random.default_rng(SEED)
    shifts = np.zeros((DRAWS, 2))
    if doubt is not None:
        covariance = [[doubt.intercept, doubt.both], [doubt.both, doubt.slope]]
        shifts = generator.multivariate_normal([0.0, 0.0], covariance, DRAWS, check_valid="ignore", method="eigh")
    there = {one: groups.get(one, NOTHING) for one in DECISIONS}
    drawn = {one: _positives(group, shifts, generator) for one, group in there.items()}
    verdicts = {one: group.verdicts for one, group in there.items()}
    return figures_of("estimated", verdicts, {one: group.scores for one, group in there.items()}, drawn)


def _positives(group: Group, shifts: Floats, generator: np.random.Generator) -> Floats:
    """Draw how many of a group are positive, float64 [draws]."""
    mean, variance = group.scores, group.variances
    if group.verdicts == 0 or mean <= 0:
        return np.zeros(DRAWS)
    if group.verdicts - mean <= 0 or variance <= 0:
        return np.full(DRAWS, min(mean, float(group.verdicts)))
    moved = _moved(group, shifts)
    # A sum of Bernoulli draws with this mean and variance is most like a binomial of so many draws.
    trials = min(group.verdicts, math.ceil(mean * mean / max(mean - variance, 1e-12)))
    trials = max(trials, math.ceil(float(moved.max())), 1)
    found: Floats = generator.binomial(trials, np.minimum(moved / trials, 1.0)).astype(np.float64)
    return found


def _moved(group: Group, shifts: Floats) -> Floats:
    """Return how many positives to expect if the calibration were off by each of the shifts, float64 [draws].

    A small shift of the log odds moves the expected number by the shift times the sum of score * (1 - score); on the
    scale of log odds, so that it stays between none and all.
    """
    share = group.scores / group.verdicts
    off = shifts @ np.array([1.0, typical_log_odds(group)])
    steepness = group.variances / (group.verdicts * share * (1 - share))
    moved = np.log(share / (1 - share)) + off * steepness
    found: Floats = group.verdicts / (1 + np.exp(-moved))
    return found


def typical_log_odds(group: Group) -> float:
    """Return the log odds of the scores that the doubtful part of a group has, told from its sums.

    The mean score weighted by itself is 1 - variances / scores: where positives of a group of low scores lie. A group
    of high scores is looked at from the other side.
    """
    if group.scores * 2 < group.verdicts:
        share = 1 - group.variances / group.scores if group.scores > 0 else 0.0
    else:
        others = group.verdicts - group.scores
        share = group.variances / others if others > 0 else 1.0
    return max(-_MOST_LOG_ODDS, min(_MOST_LOG_ODDS, math.log(max(share, 1e-9) / max(1 - share, 1e-9))))


def deviation(doubt: CalibrationDoubt | None, group: Group) -> float:
    """Return the standard deviation of the log odds by which the calibration of a group may be off; 0 if not told."""
    if doubt is None or not group.verdicts:
        return 0.0
    place = typical_log_odds(group)
    return math.sqrt(max(0.0, doubt.intercept + 2 * place * doubt.both + place * place * doubt.slope))


def doubt_of(quantiles: Sequence[float], items: int) -> CalibrationDoubt | None:
    """Return how far a calibration may be off that was fitted on `items` inputs whose scores have these quantiles.

    It is the inverse of the information that they hold on intercept and slope of the log odds of truth against those
    of the scores (Cox, Biometrika 45, 1958). `quantiles` are evenly spaced, from the least to the greatest. None where
    they hold too little to say.
    """
    if items < 1 or len(quantiles) < 2:
        return None
    log_odds = np.clip(_log_odds(np.asarray(quantiles, np.float64)), -_MOST_LOG_ODDS, _MOST_LOG_ODDS)
    way = (np.arange(_STEPS) + 0.5) / _STEPS
    points = (log_odds[:-1, None] + np.diff(log_odds)[:, None] * way).ravel()
    scores = 1 / (1 + np.exp(-points))
    weight = scores * (1 - scores) * items / len(points)
    one, two, three = (float(np.sum(weight * points**power)) for power in (0, 1, 2))
    determinant = one * three - two * two
    if one < 1 or determinant <= 1e-9 * one * three:
        return None
    return CalibrationDoubt(three / determinant, one / determinant, -two / determinant)


def _log_odds(scores: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        found: Floats = np.log(scores) - np.log1p(-scores)
    return found
