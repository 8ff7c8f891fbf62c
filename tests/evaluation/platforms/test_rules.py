"""The gate: what it refuses, what it accepts, and how often it is wrong."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from discern.evaluation.platforms.rules import differences, judge, least_items
from discern.evaluation.platforms.types import Difference

NAMES = ("genuine", "fraud")


def changes(worse: int, better: int, items: int, margin: float) -> Difference:
    """What is said of the positive class at `flag_from` where so many of the items change sides."""
    before = np.array([2] * worse + [0] * better + [2] * (items - worse - better), np.int8)
    after = np.array([0] * worse + [2] * better + [2] * (items - worse - better), np.int8)
    found = differences(before, after, np.ones(items, np.int8), NAMES, margin)
    return next(one for one in found if (one.point, one.label) == ("flag_from", "fraud"))


@cache
def holds(worse: int, better: int, items: int, margin: float) -> bool:
    return changes(worse, better, items, margin).holds


@pytest.mark.parametrize(
    ("items", "margin", "won"), [(300, 0.05, 0.05), (600, 0.05, 0.02), (1000, 0.02, 0.02), (2000, 0.01, 0.01)]
)
def test_a_variant_that_is_worse_by_just_the_margin_passes_in_one_case_of_twenty(
    items: int, margin: float, won: float
) -> None:
    chance = np.random.Generator(np.random.PCG64(11))
    runs = chance.multinomial(items, [won + margin, won, 1 - 2 * won - margin], size=4000)
    pairs, counts = np.unique(runs[:, :2], axis=0, return_counts=True)
    passed = sum(
        int(count)
        for (worse, better), count in zip(pairs.tolist(), counts, strict=True)
        if holds(worse, better, items, margin)
    )
    assert 0.03 <= passed / len(runs) <= 0.07


def test_items_that_belong_together_count_for_less() -> None:
    before = np.full(600, 2, np.int8)
    after = before.copy()
    after[:6] = 0
    alone = differences(before, after, np.ones(600, np.int8), NAMES, 0.02)
    together = differences(before, after, np.ones(600, np.int8), NAMES, 0.02, np.arange(600) // 6)
    assert [one.holds for one in alone if one.label == "fraud"] == [True, True]
    assert [one.holds for one in together if one.label == "fraud"] == [False, False]


@pytest.mark.parametrize("margin", [0.005, 0.01, 0.05, 0.2])
def test_without_one_difference_just_so_many_items_are_needed(margin: float) -> None:
    needed = least_items(margin)
    assert changes(0, 0, needed, margin).holds
    assert not changes(0, 0, needed - 1, margin).holds


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
    return [changes(worse, 0, items, 0.01)]


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
    assert "ruled out with 268 measured items or more" in word.reason


def test_a_loss_refuses_with_its_figure() -> None:
    word = judge(holding(items=1000, worse=9), size=1, size_before=10, speed_up=9.0, margin=0.01)
    assert not word.accepted
    assert "at flag_from 9 of 1000 fraud are lost and 0 won: a loss of up to 0.0" in word.reason
