"""Searches that see answers alone: within their norm and budget, and as good as they can be on what is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.evaluation.conditions import attacks
from discern.evaluation.conditions.attacks import FieldSearch, Range, SquareSearch, ranges_of, search, square_share
from discern.inputs.spec import RecordSpec
from tests.evaluation.conditions.conftest import scene


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


class ConditionsAsked:
    """Answers as a threshold on a sum does, and remembers what was asked."""

    def __init__(self, weights: NDArray[np.float64], clear_below: float) -> None:
        self.rows: list[NDArray[Any]] = []
        self._weights = weights
        self._clear_below = clear_below

    def score(self, row: NDArray[Any]) -> float:
        return float(np.sum(row.astype(np.float64) * self._weights))

    def __call__(self, rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        self.rows.extend(rows)
        scores = np.array([self.score(row) for row in rows])
        return scores, np.where(scores < self._clear_below, 0, 2).astype(np.int8)


def test_a_picture_is_changed_within_the_norm_and_ever_lower() -> None:
    picture = scene(1, 24, 24)
    weights = np.random.default_rng(0).choice([-1.0, 1.0], (24, 24, 3))
    ask = ConditionsAsked(weights, -np.inf)
    found = search([SquareSearch(picture, generator(), levels=8, budget=400)], np.array([ask.score(picture)]), ask, 400)
    away = [np.abs(row.astype(int) - picture.astype(int)).max() for row in ask.rows]
    assert max(away) == 8
    assert all(row.dtype == np.uint8 for row in ask.rows)
    assert (found.passed_at.tolist(), found.queries.tolist()) == ([0], [400])
    # A picture that is changed at random lies this many levels away; the best of 400 would be three times that.
    at_random = 8 * weights.size**0.5
    assert ask.score(picture) - min(ask.score(row) for row in ask.rows) > 6 * at_random


def test_a_search_ends_with_its_success_and_counts_every_query() -> None:
    picture = scene(1, 16, 16)
    weights = np.full((16, 16, 3), 1 / 768)
    mean = float(picture.mean())
    ask = ConditionsAsked(weights, mean - 3)
    hopeless = ConditionsAsked(weights, -1)
    found = search([SquareSearch(picture, generator(), levels=8, budget=200)], np.array([mean]), ask, 200)
    assert 0 < found.passed_at[0] < 200
    assert found.queries[0] == found.passed_at[0] == len(ask.rows)
    never = search([SquareSearch(picture, generator(), levels=8, budget=20)], np.array([mean]), hopeless, 20)
    assert (never.passed_at[0], never.queries[0], len(hopeless.rows)) == (0, 20, 20)


def test_an_answer_that_is_none_teaches_nothing_and_is_a_query() -> None:
    def dumb(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        return np.full(len(rows), np.nan), np.full(len(rows), -1, np.int8)

    found = search([SquareSearch(scene(0, 8, 8), generator(), levels=8, budget=5)], np.array([0.9]), dumb, 5)
    assert (found.passed_at[0], found.queries[0]) == (0, 5)


def test_one_search_does_not_depend_on_the_others() -> None:
    pictures = [scene(place, 16, 16) for place in range(40)]
    weights = np.random.default_rng(1).normal(0, 1, (16, 16, 3))

    def run(some: list[int]) -> list[int]:
        ask = ConditionsAsked(weights, float(np.median([float((weights * one).sum()) for one in pictures])) - 300)
        searches = [SquareSearch(pictures[place], generator(place), levels=8, budget=50) for place in some]
        scores = np.array([ask.score(pictures[place]) for place in some])
        return [int(query) for query in search(searches, scores, ask, 50).passed_at]

    together = run(list(range(40)))
    assert len(set(together)) > 3
    assert together[7:9] == run([7, 8])


def test_at_most_so_many_fields_of_a_record_differ_and_stay_in_their_ranges() -> None:
    row = np.array([1.0, np.nan, 5.0, 1.0, 2.0, 9.0], np.float32)
    ranges = [Range(0, 10, False), Range(-1, 1, False), Range(0, 9, True), Range(0, 1, True), Range(0, 2, True)]
    ranges.append(Range(9, 9, True))
    weights = np.array([1.0, 0.0, 2.0, 3.0, 1.0, 0.0])

    def ask(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        asked.extend(rows)
        return np.nansum(rows * weights, axis=1), np.full(len(rows), 2, np.int8)

    asked: list[NDArray[Any]] = []
    search([FieldSearch(row, ranges, generator(4), most=2)], np.array([99.0]), ask, 300)
    tried = np.stack(asked)
    differs = ~((tried == row) | (np.isnan(tried) & np.isnan(row)))
    assert differs.sum(axis=1).max() == 2
    for place, one in enumerate(ranges):
        values = tried[differs[:, place], place]
        assert ((values >= one.low) & (values <= one.high)).all()
        assert not one.whole or (values == np.rint(values)).all()


def test_ranges_are_what_occurs_within_what_is_declared() -> None:
    spec = RecordSpec.model_validate(
        {
            "kind": "record",
            "fields": [
                {"name": "amount", "type": "number", "minimum": 0, "maximum": 50},
                {"name": "count", "type": "integer"},
                {"name": "night", "type": "boolean"},
                {"name": "kind", "type": "category", "categories": ["a", "b", "c"]},
                {"name": "gone", "type": "number", "minimum": 3, "missing": "nan"},
            ],
        }
    )
    rows = np.array([[-5, 2, 0, 0, np.nan], [70, 9, 0, 1, np.nan]], np.float32)
    assert [(one.low, one.high, one.whole) for one in ranges_of(spec, rows)] == [
        (0, 50, False),
        (2, 9, True),
        (0, 1, True),
        (0, 2, True),
        (3, 3, False),
    ]


def test_squares_grow_smaller_over_the_budget() -> None:
    shares = [square_share(query, 1000) for query in range(1000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 0.8
    assert shares[-1] == pytest.approx(0.8 / 512)


def test_success_is_a_share_of_what_was_attacked_at_every_checkpoint_of_the_budget() -> None:
    outcome = attacks.Outcome(np.array([1, 0, 20, 0, 7]), np.array([1, 40, 20, 40, 7]))
    found = attacks.result_of(outcome, np.arange(5), 40, "image", None)
    assert [(point.queries, point.success.value) for point in found.points] == [
        (1, 0.2),
        (3, 0.2),
        (10, 0.4),
        (30, 0.6),
        (40, 0.6),
    ]
    assert all(point.success.low is not None and point.success.high is not None for point in found.points)
    assert (found.attacked, found.queries, found.median_queries) == (5, 108, 7.0)
    nobody = attacks.result_of(
        attacks.Outcome(np.zeros(0, int), np.zeros(0, int)), np.zeros(0, int), 5, "record", "why"
    )
    assert (nobody.points, nobody.median_queries, nobody.caveat) == ((), None, "why")
