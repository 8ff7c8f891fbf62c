"""Frame scores to one score."""

from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.detectors.pooling import pool, pooled_frames
from discern.inputs.spec import VideoSpec

Way = Literal["mean", "max", "top_mean"]
ways = st.sampled_from(["mean", "max", "top_mean"])
tops = st.integers(1, 16)
scores = st.lists(st.floats(0, 1), min_size=1, max_size=16)


def video(way: Way, top: int = 4) -> VideoSpec:
    return VideoSpec(frames=16, pool=way, top=top)


@pytest.mark.parametrize(
    ("way", "top", "expected", "entering"),
    [
        ("mean", 4, 0.45, [0, 1, 2, 3]),
        ("max", 4, 0.9, [1]),
        ("top_mean", 2, 0.75, [1, 3]),
        ("top_mean", 16, 0.45, [1, 3, 0, 2]),
    ],
)
def test_each_way_pools_what_it_says(way: Way, top: int, expected: float, entering: list[int]) -> None:
    frames = [0.3, 0.9, 0.0, 0.6]
    assert pool(frames, video(way, top)) == pytest.approx(expected, abs=1e-15)
    assert pooled_frames(frames, video(way, top)) == entering


def test_equal_scores_enter_the_pool_in_the_order_of_the_clip() -> None:
    assert pooled_frames([0.5, 0.7, 0.5, 0.7, 0.5], video("top_mean", 3)) == [1, 3, 0]


@given(scores, ways, tops)
def test_the_pool_lies_between_the_lowest_and_the_highest(frames: list[float], way: Way, top: int) -> None:
    assert min(frames) <= pool(frames, video(way, top)) <= max(frames)


@given(scores, ways, tops, st.randoms())
def test_the_order_of_frames_changes_no_bit(frames: list[float], way: Way, top: int, random: object) -> None:
    shuffled = list(frames)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert pool(shuffled, video(way, top)) == pool(frames, video(way, top))


@given(st.floats(0, 1), st.integers(1, 16), ways, tops)
def test_equal_scores_pool_to_that_score(score: float, count: int, way: Way, top: int) -> None:
    assert pool([score] * count, video(way, top)) == score


@given(scores, ways, tops, st.data())
def test_a_higher_frame_never_lowers_the_pool(frames: list[float], way: Way, top: int, data: st.DataObject) -> None:
    frame = data.draw(st.integers(0, len(frames) - 1))
    raised = list(frames)
    raised[frame] = data.draw(st.floats(frames[frame], 1))
    assert pool(raised, video(way, top)) >= pool(frames, video(way, top)) - 1e-15


@given(scores, tops)
def test_more_frames_in_the_pool_never_raise_it(frames: list[float], top: int) -> None:
    highest, some, every = pool(frames, video("max")), pool(frames, video("top_mean", top)), pool(frames, video("mean"))
    assert highest >= some - 1e-15
    assert some >= every - 1e-15


@pytest.mark.parametrize("frames", [[], [0.5, math.nan], [math.inf]])
def test_nothing_and_what_is_no_score_do_not_pool(frames: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one score"):
        pool(frames, video("mean"))
