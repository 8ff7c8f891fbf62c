"""The thresholds of the last stage: one pair for all items, or one for each band of an amount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from discern.evaluation.studio import rules_cards as cards
from discern.evaluation.studio.rules import Pair, band_of, best_pair, ladder, lowest_flag_place, prices
from discern.evaluation.studio.rules_bands import BandedCuts, parts_of
from discern.evaluation.studio.types import Cuts, Goal, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.evaluation.studio.rules import Ladder


def choose_cuts(sample: Sample, goal: Goal, starts: tuple[float, ...] = ()) -> tuple[Cuts, ...]:
    """Return the cheapest thresholds of the last stage, a pair for each band. Raises NotReachable."""
    scores = sample.stage_scores[:, -1]
    if not starts:
        price = prices(goal.costs, sample.labels, sample.amounts)
        room = None if goal.reviews is None else goal.reviews * float(np.sum(sample.weights))
        steps = ladder(scores)
        place = lowest_flag_place(steps, sample, goal)
        pair = best_within(steps, price, sample, goal, sample.weights, room=room, lowest_flag=place)
        return (Cuts(steps.value(pair.review), steps.value(pair.flag)),)
    parts = parts_of(sample, band_of(starts, sample.amounts, len(scores)), len(starts) + 1)
    banded = BandedCuts(parts, sample, goal)
    places = banded.filled(banded.places())
    return tuple(
        Cuts(part.steps.value(review), part.steps.value(flag), None if number == 0 else starts[number - 1])
        for number, (part, (review, flag)) in enumerate(zip(parts, places, strict=True))
    )


def best_within(
    steps: Ladder,
    price: NDArray[np.float64],
    sample: Sample,
    goal: Goal,
    weights: NDArray[np.float64],
    *,
    room: float | None,
    lowest_flag: int,
) -> Pair:
    """Return the cheapest pair of cuts, see `best_pair`, that keeps the goal's limit of cards too."""
    pair = best_pair(steps, price, weights, room=room, lowest_flag=lowest_flag)
    if goal.cards is None or sample.card_days is None:
        return pair
    heavy = cards.weights_of(sample.card_days, weights)
    most = cards.room_of(goal, heavy)
    between = steps.order[int(steps.below[pair.review]) : int(steps.below[pair.flag])]
    if cards.seen([between], sample.card_days, heavy) <= most:
        return pair
    lowest = cards.lowest_review_places(steps, sample.card_days, heavy, most)
    return best_pair(steps, price, weights, room=room, lowest_flag=lowest_flag, lowest_review=lowest)
