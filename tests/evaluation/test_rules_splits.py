"""Splits: whole groups, the same everywhere, both classes on each side as far as groups allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.errors import DatasetRefused
from discern.evaluation.rules_splits import check_time_rule, sides_by_group, sides_by_time
from discern.evaluation.types_datasets import SplitByGroup, SplitByTime


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=200),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_a_group_is_on_one_side_whatever_the_order(rows: list[tuple[int, int]], seed: int, random: object) -> None:
    names = [f"g{number}" for number in range(31)]
    rule = SplitByGroup(seed, {"train": 0.6, "valid": 0.2, "test": 0.2})
    groups, labels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], np.int8)
    sides = sides_by_group(rule, groups, names, labels)
    by_group = {group: {*sides[groups == group]} for group in set(groups.tolist())}
    assert all(len(found) == 1 for found in by_group.values())
    order = np.argsort(groups, kind="stable")[::-1]
    assert sides_by_group(rule, groups[order], names, labels[order]).tolist() == sides[order].tolist()
    renamed = sides_by_group(rule, 30 - groups, names[::-1], labels)
    assert renamed.tolist() == sides.tolist()


def test_both_classes_get_their_share() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 500, 5000)
    labels = (generator.random(500) < 0.1).astype(np.int8)[groups]
    sides = sides_by_group(SplitByGroup(7, {"train": 0.7, "test": 0.3}), groups, [str(n) for n in range(500)], labels)
    for label in (0, 1):
        assert (sides[labels == label] == "train").mean() == pytest.approx(0.7, abs=0.03)


def test_another_seed_is_another_split() -> None:
    names = [str(number) for number in range(50)]
    groups, labels = np.arange(50), np.zeros(50, np.int8)
    first, second = (
        sides_by_group(SplitByGroup(seed, {"a": 0.5, "b": 0.5}), groups, names, labels).tolist() for seed in (0, 1)
    )
    assert first != second


@pytest.mark.parametrize("shares", [{"a": 1.0}, {"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(DatasetRefused, match="shares"):
        sides_by_group(SplitByGroup(0, shares), np.zeros(1, np.int64), ["g"], np.zeros(1, np.int8))


def test_days_between_the_periods_are_on_no_side() -> None:
    rule = SplitByTime({"train": ("1970-01-02", "1970-01-03"), "test": ("1970-01-06", "1970-01-06")}, 2)
    assert sides_by_time(rule, np.arange(7)).tolist() == [None, "train", "train", None, None, "test", None]


@pytest.mark.parametrize(
    ("periods", "delay", "said"),
    [
        ({"a": ("2018-01-01", "2018-01-07"), "b": ("2018-01-14", "2018-01-20")}, 7, "labels are known 7 days on"),
        ({"a": ("2018-01-01", "2018-01-07"), "b": ("2018-01-07", "2018-01-20")}, 0, "begins 0 days after"),
        ({"a": ("2018-01-07", "2018-01-01")}, 0, "ends before it begins"),
        ({"a": ("2018-13-07", "2018-01-01")}, 0, "is no day"),
    ],
)
def test_periods_that_tell_the_future_are_refused(periods: dict[str, tuple[str, str]], delay: int, said: str) -> None:
    with pytest.raises(DatasetRefused, match=said):
        check_time_rule(SplitByTime(periods, delay))
