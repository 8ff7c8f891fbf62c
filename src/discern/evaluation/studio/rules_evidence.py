"""What a choice of thresholds comes to: its cost on groups that it was not made on, its own uncertainty, and what-ifs.

- Expected cost is measured by cross-fitting over groups: in each of five folds thresholds and exits are chosen on the
  other four. Its interval counts groups, not items.
- The interval of a threshold is that of the thresholds chosen on resamples of groups.
- Under another prevalence a class counts more or less, and nothing else changes: scores of a class stay as they are
  distributed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.evaluation.statistics import LEVEL, mean, proportion
from discern.evaluation.statistics_bootstrap import resamples
from discern.evaluation.studio import rules_cards as cards
from discern.evaluation.studio.rules import (
    CLEAR,
    FLAG,
    REVIEW,
    Ladder,
    NotReachable,
    band_of,
    ladder,
    lowest_flag_place,
    prices,
)
from discern.evaluation.studio.rules_bands import BandedCuts, parts_of
from discern.evaluation.studio.rules_cuts import best_within, choose_cuts
from discern.evaluation.studio.rules_exits import choose, cost_of, decisions
from discern.evaluation.studio.types import (
    BandThresholds,
    CardsReviewed,
    Chosen,
    CostPoint,
    Cuts,
    Flow,
    Goal,
    Sample,
    WhatIf,
)
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FOLDS = 5
DRAWS = 500
_FEWEST_DRAWS = 100
_DRAWN_ROWS = 80_000_000
_OF_A_RESAMPLE = 1e-4
_POINTS = 120


def weights_at(labels: NDArray[np.bool_], prevalence: float | None) -> Floats:
    """Return what each row counts where positives are the share `prevalence` of all; 1 for None. The mean is 1."""
    if prevalence is None:
        return np.ones(len(labels))
    share = float(np.mean(labels))
    return np.where(labels, prevalence / share, (1 - prevalence) / (1 - share))


def expected_cost(sample: Sample, goal: Goal, starts: tuple[float, ...], seed: int) -> Estimate:
    """Return the cost of an item at thresholds that other groups chose."""
    count = int(sample.groups.max()) + 1
    held_in = np.random.Generator(np.random.PCG64(seed)).permutation(count)[sample.groups] % FOLDS
    costs = np.empty(len(sample.labels))
    for fold in range(FOLDS):
        held = held_in == fold
        rest = sample.part(~held)
        if not held.any():
            continue
        if len(np.unique(rest.labels)) < 2:
            return Estimate(None, caveat="the positives or the negatives are all in one fold: nothing can be held out")
        try:
            chosen = choose(rest, goal, starts)
        except NotReachable as reason:
            return Estimate(None, caveat=f"without a fifth of the groups: {reason}")
        part = sample.part(held)
        costs[held] = cost_of(decisions(chosen, part)[0], part, goal)
    return mean_cost(costs, sample)


def mean_cost(costs: Floats, sample: Sample) -> Estimate:
    """Return the weighted mean of costs with Student's interval over the sums of groups.

    It covers better than resampling does: few groups hold the errors that cost most. No cost is below zero.
    """
    found = mean(costs * sample.weights / np.mean(sample.weights), sample.groups)
    return found if found.low is None else msgspec.structs.replace(found, low=max(found.low, 0.0))


def threshold_intervals(sample: Sample, goal: Goal, chosen: Cuts, seed: int) -> tuple[Estimate, Estimate]:
    """Return the two thresholds with the intervals of those that resamples choose."""
    steps = ladder(sample.stage_scores[:, -1])
    price = prices(goal.costs, sample.labels, sample.amounts)
    lowest = lowest_flag_place(steps, sample, goal)
    negative = (~sample.labels).astype(np.float64)
    flagged = float(negative.sum()) - steps.summed_below(negative)
    rate = float(flagged[lowest] / negative.sum())

    def places(times: Floats) -> list[tuple[int, int]]:
        weights = times * sample.weights
        place = 0
        if goal.max_fpr is not None:
            drawn = times * negative
            all_of_them = float(np.sum(drawn))
            within = all_of_them - steps.summed_below(drawn) <= rate * all_of_them + 1e-9
            # Where scores of 1, which no cut is above, are more than that, the highest cut comes nearest.
            place = int(np.argmax(within)) if within[-1] else len(within) - 1
        room = None if goal.reviews is None else goal.reviews * float(np.sum(weights))
        pair = best_within(steps, price, sample, goal, weights, room=room, lowest_flag=place)
        return [(pair.review, pair.flag)]

    draws = DRAWS if goal.cards is None else _draws_for(sample)
    return _intervals([steps], (chosen,), _resampled(sample, seed, draws, places), seed)[0]


def band_intervals(
    sample: Sample, goal: Goal, cuts: tuple[Cuts, ...], starts: tuple[float, ...], seed: int
) -> tuple[BandThresholds, ...]:
    """Return the thresholds of each band with the intervals of those that resamples choose for all bands at once.

    Where the limit of flagged negatives is one of an interval's upper end, a resample is held to the rate that was
    chosen.
    """
    parts = parts_of(sample, band_of(starts, sample.amounts, len(sample.labels)), len(starts) + 1)
    whole = BandedCuts(parts, sample, goal)
    chosen = whole.filled(whole.places())
    rate = whole.rate_of(chosen) if goal.upper_end and goal.max_fpr is not None else None

    def places(times: Floats) -> list[tuple[int, int]]:
        banded = BandedCuts(parts, sample, goal, times=times, rate=rate, like=whole, precision=_OF_A_RESAMPLE)
        try:
            return banded.filled(banded.places())
        except NotReachable:
            # A resample may hold more negatives that no cut parts from the positives.
            return chosen

    found = _resampled(sample, seed, _draws_for(sample), places)
    estimates = _intervals([part.steps for part in parts], cuts, found, seed)
    return tuple(BandThresholds(one.start, *pair) for one, pair in zip(cuts, estimates, strict=True))


def _draws_for(sample: Sample) -> int:
    """Return how many resamples are chosen on anew: fewer of many rows, each of which takes its time."""
    return int(min(DRAWS, max(_FEWEST_DRAWS, _DRAWN_ROWS // len(sample.labels))))


def _resampled(
    sample: Sample, seed: int, draws: int, places: Callable[[Floats], list[tuple[int, int]]]
) -> NDArray[np.int64]:
    """Return the places that resamples of groups choose, int64 [draws, bands, 2]."""
    count = int(sample.groups.max()) + 1
    return np.array(
        [
            places(counts[sample.groups])
            for drawn in resamples(count, len(sample.labels), seed=seed, draws=draws)
            for counts in drawn
        ]
    )


def _intervals(
    ladders: Sequence[Ladder], cuts: tuple[Cuts, ...], found: NDArray[np.int64], seed: int
) -> list[tuple[Estimate, Estimate]]:
    edges = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="nearest").astype(int)
    name = f"cluster bootstrap, percentile, {len(found)} draws, seed {seed}"

    def interval(value: float, steps: Ladder, low: int, high: int) -> Estimate:
        return Estimate(value, steps.value(low), steps.value(high), method=name)

    return [
        (
            interval(one.review_from, steps, int(low[0]), int(high[0])),
            interval(one.flag_from, steps, int(low[1]), int(high[1])),
        )
        for one, steps, low, high in zip(cuts, ladders, *edges, strict=True)
    ]


def flows(decided: NDArray[np.int8], sample: Sample, names: tuple[str, str]) -> tuple[Flow, ...]:
    """Return what becomes of the items of each class."""
    made = []
    for label, name in ((False, names[0]), (True, names[1])):
        rows = sample.labels == label
        shares = [proportion(decided[rows] == code, sample.groups[rows]) for code in (CLEAR, REVIEW, FLAG)]
        made.append(Flow(name, int(np.count_nonzero(rows)), *shares))
    return tuple(made)


def weighted_mean(values: Floats, sample: Sample) -> float:
    """Return the mean of values, each row counting as its weight says."""
    return float(np.sum(values * sample.weights) / np.sum(sample.weights))


def reviews_of(chosen: Chosen, sample: Sample) -> float:
    """Return the share of items that is reviewed."""
    return weighted_mean((decisions(chosen, sample)[0] == REVIEW).astype(np.float64), sample)


def cards_reviewed(chosen: Chosen, sample: Sample, allowed: float, paying: float) -> CardsReviewed:
    """Return what becomes of the cards of a day of which `paying` pay where it runs."""
    share, busiest = cards.reviewed(decisions(chosen, sample)[0] == REVIEW, sample)
    return CardsReviewed(allowed, paying, share * paying, busiest)


def what_if(
    sample: Sample, goal: Goal, starts: tuple[float, ...], chosen: Chosen, prevalence: float, items_a_day: float | None
) -> tuple[WhatIf, ...]:
    """Return what other costs, prevalences and capacities would choose, and what the chosen thresholds cost there.

    Where the chosen ones keep the limits and cost less than what the choice finds there, which shares a capacity out by
    one price, they are the best.
    """
    found = []
    for name, other, rows in _assumptions(sample, goal, prevalence, reviews_of(chosen, sample), items_a_day):
        try:
            cuts = choose_cuts(rows, other, starts)
        except NotReachable:
            continue
        best = Chosen(cuts)
        cost, kept = (weighted_mean(cost_of(decisions(one, rows)[0], rows, other), rows) for one in (best, chosen))
        keeps = _keeps(chosen, rows, other)
        if keeps and kept < cost:
            best, cost = chosen, kept
        first = best.cuts[0]
        found.append(WhatIf(name, first.review_from, first.flag_from, cost, kept, reviews_of(best, rows), keeps))
    return tuple(found)


def _keeps(chosen: Chosen, sample: Sample, goal: Goal) -> bool:
    if goal.reviews is not None and reviews_of(chosen, sample) > goal.reviews:
        return False
    decided = decisions(chosen, sample)[0]
    if goal.cards is not None and cards.reviewed(decided == REVIEW, sample)[0] > goal.cards:
        return False
    flagged = decided[~sample.labels] == FLAG
    return goal.max_fpr is None or float(np.mean(flagged)) <= goal.max_fpr


def _assumptions(
    sample: Sample, goal: Goal, prevalence: float, reviews: float, items_a_day: float | None
) -> list[tuple[str, Goal, Sample]]:
    costs, change = goal.costs, msgspec.structs.replace
    made: list[tuple[str, Goal, Sample]] = []
    several = sum(map(bool, (costs.miss or costs.amount_share, costs.false_alarm, costs.review))) > 1
    for factor in (0.5, 2.0, 5.0):
        changed = {
            "misses": change(costs, miss=costs.miss * factor, amount_share=costs.amount_share * factor),
            "false alarms": change(costs, false_alarm=costs.false_alarm * factor),
            "reviews": change(costs, review=costs.review * factor),
        }
        made += [
            (f"{name} cost {factor:g} times as much", change(goal, costs=other), sample)
            for name, other in changed.items()
            # Only ratios matter: where one thing alone costs, as much more of it changes nothing.
            if other != costs and several
        ]
    for factor in (0.1, 0.5, 2.0, 10.0):
        share = prevalence * factor
        # Of another prevalence it is not known how many cards would have several payments.
        if share < 1 and goal.cards is None:
            rows = sample.weighing(weights_at(sample.labels, share))
            made.append((f"{share * 100:.3g} % of the items are positive", goal, rows))
    for rate in () if goal.max_fpr is None else (goal.max_fpr * 0.5, goal.max_fpr * 2):
        if rate < 1:
            said = f"at most {rate * 100:.3g} % of the negatives are flagged"
            made.append((said, change(goal, max_fpr=rate), sample))
    for factor in (0.5, 2.0):
        if goal.cards is not None and goal.cards * factor <= 1:
            share = goal.cards * factor
            made.append(
                (f"at most {share * 100:.3g} % of a day's cards are reviewed", change(goal, cards=share), sample)
            )
    if goal.cards is not None and goal.reviews is None:
        return made
    base = goal.reviews if goal.reviews is not None else reviews
    for factor in (0.5, 2.0):
        share = base * factor
        if 0 < share <= 1:
            said = f"at most {share * 100:.3g} % of the items are reviewed"
            if items_a_day is not None:
                many = share * items_a_day
                said += f", {many:,.0f} a day" if many >= 10 else f", {many:.2g} a day"
            made.append((said, change(goal, reviews=share), sample))
    return made


def cost_curves(sample: Sample, goal: Goal, cuts: Cuts) -> tuple[tuple[CostPoint, ...], tuple[CostPoint, ...]]:
    """Return the cost of an item as one threshold of the last stage moves and the other stays: review, then flag."""
    steps = ladder(sample.stage_scores[:, -1])
    clear, review, flag = prices(goal.costs, sample.labels, sample.amounts) * sample.weights
    cleared, flagging = steps.summed_below(clear - review), flag - review
    flagged = float(np.sum(flagging)) - steps.summed_below(flagging)
    reviewed, total = float(np.sum(review)), float(np.sum(sample.weights))
    # The place of a cut is the last whose lower neighbour is below it.
    at_review, at_flag = (int(np.searchsorted(steps.low, cut) - 1) for cut in (cuts.review_from, cuts.flag_from))

    def points(places: NDArray[np.int64], costs: Floats) -> tuple[CostPoint, ...]:
        kept = np.unique(np.linspace(0, len(places) - 1, min(_POINTS, len(places))).astype(int))
        return tuple(CostPoint(steps.value(int(places[at])), float((reviewed + costs[at]) / total)) for at in kept)

    left, right = np.arange(at_flag + 1), np.arange(at_review, len(steps.below))
    return points(left, cleared[left] + flagged[at_flag]), points(right, cleared[at_review] + flagged[right])
