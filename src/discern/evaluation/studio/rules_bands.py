"""Thresholds of several bands that share limits: of reviews, of reviewed cards, of flagged negatives.

- What a limit holds back has a price, the lowest at which all bands together keep it; each band then takes the cheapest
  cuts by itself. Nothing cheaper reviews, or flags, as little as what is found.
- What that leaves of the limits goes to one band after the other, from the last on. A little may still be left unused.
- With two prices that of reviews is found anew for each price of a flagged negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from discern.evaluation.statistics import FEW_HITS, proportion
from discern.evaluation.studio import rules_cards as cards
from discern.evaluation.studio.rules import NotReachable, best_places, ladder, prices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from discern.evaluation.studio.rules import Ladder
    from discern.evaluation.studio.types import Goal, Sample

    Floats = NDArray[np.float64]
    Places = list[tuple[int, int]]

_EXACT = 1e-9
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Part:
    """One band: its rows [m] of the sample and where their scores may be cut."""

    rows: NDArray[np.int64]
    steps: Ladder


def parts_of(sample: Sample, band: NDArray[np.int64], count: int) -> tuple[Part, ...]:
    """Return the bands, by the number of each row's. Raises NotReachable where one of them has no row."""
    scores = sample.stage_scores[:, -1]
    rows = [np.flatnonzero(band == number) for number in range(count)]
    if not all(map(len, rows)):
        raise NotReachable("a band has no items")
    return tuple(Part(one, ladder(scores[one])) for one in rows)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What cuts of one band do, at each place: the cost of clearing below it and of flagging from it on, and weights.

    Costs are beside those of reviewing. `seen` is the weight of the rows below a place, `alarms` that of the
    negatives from it on.
    """

    cleared: Floats
    flagged: Floats
    seen: Floats
    alarms: Floats


class BandedCuts:
    """The cuts of all bands for one weighing of the rows. `times` [n] is how often a row counts, whatever its class.

    Prices are found to the share `precision`, faster where they lie near those of `like`. `rate` limits the share of
    flagged negatives in place of the goal's limit.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        sample: Sample,
        goal: Goal,
        *,
        times: Floats | None = None,
        rate: float | None = None,
        like: BandedCuts | None = None,
        precision: float = _EXACT,
    ) -> None:
        self._parts, self._sample, self._precision = parts, sample, precision
        times = np.ones(len(sample.labels)) if times is None else times
        weights = sample.weights * times
        price = prices(goal.costs, sample.labels, sample.amounts)
        negative = np.where(sample.labels, 0.0, times)
        self._sums = [_sums(part, price, weights, negative) for part in parts]
        self._dearest = float(price.max()) + 1.0
        # Where a flagged negative costs as much no cut is worth one.
        self._most = (2 * self._dearest + 1) * max(1.0, float(np.sum(weights)))
        self._negatives = float(np.sum(negative))
        self._free = False
        self._rate = goal.max_fpr if rate is None else rate
        self._upper_end = goal.upper_end and rate is None
        self._room = np.inf if goal.reviews is None else goal.reviews * float(np.sum(weights))
        self._cards = None
        if goal.cards is not None and sample.card_days is not None:
            self._cards = cards.weights_of(sample.card_days, weights)
            self._cards_room = cards.room_of(goal, self._cards)
        # The prices that were found, or near which they are looked for.
        self.price_of_review: float = self._dearest / 100 if like is None else like.price_of_review
        self.price_of_alarm: float = self._dearest / 100 if like is None else like.price_of_alarm

    def places(self) -> Places:
        """Return the places of both cuts of each band. Raises NotReachable."""
        found = self._at(0.0, 0.0)
        self._free = self._fits(found) and (self._rate is None or self._holds(found))
        if self._free:
            return found
        found = self._cheapest(0.0)
        if self._rate is None or self._holds(found):
            return found
        lowest = _lowest_price(self._held, self.price_of_alarm, self._most, self._precision)
        if lowest is not None:
            self.price_of_alarm, found = lowest
            return found
        if self._upper_end:
            return self._few()
        count, left = int(self._negatives), int(_alarms(self._sums, self._cheapest(self._most)))
        raise NotReachable(f"{left} of {count} negatives have a score of 1: their rate stays above the limit")

    def filled(self, places: Places) -> Places:
        """Return places that cost no more, with each band at its best within what the others leave of the limits."""
        if self._free:
            return places
        found = list(places)
        for number in range(len(found) - 1, -1, -1):
            found[number] = self._best_beside(found, number)
        return found

    def _best_beside(self, places: Places, number: int) -> tuple[int, int]:
        one, others = self._sums[number], [place for at, place in enumerate(places) if at != number]
        beside = [sums for at, sums in enumerate(self._sums) if at != number]
        seen = None if np.isinf(self._room) else (one.seen, max(0.0, self._room - _reviewed(beside, others)))
        lowest_flag, lowest_review = self._lowest_flag(places, number), self._lowest_review(places, number)
        best = best_places(one.cleared, one.flagged, seen, lowest_flag, lowest_review)[:2]
        return best if self._rate is None or self._holds(_with(places, number, best)) else places[number]

    def _lowest_flag(self, places: Places, number: int) -> int:
        """Return the lowest place of the second cut with which the negatives that are flagged are not too many."""
        if self._rate is None:
            return 0
        low, high = 0, places[number][1]
        while low < high:
            middle = (low + high) // 2
            if self._holds(_with(places, number, (middle, middle))):
                high = middle
            else:
                low = middle + 1
        return low

    def _lowest_review(self, places: Places, number: int) -> NDArray[np.int64] | None:
        """Return the lowest places of the first cut where each card of the other bands is one that is seen already."""
        card_days = self._sample.card_days
        if self._cards is None or card_days is None:
            return None
        part = self._parts[number]
        others = [rows for at, rows in enumerate(self._rows_reviewed(places)) if at != number]
        beside = np.ones(len(self._cards), np.bool_)
        for rows in others:
            beside[card_days[rows]] = False
        left = self._cards_room - float(np.sum(self._cards[~beside]))
        return cards.lowest_review_places(part.steps, card_days[part.rows], self._cards * beside, max(0.0, left))

    def rate_of(self, places: Places) -> float:
        """Return the share of the negatives that is flagged."""
        return _alarms(self._sums, places) / max(self._negatives, 1.0)

    def _held(self, alarm: float) -> Places | None:
        found = self._cheapest(alarm)
        return found if self._holds(found) else None

    def _few(self) -> Places:
        """Return the places of the fewest flagged negatives that an interval is narrow for: of none it is wider."""
        low, high, found = 0.0, self._most, None
        while high - low > _NOTHING * self._most:
            middle = (low + high) / 2
            between = self._cheapest(middle)
            if _alarms(self._sums, between) >= FEW_HITS:
                low, found = middle, between
            else:
                high = middle
        if found is None or not self._holds(found):
            raise NotReachable(
                f"{int(self._negatives)} negatives cannot show a false-positive rate of {self._rate:g} at the upper "
                f"end of its interval"
            )
        return found

    def _cheapest(self, alarm: float) -> Places:
        """Return the places at the lowest price of a review at which the limits of reviews are kept."""
        if self._room == 0:
            return [_together(one, alarm) for one in self._sums]
        places = self._at(0.0, alarm)
        if self._fits(places):
            return places
        lowest = _lowest_price(
            lambda review: self._fitting(review, alarm), self.price_of_review, self._dearest, self._precision
        )
        if lowest is None:  # rounding alone: at the dearest nothing is reviewed
            return [_together(one, alarm) for one in self._sums]
        self.price_of_review, places = lowest
        return places

    def _fitting(self, review: float, alarm: float) -> Places | None:
        places = self._at(review, alarm)
        return places if self._fits(places) else None

    def _at(self, review: float, alarm: float) -> Places:
        return [_cheapest_of(one, review, alarm) for one in self._sums]

    def _fits(self, places: Places) -> bool:
        if _reviewed(self._sums, places) > self._room:
            return False
        if self._cards is None or self._sample.card_days is None:
            return True
        return cards.seen(self._rows_reviewed(places), self._sample.card_days, self._cards) <= self._cards_room

    def _rows_reviewed(self, places: Places) -> list[NDArray[np.int64]]:
        return [
            part.rows[part.steps.order[int(part.steps.below[review]) : int(part.steps.below[flag])]]
            for part, (review, flag) in zip(self._parts, places, strict=True)
        ]

    def _holds(self, places: Places) -> bool:
        """Tell whether no more negatives are flagged than may be."""
        rate = self._rate or 0.0
        if _alarms(self._sums, places) > rate * self._negatives * (1 + _NOTHING):
            return False
        if not self._upper_end:
            return True
        flagged = np.zeros(len(self._sample.labels), np.bool_)
        for part, (_, flag) in zip(self._parts, places, strict=True):
            flagged[part.rows[part.steps.order[int(part.steps.below[flag]) :]]] = True
        negative = ~self._sample.labels
        high = proportion(flagged[negative], self._sample.groups[negative]).high
        return high is not None and high <= rate


