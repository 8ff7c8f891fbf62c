"""Thresholds chosen by what decisions cost.

- The choice is exact: no two cut points between the scores of the sample cost less within the limits. Cuts lie where
  six significant digits tell the neighbouring scores apart, so that what is written down decides alike.
- Of equal costs the choice with the fewest reviews is taken, then the one that flags more.
- The cost of two cuts is the sum of what each does by itself: rows below the first are cleared instead of reviewed,
  rows from the second on flagged instead of reviewed. So one pass over the sorted scores finds the best pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from discern.evaluation.statistics import FEW_HITS, proportion
from discern.evaluation.studio.types import Costs, Goal, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Positions = NDArray[np.int64]

CLEAR, REVIEW, FLAG = 0, 1, 2
_DIGITS = 6


class NotReachable(Exception):
    """No thresholds keep within the limits; the text says why."""


def prices(costs: Costs, labels: NDArray[np.bool_], amounts: Floats | None) -> Floats:
    """Return what each decision costs for each row, float64 [3, n]: cleared, reviewed, flagged."""
    missed = np.full(len(labels), costs.miss)
    if costs.amount_share and amounts is not None:
        missed = missed + costs.amount_share * amounts
    error = np.where(labels, missed, costs.false_alarm)
    return np.stack(
        [np.where(labels, missed, 0.0), costs.review + costs.reviewer_error * error, np.where(labels, 0.0, error)]
    )


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where cuts may lie.

    `order` sorts the n rows. A cut at place i puts the first `below[i]` of them on its lower side; its neighbours are
    `low[i]`, which is below the cut, and `high[i]`, which is not.
    """

    order: Positions
    below: Positions
    low: Floats
    high: Floats

    def value(self, place: int) -> float:
        """Return the cut as the fewest digits that lie between its neighbours."""
        low, high = float(self.low[place]), float(self.high[place])
        if low < 0:
            return 0.0
        if high > 1:
            return 1.0
        for digits in range(1, _DIGITS + 1):
            shown = _shown(low, high, digits)
            if low < shown <= high:
                return shown
        raise ValueError(f"six digits do not tell {low} and {high} apart")

    def summed_below(self, values: Floats) -> Floats:
        """Return the sum of the values of the rows below each cut."""
        return np.concatenate([[0.0], np.cumsum(values[self.order])])[self.below]


def ladder(scores: Floats) -> Ladder:
    """Return where the scores, in [0, 1], may be cut: below all, between two, and above all unless one is 1."""
    order = np.argsort(scores, kind="stable").astype(np.int64)
    ranked = scores[order]
    steps = np.flatnonzero(ranked[1:] > ranked[:-1]) + 1
    told = [
        low < _shown(low, high, _DIGITS) <= high
        for low, high in zip(ranked[steps - 1].tolist(), ranked[steps].tolist(), strict=True)
    ]
    steps = steps[np.array(told, np.bool_)]
    low, high = np.concatenate([[-1.0], ranked[steps - 1]]), np.concatenate([ranked[:1], ranked[steps]])
    below = np.concatenate([[0], steps])
    if ranked[-1] < 1:
        below, low, high = np.append(below, len(ranked)), np.append(low, ranked[-1]), np.append(high, 2.0)
    return Ladder(order, below.astype(np.int64), low, high)


def _shown(low: float, high: float, digits: int) -> float:
    return float(f"{(low + high) / 2:.{digits}g}")


@dataclass(frozen=True, slots=True)
class Pair:
    """Places of the two cuts on a ladder, and the cost of all rows together."""

    review: int
    flag: int
    cost: float


def best_pair(
    steps: Ladder,
    price: Floats,
    weights: Floats,
    *,
    room: float | None = None,
    lowest_flag: int = 0,
    lowest_review: Positions | None = None,
) -> Pair:
    """Return the cheapest pair of cuts.

    At most the weight `room` is reviewed, None for any; the second cut stands at place `lowest_flag` or above, and the
    first at the place that `lowest_review` has for the second, or above.
    """
    clear, review, flag = price * weights
    cleared = steps.summed_below(clear - review)
    flagging = flag - review
    flagged = float(np.sum(flagging[steps.order])) - steps.summed_below(flagging)
    seen = None if room is None else (steps.summed_below(weights), room)
    review_at, flag_at, total = best_places(cleared, flagged, seen, lowest_flag, lowest_review)
    return Pair(review_at, flag_at, float(np.sum(review[steps.order])) + total)


