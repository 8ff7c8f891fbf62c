"""What hours have together that cannot be added up, within what is promised."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.errors import InvalidSettings
from discern.monitoring.analytics.rules import cost_of, prices_of
from discern.monitoring.analytics.rules_sketches import (
    ACCURACY,
    MOST_CALLERS,
    caller_hash,
    callers_bytes,
    callers_in,
    callers_of,
    cell_of,
    histogram_bytes,
    histogram_of,
    least,
    quantile,
    together,
)
from discern.monitoring.analytics.types import Numbers


def counted(values: list[float]) -> dict[int, float]:
    return together({cell_of(value): 1.0} for value in values)


@given(st.lists(st.floats(0.001, 1e7), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_near_a_value_of_its_rank(values: list[float], share: float) -> None:
    found = quantile(counted(values), share)
    rank = next(number for number in range(1, len(values) + 1) if number >= share * len(values) * (1 - 1e-12))
    assert found == pytest.approx(sorted(values)[rank - 1], rel=ACCURACY * 1.001)


@given(st.lists(st.floats(0.001, 1e5), max_size=60), st.lists(st.floats(0.001, 1e5), max_size=60))
def test_parts_put_together_are_the_whole(some: list[float], others: list[float]) -> None:
    assert together([counted(some), counted(others)]) == counted(some + others)
    assert histogram_of(histogram_bytes(counted(some))) == counted(some)


def test_nothing_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({cell_of(0.0): 1.0}, 0.5) == pytest.approx(0.001, rel=0.03)


def test_callers_are_exact_up_to_a_thousand_and_near_beyond() -> None:
    halves = [least(caller_hash("w", f"key:{number}") for number in part) for part in (range(600), range(300, 1000))]
    assert callers_in(least((*halves[0], *halves[1]))) == 1000
    many = [caller_hash("w", f"key:{number}") for number in range(50_000)]
    random.Random(5).shuffle(many)
    parts = [least(many[start::7]) for start in range(7)]
    together_kept = least(one for part in parts for one in part)
    assert together_kept == least(many)
    assert len(together_kept) == MOST_CALLERS
    assert callers_in(together_kept) == pytest.approx(50_000, rel=0.1)
    assert callers_of(callers_bytes(together_kept)) == together_kept


def test_the_same_caller_of_two_workspaces_cannot_be_told_to_be_the_same() -> None:
    assert caller_hash("a", "user:1") != caller_hash("b", "user:1")


def test_prices_are_of_a_detector_or_of_all_others() -> None:
    prices = prices_of("EUR", 36.0, " card-fraud=0.002, *=0.0005 ")
    some = Numbers(verdicts=100, milliseconds=1000.0)
    assert cost_of(some, "card-fraud", prices) == pytest.approx(0.21)
    assert cost_of(some, "else", prices) == pytest.approx(0.06)
    assert cost_of(some, "else", prices_of("EUR", 0.0, "card-fraud=1")) == 0.0


@pytest.mark.parametrize("text", ["card-fraud", "a=b", "a=-1", "a=nan", "=1", "a=1,a=2", "a=1e99"])
def test_a_price_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(InvalidSettings, match="price_per_verdict"):
        prices_of("EUR", 0.0, text)


@pytest.mark.parametrize("text", ["", "eur", "EURO", "E$R"])
def test_a_currency_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(InvalidSettings, match="currency"):
        prices_of(text, 0.0, "")
