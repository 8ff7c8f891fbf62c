"""Videos by their frames: what becomes of them, and when nothing can be said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from discern.core.verdict import Thresholds
from discern.evaluation.metrics_videos import VideoResult, video_result
from discern.evaluation.types import Examples, Scored
from discern.inputs.spec import VideoSpec

NAN = float("nan")
THRESHOLDS = Thresholds(0.4, 0.8)


def result(
    videos: list[str] | None, labels: list[int], scores: list[float], rule: VideoSpec | None, **changes: Any
) -> VideoResult | None:
    count = len(scores)
    score = np.array(scores)
    named = None if videos is None else np.array(videos, np.object_)
    numbers = np.unique(videos or range(count), return_inverse=True)[1].astype(np.int64)
    examples = Examples("d", "0", tuple(map(str, range(count))), np.array(labels, np.int8), numbers, videos=named)
    codes = np.add(score >= 0.4, score >= 0.8, dtype=np.int8)
    codes[np.isnan(score)] = -1
    usual: dict[str, Any] = {
        "examples": examples,
        "detector": "toy",
        "version": "1.0.0",
        "bundle_sha256": "0",
        "stages": ("only",),
        "score": score,
        "stage_scores": score[:, None],
        "decided_by": np.zeros(count, np.int16),
        "decision": codes,
        "alone": codes,
        "errors": {},
    }
    return video_result(Scored(**(usual | changes)), rule, THRESHOLDS, seed=1, draws=200)


def rates(found: VideoResult | None) -> dict[str, float | None]:
    assert found is not None
    assert found.operating is not None
    return {word: getattr(found.operating.positive, word).value for word in ("clear", "review", "flag")}


def test_frames_are_pooled_as_those_of_a_clip_are() -> None:
    videos = ["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2
    labels = [1] * 6 + [0] * 4
    scores = [0.1, 0.9, 0.9, 0.2, 0.2, 0.6, 0.3, 0.1, 0.1, 0.3]
    found = result(videos, labels, scores, VideoSpec(frames=4, pool="top_mean", top=2))
    assert found is not None
    assert (found.videos, found.frames, found.positives, found.negatives, found.groups) == (4, 10, 2, 2, 4)
    assert found.pool == "mean of the 2 highest of 4 frames at most"
    assert rates(found) == {"clear": 0.0, "review": 0.5, "flag": 0.5}
    assert found.metrics["auc"].value == 1.0
    assert rates(result(videos, labels, scores, VideoSpec(frames=4, pool="mean", top=1)))["clear"] == 0.5
    assert rates(result(videos, labels, scores, VideoSpec(frames=4, pool="max", top=1)))["flag"] == 0.5


def test_no_more_frames_are_taken_than_of_a_clip_and_evenly_spaced() -> None:
    scores = [0.9 if place == 3 else 0.1 for place in range(12)] + [0.1] * 12
    videos, labels = ["a"] * 12 + ["b"] * 12, [1] * 12 + [0] * 12
    # Of 12 frames 2 are the fourth and the tenth; one is the seventh.
    assert rates(result(videos, labels, scores, VideoSpec(frames=2, pool="max", top=1)))["flag"] == 1.0
    assert rates(result(videos, labels, scores, VideoSpec(frames=1, pool="max", top=1)))["clear"] == 1.0


def test_a_frame_without_a_face_is_left_out_and_one_that_failed_makes_the_video_review() -> None:
    videos, labels = ["a", "a", "b", "b", "c", "c", "d"], [1, 1, 1, 1, 1, 1, 0]
    scores = [0.9, NAN, 0.9, NAN, NAN, NAN, 0.1]
    errors = {1: "no_face_found: none", 3: "detector_failed: broke", 4: "no_face_found: x", 5: "no_face_found: x"}
    found = result(videos, labels, scores, VideoSpec(frames=4, pool="mean", top=1), errors=errors)
    assert rates(found) == {"clear": 0.0, "review": 0.5, "flag": 0.5}
    assert found is not None
    assert found.not_scored == 1


def test_a_frame_that_a_later_stage_failed_on_makes_the_video_review() -> None:
    stage_scores = np.array([[0.9, 0.9], [0.9, NAN], [0.1, 0.1]])
    found = result(
        ["a", "b", "c"],
        [1, 1, 0],
        [0.9, 0.9, 0.1],
        VideoSpec(frames=4, pool="mean", top=1),
        stages=("first", "last"),
        stage_scores=stage_scores,
        decided_by=np.array([1, 0, 1], np.int16),
        decision=np.array([2, 1, 0], np.int8),
    )
    assert rates(found) == {"clear": 0.0, "review": 0.5, "flag": 0.5}


def test_a_video_with_frames_of_either_label_is_counted_and_in_no_figure() -> None:
    found = result(["a", "a", "b", "c"], [1, 0, 1, 0], [0.9, 0.9, 0.9, 0.1], VideoSpec(frames=4, pool="mean", top=1))
    assert found is not None
    assert (found.torn, found.videos, found.positives, found.negatives) == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("rule", "said"), [(None, "has no `video`"), (VideoSpec(frames=4, pool="windows", top=1), "windows of time")]
)
def test_without_a_rule_for_frames_there_is_no_figure_but_a_reason(rule: VideoSpec | None, said: str) -> None:
    found = result(["a", "b"], [1, 0], [0.9, 0.1], rule)
    assert found is not None
    assert (found.videos, found.metrics, found.operating) == (2, {}, None)
    assert said in (found.caveat or "")
    assert result(None, [1, 0], [0.9, 0.1], rule) is None


def test_videos_of_one_class_have_a_caveat_and_no_figure_that_looks_fine() -> None:
    found = result(["a", "b"], [1, 1], [0.9, 0.1], VideoSpec(frames=4, pool="mean", top=1))
    assert found is not None
    assert found.metrics["auc"].value is None
    assert found.metrics["auc"].caveat is not None