def best_places(
    cleared: Floats,
    flagged: Floats,
    seen: tuple[Floats, float] | None,
    lowest_flag: int,
    lowest_review: Positions | None,
) -> tuple[int, int, float]:
    """Return the two places that cost least, and that cost: what the first clears and the second flags, at each place.

    `seen` is the weight below each place and how much of it may lie between the two. For the rest see `best_pair`.
    """
    flags = np.arange(lowest_flag, len(cleared))
    first = np.zeros(len(flags), np.int64)
    if seen is not None:
        below, room = seen
        # Sums of weights differ in their last digits by the order of addition.
        slack = 1e-9 * max(1.0, float(below[-1]))
        first = np.minimum(np.searchsorted(below, below[flags] - room - slack, side="left"), flags).astype(np.int64)
    if lowest_review is not None:
        first = np.maximum(first, lowest_review[flags])
    total = _least_between(cleared, first, flags) + flagged[flags]
    at = int(np.argmin(total))
    flag_at = int(flags[at])
    window = cleared[int(first[at]) : flag_at + 1]
    return flag_at - int(np.argmin(window[::-1])), flag_at, float(total[at])


def _least_between(values: Floats, first: Positions, last: Positions) -> Floats:
    """Return the least of values[first : last + 1] for each pair, by tables of windows of 1, 2, 4, ... values."""
    if not first.any():
        return np.asarray(np.minimum.accumulate(values)[last])
    found = np.empty(len(first))
    lengths = last - first + 1
    levels = np.frexp(lengths)[1] - 1
    table = values
    for level in range(int(levels.max()) + 1):
        if level:
            half = 1 << (level - 1)
            table = np.minimum(table[:-half], table[half:])
        asked = np.flatnonzero(levels == level)
        found[asked] = np.minimum(table[first[asked]], table[last[asked] + 1 - (1 << level)])
    return found


def lowest_flag_place(steps: Ladder, sample: Sample, goal: Goal) -> int:
    """Return the lowest place of the second cut that keeps the false-positive rate. Raises NotReachable."""
    if goal.max_fpr is None:
        return 0
    negative = ~sample.labels
    count = int(np.count_nonzero(negative))
    flagged = count - steps.summed_below(negative.astype(np.float64))
    # A hair more, for 0.29 * 100 is a little less than 29.
    kept = np.flatnonzero(flagged <= goal.max_fpr * count + 1e-9)
    if not len(kept):
        raise NotReachable(
            f"{int(flagged[-1])} of {count} negatives have a score of 1: their rate stays above the limit"
        )
    if not goal.upper_end:
        return int(kept[0])
    ranks = np.empty(len(steps.order), np.int64)
    ranks[steps.order] = np.arange(len(steps.order))
    rank, group = ranks[negative], sample.groups[negative]

    def holds(place: int) -> bool:
        high = proportion(rank >= steps.below[place], group).high
        return high is not None and high <= (goal.max_fpr or 0.0)

    # Down to a few flagged the upper end falls with them; of none at all it is that of the number of groups.
    first = int(kept[0])
    few = max(first, int(np.flatnonzero(flagged >= FEW_HITS)[-1])) if flagged[0] >= FEW_HITS else first
    if holds(few):
        low, high = first, few
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle + 1, high)
        return low
    counts = flagged[few:]
    for place in np.unique(-counts, return_index=True)[1]:
        if holds(few + int(place)):
            return few + int(place)
    raise NotReachable(
        f"{count} negatives cannot show a false-positive rate of {goal.max_fpr:g} at the upper end of its interval"
    )


def band_of(starts: tuple[float, ...], amounts: Floats | None, rows: int) -> Positions:
    """Return the band of each row: 0 below the first start."""
    if not starts or amounts is None:
        return np.zeros(rows, np.int64)
    return np.searchsorted(np.array(starts, np.float32), amounts.astype(np.float32), side="right").astype(np.int64)
