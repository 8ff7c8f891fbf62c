"""Card precision@k, as the Fraud Detection Handbook has it.

- Each day the k most suspicious cards are looked at, a card as suspicious as its most suspicious payment of the day.
- A card whose fraud was found is blocked, and not looked at on a later day, unless asked otherwise.
- Cards are drawn together in resamples; the order of equally suspicious cards is that of their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.evaluation.statistics import FEW_GROUPS, LEVEL, counted, joined, rows_of
from discern.evaluation.statistics_bootstrap import DRAWS, by_bootstrap
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

CARDS_A_DAY = 100
"""Cards that investigators can look at in a day (the k of card precision@k)."""


class CardRanking:
    """The cards of each day by suspicion, ranked once for any number of resamples.

    `fraud` bool [n], `score` float64 [n], `card` int64 [n] numbered from 0, `day` int64 [n]; at least one row.
    """

    def __init__(self, fraud: ArrayLike, score: ArrayLike, card: ArrayLike, day: ArrayLike) -> None:
        columns = [np.asarray(column) for column in (fraud, score, card, day)]
        # By day, card, and the highest score first, so that a card's first row is its score.
        order = np.lexsort((-columns[1], columns[2], columns[3]))
        hit, value, number, when = (column[order] for column in columns)
        first = np.flatnonzero(np.append(True, (number[1:] != number[:-1]) | (when[1:] != when[:-1])))
        defrauded = np.logical_or.reduceat(hit.astype(np.bool_), first)
        number, value, when = number[first], value[first], when[first]
        self._days: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
        for part in np.split(np.arange(len(first)), np.flatnonzero(np.diff(when)) + 1):
            ranked = part[np.argsort(-value[part], kind="stable")]
            self._days.append((number[ranked], defrauded[ranked]))

    @property
    def fewest(self) -> int:
        """How many cards the quietest day has."""
        return min(len(cards) for cards, _ in self._days)

    def precision(self, weights: Floats, k: int = CARDS_A_DAY, *, once: bool = True) -> Floats:
        """Return, for weights of the cards float64 [draws, cards], the mean over days of what was found of k looks."""
        left = weights.copy()
        found: Floats = np.zeros((len(weights), len(self._days)))
        for position, (cards, defrauded) in enumerate(self._days):
            weight = left[:, cards]
            taken = np.clip(k - (np.cumsum(weight, axis=1) - weight), 0, weight)[:, defrauded]
            found[:, position] = taken.sum(axis=1) / k
            if once:
                caught = cards[defrauded]
                left[:, caught] = np.where(taken > 0, 0.0, left[:, caught])
        means: Floats = found.mean(axis=1)
        return means


def card_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    cards: ArrayLike,
    days: ArrayLike,
    *,
    k: int = CARDS_A_DAY,
    once: bool = True,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Estimate:
    """Return the mean over days of the share of defrauded cards among the k most suspicious, drawn by card.

    `k` must be at least 1. A day with fewer than k cards counts the looks it does not use as not found.
    """
    if k < 1:
        raise ValueError("k is at least 1")
    rows = rows_of(labels, scores, cards)
    if not len(rows.labels):
        return Estimate(None, level=level, caveat="no items with a score")
    when = np.asarray(days)[~np.isnan(np.asarray(scores, np.float64))]
    ranking = CardRanking(rows.labels, rows.scores, rows.groups, when)

    found = by_bootstrap(
        lambda weights: ranking.precision(weights, k, once=once),
        rows.group_count,
        len(rows.labels),
        seed=seed,
        draws=draws,
        level=level,
        method="percentile",
    )
    few = 1 < rows.group_count < FEW_GROUPS
    caveats = [
        f"only {rows.group_count} cards: the interval is unreliable" if few else None,
        f"{counted(rows.without_score, 'row has', 'rows have')} no score and left out" if rows.without_score else None,
        f"a day has only {ranking.fewest} cards, fewer than the {k} looked at" if ranking.fewest < k else None,
        None if rows.positives else "nothing to find: no positive item",
    ]
    return msgspec.structs.replace(found, caveat=joined(*caveats, found.caveat))
