"""The gate: what it refuses, what it accepts, and how often it is wrong."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from discern.core.verdict import Thresholds
from discern.evaluation.platforms.rules import (
    area_under_roc,
    decided,
    differences,
    judge,
    least_items,
    paired_non_inferiority,
)
from discern.evaluation.platforms.types import Difference

NAMES = ("genuine", "fraud")


def score_by_search(worse: int, better: int, items: int, difference: float) -> float:
    """Tango's statistic with the constrained likelihood maximised by looking, not by the formula."""
    same = items - worse - better
    lost = np.linspace(max(difference, 0), (1 + difference) / 2, 400_001)
    won = lost - difference
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = sum(
            count * np.log(share) if count else np.zeros_like(lost)
            for count, share in ((worse, lost), (better, won), (same, 1 - lost - won))
        )
    best = int(np.nanargmax(likelihood))
    variance = items * (lost[best] + won[best] - difference**2)
    return float((worse - better - items * difference) / math.sqrt(variance))


@pytest.mark.parametrize(
    ("worse", "better", "items"), [(3, 1, 200), (0, 4, 150), (12, 9, 300), (5, 5, 60), (1, 0, 400)]
)
@pytest.mark.parametrize("margin", [0.01, 0.05])
def test_the_test_is_the_one_that_maximises_the_likelihood(worse: int, better: int, items: int, margin: float) -> None:
    result = paired_non_inferiority(worse, better, items, margin)
    assert result.difference == (worse - better) / items
    assert result.holds == (score_by_search(worse, better, items, margin) < -1.644854)
    # The end of the interval is the difference that the test just does not rule out.
    assert score_by_search(worse, better, items, result.upper) == pytest.approx(-1.644854, abs=2e-3)
    assert result.holds == (result.upper < margin)


@cache
def holds(worse: int, better: int, items: int, margin: float) -> bool:
    return paired_non_inferiority(worse, better, items, margin).holds


@pytest.mark.parametrize(
    ("items", "margin", "won"), [(300, 0.05, 0.05), (600, 0.05, 0.02), (1000, 0.02, 0.02), (2000, 0.01, 0.01)]
)
def test_a_variant_that_is_worse_by_just_the_margin_passes_in_one_case_of_twenty(
    items: int, margin: float, won: float
) -> None:
    chance = np.random.Generator(np.random.PCG64(11))
    runs = chance.multinomial(items, [won + margin, won, 1 - 2 * won - margin], size=20_000)
    pairs, counts = np.unique(runs[:, :2], axis=0, return_counts=True)
    passed = sum(
        int(count)
        for (worse, better), count in zip(pairs.tolist(), counts, strict=True)
        if holds(worse, better, items, margin)
    )
    assert 0.03 <= passed / len(runs) <= 0.07


def test_the_interval_covers_the_truth_in_nineteen_cases_of_twenty() -> None:
    items, lost, won = 500, 0.04, 0.03
    chance = np.random.Generator(np.random.PCG64(12))
    runs = chance.multinomial(items, [lost, won, 1 - lost - won], size=20_000)
    pairs, counts = np.unique(runs[:, :2], axis=0, return_counts=True)
    covered = sum(
        int(count)
        for (worse, better), count in zip(pairs.tolist(), counts, strict=True)
        if paired_non_inferiority(worse, better, items, 0.01).upper >= lost - won
    )
    assert 0.93 <= covered / len(runs) <= 0.97


@pytest.mark.parametrize("margin", [0.005, 0.01, 0.05, 0.2])
def test_without_one_difference_just_so_many_items_are_needed(margin: float) -> None:
    needed = least_items(margin)
    assert paired_non_inferiority(0, 0, needed, margin).holds
    assert not paired_non_inferiority(0, 0, needed - 1, margin).holds


@pytest.mark.parametrize(
    ("worse", "better", "items", "margin"),
    [(0, 0, 0, 0.1), (-1, 0, 5, 0.1), (4, 2, 5, 0.1), (0, 0, 5, 0.0), (0, 0, 5, 1)],
)
def test_counts_that_cannot_be_are_refused(worse: int, better: int, items: int, margin: float) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        paired_non_inferiority(worse, better, items, margin)


def test_both_thresholds_and_both_classes_are_looked_at() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1], np.int8)
    before = np.array([0, 0, 1, 2, 2, 1], np.int8)
    after = np.array([1, 0, 2, 2, 1, 0], np.int8)
    found = {(one.point, one.label): (one.worse, one.better) for one in differences(before, after, labels, NAMES, 0.5)}
    assert found == {
        ("review_from", "genuine"): (1, 0),
        ("review_from", "fraud"): (1, 0),
        ("flag_from", "genuine"): (1, 0),
        ("flag_from", "fraud"): (1, 0),
    }


def test_an_item_without_a_score_is_lost_and_one_that_had_none_is_not_looked_at() -> None:
    labels = np.array([0, 0, 1, 1], np.int8)
    before = np.array([0, -1, 2, 2], np.int8)
    after = np.array([-1, 0, -1, 2], np.int8)
    found = {(one.point, one.label): (one.items, one.worse) for one in differences(before, after, labels, NAMES, 0.5)}
    assert found["review_from", "genuine"] == (1, 1)
    assert found["flag_from", "fraud"] == (2, 1)


def test_a_class_without_items_refuses() -> None:
    found = differences(np.array([2], np.int8), np.array([2], np.int8), np.array([1], np.int8), NAMES, 0.5)
    word = judge(found, size=1, size_before=10, speed_up=9.0, margin=0.5)
    assert not word.accepted
    assert word.reason == "there are no items of the class genuine"


def holding(*, items: int = 1000, worse: int = 0) -> list[Difference]:
    return [Difference("flag_from", "fraud", items, worse, 0, *paired_non_inferiority(worse, 0, items, 0.01))]


@pytest.mark.parametrize(
    ("size", "speed_up", "gain"),
    [(50, 1.0, "size"), (51, 1.5, "speed"), (20, 3.0, "size and speed"), (51, 1.49, None), (100, 1.0, None)],
)
def test_what_is_neither_half_the_size_nor_half_again_as_fast_is_refused(
    size: int, speed_up: float, gain: str | None
) -> None:
    word = judge(holding(), size=size, size_before=100, speed_up=speed_up, margin=0.01)
    assert (word.accepted, word.gain) == (gain is not None, gain)
    assert f"{speed_up:.2f} times as fast" in word.reason


def test_too_few_items_refuse_and_say_how_many_are_needed() -> None:
    word = judge(holding(items=20), size=1, size_before=10, speed_up=9.0, margin=0.01)
    assert not word.accepted
    assert "ruled out with 268 items or more" in word.reason


def test_a_loss_refuses_with_its_figure() -> None:
    word = judge(holding(items=1000, worse=9), size=1, size_before=10, speed_up=9.0, margin=0.01)
    assert not word.accepted
    assert "at flag_from 9 of 1000 fraud are lost and 0 won: a loss of up to 0.0" in word.reason


def test_the_area_counts_pairs_and_ties_by_half() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.9, np.nan])
    labels = np.array([0, 0, 1, 1, 1], np.int8)
    assert area_under_roc(scores, labels).value == (0.5 + 1 + 1 + 1) / 4
    assert area_under_roc(scores[:2], labels[:2]).value is None
    assert area_under_roc(scores[:2], labels[:2]).caveat


def test_decisions_follow_the_thresholds() -> None:
    codes = decided(np.array([0.1, 0.4, 0.8, np.nan]), Thresholds(review_from=0.4, flag_from=0.8))
    assert codes.tolist() == [0, 1, 2, -1]
