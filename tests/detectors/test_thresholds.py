"""From score to decision."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.verdict import Thresholds
from discern.detectors.thresholds import decide

ORDER = ["clear", "review", "flag"]
shares = st.floats(0, 1)
pairs = st.tuples(shares, shares).map(sorted)


@pytest.mark.parametrize(
    ("score", "decision"),
    [
        (0.0, "clear"),
        (math.nextafter(0.35, 0), "clear"),
        (0.35, "review"),
        (math.nextafter(0.9, 0), "review"),
        (0.9, "flag"),
        (1.0, "flag"),
    ],
)
def test_each_cut_point_belongs_to_the_decision_above_it(score: float, decision: str) -> None:
    assert decide(score, Thresholds(review_from=0.35, flag_from=0.9)) == decision


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -1e-9, 1.0000001])
def test_what_is_not_a_score_gets_no_decision(score: float) -> None:
    with pytest.raises(ValueError, match="not a score"):
        decide(score, Thresholds(review_from=0.35, flag_from=0.9))


def test_equal_thresholds_leave_nothing_for_review() -> None:
    thresholds = Thresholds(review_from=0.5, flag_from=0.5)
    assert {decide(score / 1000, thresholds) for score in range(1001)} == {"clear", "flag"}


@given(shares, shares, pairs)
def test_a_higher_score_never_gets_a_milder_decision(one: float, other: float, cuts: list[float]) -> None:
    thresholds = Thresholds(review_from=cuts[0], flag_from=cuts[1])
    low, high = sorted([one, other])
    assert ORDER.index(decide(low, thresholds)) <= ORDER.index(decide(high, thresholds))


@given(shares, pairs)
def test_the_decision_is_what_the_two_comparisons_say(score: float, cuts: list[float]) -> None:
    decision = decide(score, Thresholds(review_from=cuts[0], flag_from=cuts[1]))
    assert (decision == "flag") == (score >= cuts[1])
    assert (decision == "clear") == (score < cuts[0] and score < cuts[1])