def _with(places: Places, number: int, place: tuple[int, int]) -> Places:
    return [*places[:number], place, *places[number + 1 :]]


def _alarms(sums: Sequence[_Sums], places: Places) -> float:
    return sum(float(one.alarms[flag]) for one, (_, flag) in zip(sums, places, strict=True))


def _reviewed(sums: Sequence[_Sums], places: Places) -> float:
    return sum(float(one.seen[flag] - one.seen[review]) for one, (review, flag) in zip(sums, places, strict=True))


def _lowest_price(
    find: Callable[[float], Places | None], near: float, most: float, precision: float
) -> tuple[float, Places] | None:
    """Return the lowest price at which `find` has an answer, and the answer; None where it has none up to `most`.

    At a price of nothing it has none.
    """
    low, high = 0.0, min(near, most)
    found = find(high)
    while found is None:
        if high >= most:
            return None
        low, high = high, min(4 * high, most)
        found = find(high)
    while not low and high > _NOTHING * most:
        lower = find(high / 4)
        if lower is None:
            low = high / 4
        else:
            high, found = high / 4, lower
    while high - low > max(precision * high, _NOTHING * most):
        middle = (low + high) / 2
        between = find(middle)
        if between is None:
            low = middle
        else:
            high, found = middle, between
    return high, found


