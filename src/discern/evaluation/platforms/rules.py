"""Whether a variant may stand for the original; pure.

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

from discern.evaluation.comparisons_margin import paired_limits
from discern.evaluation.platforms.types import POINTS, Difference, Gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.95
_TWO_SIDED = 2 * LEVEL - 1
"""Both ends of an interval at this level are ends of one-sided ones at `LEVEL`."""

LEAST_SPEED_UP = 1.5
MOST_OF_THE_SIZE = 0.5


class Judgement(NamedTuple):
    """The gate's word, and why."""

    accepted: bool
    gain: Gain | None
    reason: str


def least_items(margin: float, level: float = LEVEL) -> int:
    """Return how many items the test needs to hold when not a single one differs."""
    return math.floor(NormalDist().inv_cdf(level) ** 2 * (1 - margin) / margin) + 1


def differences(
    before: NDArray[np.int8],
    after: NDArray[np.int8],
    labels: NDArray[np.int8],
    names: tuple[str, str],
    margin: float,
    groups: NDArray[np.int64] | None = None,
) -> tuple[Difference, ...]:
    """Return what changes at each threshold for each class, with the upper end of a one-sided interval by Tango.

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
            lost = (right_before & ~right_after).astype(np.int64) - (~right_before & right_after)
            _, upper = paired_limits(lost, None if groups is None else groups[looked_at], level=_TWO_SIDED)
            found.append(
                Difference(point, name, items, worse, better, (worse - better) / items, upper, holds=upper < margin)
            )
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


def _loss(worst: Difference, margin: float) -> str:
    if not worst.items:
        return f"there are no items of the class {worst.label}"
    needed = least_items(margin)
    changed = f"at {worst.point} {worst.worse} of {worst.items} {worst.label} are lost and {worst.better} won"
    if worst.worse <= worst.better and worst.items < needed:
        return f"{changed}; a loss of {margin:g} can be ruled out with {needed} measured items or more"
    return f"{changed}: a loss of up to {worst.upper:.4f} is not ruled out, {margin:g} is the margin"
