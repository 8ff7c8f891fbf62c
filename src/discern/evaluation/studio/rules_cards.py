"""Reviews counted as cards: those of one card on one day are one look at it.

- A card of a day weighs what its heaviest row does: 1 each in a sample, in a resample how often its group was drawn.
- The limit is exact: of all windows of scores that end at a place, the longest that keeps it is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from discern.evaluation.studio.rules import Ladder
    from discern.evaluation.studio.types import Goal, Sample

    Floats = NDArray[np.float64]
    Positions = NDArray[np.int64]


def numbered(cards: NDArray[np.int64], days: NDArray[np.int64]) -> Positions:
    """Return a number for each row, from 0 without gaps, the same for rows of one card on one day."""
    span = int(days.max()) - int(days.min()) + 1
    found = np.unique(cards * span + (days - days.min()), return_inverse=True)[1]
    return np.asarray(found, np.int64)


def weights_of(card_days: Positions, weights: Floats) -> Floats:
    """Return the weight of each card of a day, 0 for those without a row."""
    found = np.zeros(int(card_days.max(initial=-1)) + 1)
    np.maximum.at(found, card_days, weights)
    return found


def room_of(goal: Goal, weights: Floats) -> float:
    """Return how much of the weight of all cards may be reviewed."""
    share = 1.0 if goal.cards is None else goal.cards
    # Sums of weights differ in their last digits by the order of addition.
    return share * float(np.sum(weights)) + 1e-9 * max(1.0, float(np.sum(weights)))


def seen(rows: Iterable[NDArray[np.intp]], card_days: Positions, weights: Floats) -> float:
    """Return the weight of the cards that have one of the rows."""
    there = np.zeros(len(weights), np.bool_)
    for part in rows:
        there[card_days[part]] = True
    return float(np.sum(weights[there]))


def lowest_review_places(steps: Ladder, card_days: Positions, weights: Floats, room: float) -> Positions:
    """Return for each place of the second cut the lowest place of the first that keeps the cards between them in room.

    Both ends of the window only ever rise, so each row comes in once and goes out once.
    """
    ranked, weighs = card_days[steps.order].tolist(), weights.tolist()
    inside = [0] * len(weighs)
    lowest = [0] * (len(ranked) + 1)
    start, total = 0, 0.0
    for end, card in enumerate(ranked, 1):
        if not inside[card]:
            total += weighs[card]
        inside[card] += 1
        while total > room:
            gone = ranked[start]
            start += 1
            inside[gone] -= 1
            if not inside[gone]:
                total -= weighs[gone]
        lowest[end] = start
    return np.searchsorted(steps.below, np.array(lowest)[steps.below], side="left").astype(np.int64)


def reviewed(mask: NDArray[np.bool_], sample: Sample) -> tuple[float, int]:
    """Return the share of the cards of a day that have a row in the mask, and how many there are on the busiest day."""
    if sample.card_days is None or sample.days is None:
        raise ValueError("a sample without cards")
    weights = weights_of(sample.card_days, sample.weights)
    rows = np.flatnonzero(mask)
    first = rows[np.unique(sample.card_days[rows], return_index=True)[1]]
    busiest = np.bincount(sample.days[first] - sample.days.min()).max(initial=0)
    return seen([rows], sample.card_days, weights) / float(np.sum(weights)), int(busiest)