def _sums(part: Part, price: Floats, weights: Floats, negative: Floats) -> _Sums:
    rows, steps = part.rows, part.steps
    clear, review, flag = price[:, rows] * weights[rows]
    flagging = flag - review
    alarms = negative[rows]
    return _Sums(
        steps.summed_below(clear - review),
        float(np.sum(flagging[steps.order])) - steps.summed_below(flagging),
        steps.summed_below(weights[rows]),
        float(np.sum(alarms[steps.order])) - steps.summed_below(alarms),
    )


def _cheapest_of(one: _Sums, review: float, alarm: float) -> tuple[int, int]:
    """Return the cheapest places where a review costs `review` more, and a flagged negative `alarm` more."""
    cleared, flagged = one.cleared, one.flagged
    if review:
        cleared, flagged = cleared - review * one.seen, flagged + review * one.seen
    if alarm:
        flagged = flagged + alarm * one.alarms
    flag_at = int(np.argmin(np.minimum.accumulate(cleared) + flagged))
    return flag_at - int(np.argmin(cleared[flag_at::-1])), flag_at


def _together(one: _Sums, alarm: float) -> tuple[int, int]:
    """Return the cheapest place of both cuts, between which nothing is reviewed."""
    at = int(np.argmin(one.cleared + one.flagged + alarm * one.alarms))
    return at, at
