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
from discern.evaluation.studio.types import Costs, Cuts, Goal, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Positions = NDArray[np.int64]

CLEAR, REVIEW, FLAG = 0, 1, 2
_DIGITS = 6
_PRICE_STEPS = 60


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
    steps: Ladder, price: Floats, weights: Floats, *, room: float | None = None, lowest_flag: int = 0
) -> Pair:
    """Return the cheapest pair of cuts.

    At most the weight `room` is reviewed, None for any; the second cut stands at place `lowest_flag` or above.
    """
    clear, review, flag = price * weights
    cleared = steps.summed_below(clear - review)
    flagging = flag - review
    flagged = float(np.sum(flagging[steps.order])) - steps.summed_below(flagging)
    flags = np.arange(lowest_flag, len(steps.below))
    first = np.zeros(len(flags), np.int64)
    if room is not None:
        seen = steps.summed_below(weights)
        # Sums of weights differ in their last digits by the order of addition.
        slack = 1e-9 * max(1.0, float(seen[-1]))
        first = np.minimum(np.searchsorted(seen, seen[flags] - room - slack, side="left"), flags).astype(np.int64)
    total = _least_between(cleared, first, flags) + flagged[flags]
    at = int(np.argmin(total))
    flag_at = int(flags[at])
    window = cleared[int(first[at]) : flag_at + 1]
    review_at = flag_at - int(np.argmin(window[::-1]))
    return Pair(review_at, flag_at, float(np.sum(review[steps.order])) + float(total[at]))


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


def choose_cuts(sample: Sample, goal: Goal, starts: tuple[float, ...] = ()) -> tuple[Cuts, ...]:
    """Return the cheapest thresholds of the last stage, a pair for each band. Raises NotReachable.

    Where bands share a limit of reviews, each review is given the price at which the limit holds: nothing cheaper
    reviews as little.
    """
    scores = sample.stage_scores[:, -1]
    price = prices(goal.costs, sample.labels, sample.amounts)
    room = None if goal.reviews is None else goal.reviews * float(np.sum(sample.weights))
    if not starts:
        steps = ladder(scores)
        place = lowest_flag_place(steps, sample, goal)
        pair = best_pair(steps, price, sample.weights, room=room, lowest_flag=place)
        return (Cuts(steps.value(pair.review), steps.value(pair.flag)),)
    band = band_of(starts, sample.amounts, len(scores))
    parts = [np.flatnonzero(band == number) for number in range(len(starts) + 1)]
    ladders = [ladder(scores[rows]) for rows in parts]

    def at(surcharge: float) -> tuple[list[Pair], float]:
        dearer = price + np.array([[0.0], [surcharge], [0.0]])
        pairs, reviewed = [], 0.0
        for rows, steps in zip(parts, ladders, strict=True):
            weights = sample.weights[rows]
            pair = best_pair(steps, dearer[:, rows], weights)
            seen = steps.summed_below(weights)
            reviewed += float(seen[pair.flag] - seen[pair.review])
            pairs.append(pair)
        return pairs, reviewed

    pairs, reviewed = at(0.0)
    if room is not None and reviewed > room:
        low, high = 0.0, float(price.max()) + 1.0
        for _ in range(_PRICE_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if at(middle)[1] <= room else (middle, high)
        pairs, _ = at(high)
    return tuple(
        Cuts(steps.value(pair.review), steps.value(pair.flag), None if number == 0 else starts[number - 1])
        for number, (steps, pair) in enumerate(zip(ladders, pairs, strict=True))
    )
