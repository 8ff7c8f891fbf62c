"""Whether a variant may stand for the original, and how well two lists of scores agree; pure.

- A variant is refused unless the data rule out, at every threshold and for each class, that it is worse by the margin
  or more: data too few to tell refuse it.
- What is neither half the size nor 1.5 times as fast is refused: it would cost a risk and bring nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from discern.evaluation.platforms.types import POINTS, Difference, Gain
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.core.verdict import Thresholds

LEVEL = 0.95
LEAST_SPEED_UP = 1.5
MOST_OF_THE_SIZE = 0.5
_STEPS = 60


class NonInferiority(NamedTuple):
    """`difference` is the share of items lost; `upper` the end of its one-sided interval; `holds`: below the margin."""

    difference: float
    upper: float
    holds: bool


class Judgement(NamedTuple):
    """The gate's word, and why."""

    accepted: bool
    gain: Gain | None
    reason: str


def paired_non_inferiority(worse: int, better: int, items: int, margin: float, level: float = LEVEL) -> NonInferiority:
    """Return whether fewer than `margin` of the items are lost, net, at a one-sided `level`.

    Of `items` pairs `worse` were right before and are wrong after, `better` the other way round. The test is Tango's
    score test for the difference of paired proportions, which holds its level where few or no pairs differ, as here:
    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17 (1998), 891-908, equations 10 and 11. The interval is the test turned round.
    Raises ValueError for counts that cannot be.
    """
    if items < 1 or min(worse, better) < 0 or worse + better > items or not 0 < margin < 1:
        raise ValueError(f"{worse} and {better} of {items} pairs with a margin of {margin} cannot be")
    critical = -NormalDist().inv_cdf(level)
    low, high = (worse - better) / items, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _score(worse, better, items, middle) > critical:
            low = middle
        else:
            high = middle
    return NonInferiority((worse - better) / items, high, _score(worse, better, items, margin) < critical)


def least_items(margin: float, level: float = LEVEL) -> int:
    """Return how many items the test needs to hold when not a single one differs."""
    return math.floor(NormalDist().inv_cdf(level) ** 2 * (1 - margin) / margin) + 1


def differences(
    before: NDArray[np.int8],
    after: NDArray[np.int8],
    labels: NDArray[np.int8],
    names: tuple[str, str],
    margin: float,
) -> tuple[Difference, ...]:
    """Return what changes at each threshold for each class.

    `before` and `after` are positions in `scoring.DECISIONS`, -1 where there is no score; `names` those of the
    negative and the positive class. An item without a score is on the wrong side of both thresholds; one that had none
    before is not looked at.
    """
    found: list[Difference] = []
    for place, point in enumerate(POINTS, start=1):
        for label, name in enumerate(names):
            looked_at = (labels == label) & (before >= 0)
            was, is_now = before[looked_at], after[looked_at]
            right_before = (was >= place) == bool(label)
            right_after = ((is_now >= place) == bool(label)) & (is_now >= 0)
            items = int(looked_at.sum())
            worse = int((right_before & ~right_after).sum())
            better = int((~right_before & right_after).sum())
            if not items:
                found.append(Difference(point, name, 0, 0, 0, 0.0, 1.0, holds=False))
                continue
            result = paired_non_inferiority(worse, better, items, margin)
            found.append(Difference(point, name, items, worse, better, *result))
    return tuple(found)


def judge(found: Sequence[Difference], *, size: int, size_before: int, speed_up: float, margin: float) -> Judgement:
    """Return whether a variant that changes decisions so, and is this large and fast, is accepted."""
    lost = [one for one in found if not one.holds]
    if lost:
        worst = max(lost, key=lambda one: (one.value, one.upper))
        return Judgement(accepted=False, gain=None, reason=_loss(worst, margin))
    small, fast = size <= MOST_OF_THE_SIZE * size_before, speed_up >= LEAST_SPEED_UP
    shown = f"{size / size_before:.0%} of the size, {speed_up:.2f} times as fast"
    if not (small or fast):
        needed = f"{MOST_OF_THE_SIZE:.0%} or {LEAST_SPEED_UP:g} times are asked for"
        return Judgement(accepted=False, gain=None, reason=f"it gains too little: {shown}; {needed}")
    gain: Gain = "size and speed" if small and fast else "size" if small else "speed"
    return Judgement(accepted=True, gain=gain, reason=shown)


def area_under_roc(scores: NDArray[np.float64], labels: NDArray[np.int8]) -> Estimate:
    """Return the share of pairs of a positive and a negative item that the scores put in order, ties by half."""
    known = ~np.isnan(scores)
    positive, negative = np.sort(scores[known & (labels == 1)]), np.sort(scores[known & (labels == 0)])
    if not len(positive) or not len(negative):
        return Estimate(None, caveat="one class has no scores")
    below = np.searchsorted(negative, positive, side="left").sum()
    up_to = np.searchsorted(negative, positive, side="right").sum()
    return Estimate(float((below + up_to) / (2 * len(positive) * len(negative))), method="rank statistic")


def decided(scores: NDArray[np.float64], thresholds: Thresholds) -> NDArray[np.int8]:
    """Return the decisions that scores amount to, -1 where there is none."""
    codes = (scores >= thresholds.review_from).astype(np.int8) + (scores >= thresholds.flag_from).astype(np.int8)
    return np.where(np.isnan(scores), np.int8(-1), codes).astype(np.int8)


def _score(worse: int, better: int, items: int, difference: float) -> float:
    """Return Tango's statistic: standard normal where the true difference is `difference`."""
    linear = (2 * items - worse + better) * difference - worse - better
    root = math.sqrt(max(0.0, linear**2 + 8 * items * better * difference * (1 - difference)))
    share = (root - linear) / (4 * items)
    spread = items * (2 * share + difference * (1 - difference))
    distance = worse - better - items * difference
    if spread <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(spread)


def _loss(worst: Difference, margin: float) -> str:
    if not worst.items:
        return f"there are no items of the class {worst.label}"
    needed = least_items(margin)
    changed = f"at {worst.point} {worst.worse} of {worst.items} {worst.label} are lost and {worst.better} won"
    if worst.worse <= worst.better and worst.items < needed:
        return f"{changed}; a loss of {margin:g} can be ruled out with {needed} items or more"
    return f"{changed}: a loss of up to {worst.upper:.4f} is not ruled out, {margin:g} is the margin"
