"""A loaded detector: from outcomes and inputs to assessments."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.core.errors import BundleRefused, DetectorFailed, DiscernError, InternalError
from discern.core.verdict import FrameScore, InputFacts, StageReading
from discern.detectors.assessment import Assessment, Detector, conclude, load_detector
from discern.detectors.bundle import open_bundle
from discern.detectors.cascade import RowOutcome
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageModel
from discern.inputs.types import Prepared
from tests.detectors import models

SCREEN, EXPERT = "screen", "expert"


def cascade_manifest(pool: str = "top_mean", top: int = 2, **changes: Any) -> Manifest:
    """Review from 0.4, flag from 0.8; the classes are dark and bright."""
    return Manifest.model_validate(models.cascade_manifest(video={"frames": 4, "pool": pool, "top": top}, **changes))


def outcome(*scores: float | None, milliseconds: float = 1.0) -> RowOutcome:
    """The outcome of a row that reached as many stages as scores are given; None is a stage that failed."""
    readings = tuple(
        StageReading(name, score, milliseconds, error=None if score is not None else "broke")
        for name, score in zip((SCREEN, EXPERT), scores, strict=False)
    )
    good = [(reading.name, reading.score) for reading in readings if reading.score is not None]
    if not good:
        return RowOutcome(None, SCREEN, readings, error="broke")
    return RowOutcome(good[-1][1], good[-1][0], readings, degraded=EXPERT if scores[-1] is None else None)


@pytest.mark.parametrize(
    ("score", "decision", "label"), [(0.1, "clear", "dark"), (0.5, "review", None), (0.8, "flag", "bright")]
)
def test_one_row_passes_through_with_its_decision_and_label(score: float, decision: str, label: str | None) -> None:
    only = outcome(0.5, score)
    assessment = conclude([only], cascade_manifest())
    assert assessment == Assessment(score, decision, label, EXPERT, only.readings)  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [0.0, 0.1, 0.5, 0.95])
def test_a_degraded_row_is_for_review_whatever_its_score(score: float) -> None:
    assessment = conclude([outcome(score, None)], cascade_manifest())
    assert (assessment.decision, assessment.label, assessment.degraded) == ("review", None, EXPERT)
    assert (assessment.score, assessment.decided_by) == (score, SCREEN)


def test_a_row_without_a_score_is_the_detectors_failure() -> None:
    with pytest.raises(DetectorFailed, match="stage screen gave no score: broke") as caught:
        conclude([outcome(None)], cascade_manifest())
    assert (caught.value.facts["detector"], caught.value.facts["stage"]) == ("toy-cascade", SCREEN)


def test_a_clip_pools_its_frames_and_lists_them() -> None:
    frames = [outcome(0.05), outcome(0.5, 0.9), outcome(0.5, 0.3), outcome(0.95)]
    assessment = conclude(frames, cascade_manifest(), (0.0, 1.0, 2.0, 3.0))
    assert assessment.score == pytest.approx((0.9 + 0.95) / 2)
    assert (assessment.decision, assessment.label) == ("flag", "bright")
    assert assessment.frames == (
        FrameScore(0.0, 0.05, SCREEN),
        FrameScore(1.0, 0.9, EXPERT),
        FrameScore(2.0, 0.3, EXPERT),
        FrameScore(3.0, 0.95, SCREEN),
    )


def test_a_clips_readings_count_rows_sum_time_and_pool_what_the_stage_saw() -> None:
    frames = [outcome(0.05), outcome(0.5, 0.9, milliseconds=2.0), outcome(0.6, 0.3, milliseconds=4.0)]
    screen, expert = conclude(frames, cascade_manifest(), (0.0, 1.0, 2.0)).stages
    assert (screen.name, screen.rows, screen.milliseconds) == (SCREEN, 3, 7.0)
    assert (expert.name, expert.rows, expert.milliseconds) == (EXPERT, 2, 6.0)
    assert [screen.score, expert.score] == pytest.approx([0.55, 0.6])


def test_a_stage_that_no_frame_reached_has_no_reading() -> None:
    stages = conclude([outcome(0.05), outcome(0.02)], cascade_manifest(), (0.0, 1.0)).stages
    assert [stage.name for stage in stages] == [SCREEN]


@pytest.mark.parametrize(
    ("frames", "decided_by"),
    [
        ([outcome(0.05), outcome(0.06), outcome(0.5, 0.9)], EXPERT),  # the pool of two holds one of each: the later
        ([outcome(0.95), outcome(0.96), outcome(0.5, 0.7)], SCREEN),  # only the two highest enter
        ([outcome(0.5, 0.7), outcome(0.5, 0.6), outcome(0.05)], EXPERT),
    ],
)
def test_a_clip_is_decided_by_the_stage_that_decided_most_of_the_pool(
    frames: Sequence[RowOutcome], decided_by: str
) -> None:
    assert conclude(frames, cascade_manifest(), (0.0, 1.0, 2.0)).decided_by == decided_by


@pytest.mark.parametrize("pool", ["mean", "max", "top_mean"])
@pytest.mark.parametrize("low", [0.01, 0.99])
def test_a_clip_with_a_degraded_frame_is_for_review(pool: str, low: float) -> None:
    frames = [outcome(0.95), outcome(0.96), outcome(low, None)]
    assessment = conclude(frames, cascade_manifest(pool), (0.0, 1.0, 2.0))
    assert (assessment.decision, assessment.label, assessment.degraded) == ("review", None, EXPERT)
    assert (assessment.stages[1].score, assessment.stages[1].error) == (None, "1 of 1 frames: broke")


def test_frames_that_the_first_stage_failed_on_degrade_the_clip() -> None:
    assessment = conclude([outcome(None), outcome(0.05), outcome(0.5, None)], cascade_manifest(), (0.0, 1.0, 2.0))
    assert (assessment.decision, assessment.degraded) == ("review", SCREEN)
    assert [frame.seconds for frame in assessment.frames] == [1.0, 2.0]
    assert (assessment.stages[0].rows, assessment.stages[0].error) == (3, "1 of 3 frames: broke")


def test_a_clip_whose_every_frame_failed_is_the_detectors_failure() -> None:
    with pytest.raises(DetectorFailed):
        conclude([outcome(None), outcome(None)], cascade_manifest(), (0.0, 1.0))


# With real models.


def record_detector(content: bytes | None = None, **changes: Any) -> Detector:
    manifest = Manifest.model_validate(models.record_manifest(**changes))
    return Detector(manifest, "0" * 64, {"only": StageModel("only", content or models.record_model())})


def image_detector(**changes: Any) -> Detector:
    opened = {
        SCREEN: StageModel(SCREEN, models.image_model(slope=20)),
        EXPERT: StageModel(EXPERT, models.stacked_model()),
    }
    return Detector(cascade_manifest(**changes), "0" * 64, opened)


def prepared(
    tensor: NDArray[Any], seconds: tuple[float, ...] = (), kind: Literal["image", "video", "record"] = "image"
) -> Prepared:
    return Prepared(tensor, InputFacts(kind=kind, sha256="0" * 64, bytes=tensor.nbytes), seconds)


def record(*values: float) -> Prepared:
    return prepared(np.array([values], dtype=np.float32), kind="record")


def pictures(*brightness: int) -> NDArray[np.uint8]:
    return np.stack([np.full((32, 32, 3), value, dtype=np.uint8) for value in brightness])


def same(one: Assessment | DiscernError, other: Assessment | DiscernError) -> bool:
    """Whether two assessments agree: scores to 1e-6, the rest but the times exactly."""
    if isinstance(one, DiscernError) or isinstance(other, DiscernError):
        return type(one) is type(other) and str(one) == str(other)
    return (
        abs(one.score - other.score) <= 1e-6
        and (one.decision, one.label, one.decided_by, one.degraded)
        == (other.decision, other.label, other.decided_by, other.degraded)
        and [(s.name, s.rows) for s in one.stages] == [(s.name, s.rows) for s in other.stages]
        and [f.seconds for f in one.frames] == [f.seconds for f in other.frames]
    )


def test_inputs_assessed_together_get_what_they_get_alone() -> None:
    detector = image_detector()
    inputs = [
        prepared(pictures(0)),
        prepared(pictures(120, 250, 10, 130), (0.0, 0.5, 1.0, 1.5), "video"),
        prepared(pictures(140)),
        prepared(pictures(125), (0.0,), "video"),
        prepared(pictures(255)),
    ]
    together = detector.assess_many(inputs)
    assert all(same(one, detector.assess(alone)) for one, alone in zip(together, inputs, strict=True))
    assert {one.decided_by for one in together if isinstance(one, Assessment)} == {SCREEN, EXPERT}


def test_a_clip_of_one_frame_scores_what_its_frame_scores() -> None:
    detector = image_detector()
    image = detector.assess(prepared(pictures(140)))
    clip = detector.assess(prepared(pictures(140), (0.25,), "video"))
    assert (clip.score, clip.decision, clip.decided_by) == (image.score, image.decision, image.decided_by)
    assert clip.frames == (FrameScore(0.25, image.score, image.decided_by),)


def test_an_input_that_fails_is_answered_with_its_own_error_and_spoils_no_other() -> None:
    detector = record_detector(models.poisoned_model(), decision={"review_from": 0.6, "flag_from": 0.8})
    first, poisoned, last = detector.assess_many([record(0, 0, 0), record(9, 0, 0), record(0, 1, 0)])
    assert isinstance(poisoned, DetectorFailed)
    assert isinstance(first, Assessment)
    assert isinstance(last, Assessment)
    assert first.score == last.score == 0.5
    with pytest.raises(DetectorFailed, match="toy-record: stage only gave no score"):
        detector.assess(record(9, 0, 0))


@pytest.mark.parametrize(
    "wrong",
    [
        prepared(np.zeros((1, 3), dtype=np.float64), kind="record"),
        prepared(np.zeros((1, 4), dtype=np.float32), kind="record"),
        prepared(np.zeros((2, 3), dtype=np.float32), kind="record"),
        prepared(np.zeros((0, 3), dtype=np.float32), kind="record"),
        prepared(np.zeros((1, 32, 32, 3), dtype=np.uint8)),
        prepared(np.zeros((2, 3), dtype=np.float32), (0.0, 1.0), kind="record"),
    ],
)
def test_a_tensor_that_is_not_the_manifests_is_refused_and_spoils_no_other(wrong: Prepared) -> None:
    detector = record_detector()
    refused, answered = detector.assess_many([wrong, record(0, 0, 0)])
    assert isinstance(refused, InternalError)
    assert isinstance(answered, Assessment)
    with pytest.raises(InternalError, match="toy-record"):
        detector.assess(wrong)


def test_no_inputs_give_no_assessments() -> None:
    assert record_detector().assess_many([]) == []


def test_without_exits_every_stage_answers_and_the_detector_is_unchanged() -> None:
    detector = image_detector()
    dark = prepared(pictures(0))
    assert [stage.name for stage in detector.without_exits().assess(dark).stages] == [SCREEN, EXPERT]
    assert [stage.name for stage in detector.assess(dark).stages] == [SCREEN]


def test_threads_at_once_each_get_their_own_answer() -> None:
    detector = record_detector()
    inputs = [record(value / 50, 0, 0) for value in range(200)]
    expected = [detector.assess(one).score for one in inputs]
    with ThreadPoolExecutor(8) as threads:
        assert [found.score for found in threads.map(detector.assess, inputs)] == expected


# From a bundle on disk.


def test_a_bundle_loads_and_answers(tmp_path: Path) -> None:
    bundle = open_bundle(models.write_bundle(tmp_path / "b", models.cascade_manifest(), models.CASCADE_FILES), None)
    detector = load_detector(bundle)
    assert (detector.manifest, detector.digest) == (bundle.manifest, bundle.digest)
    assert detector.assess(prepared(pictures(255))).decision == "flag"
    assert detector.assess(prepared(pictures(0))).decision == "clear"


def test_the_number_of_threads_changes_no_answer(tmp_path: Path) -> None:
    bundle = open_bundle(models.write_bundle(tmp_path / "b", models.cascade_manifest(), models.CASCADE_FILES), None)
    one, two = load_detector(bundle, threads=1), load_detector(bundle, threads=2)
    assert one.assess(prepared(pictures(140))).score == pytest.approx(
        two.assess(prepared(pictures(140))).score, abs=1e-6
    )


def test_a_model_changed_after_the_bundle_was_opened_is_refused(tmp_path: Path) -> None:
    root = models.write_bundle(tmp_path / "b", models.record_manifest(), models.RECORD_FILES)
    bundle = open_bundle(root, None)
    (root / "only.onnx").write_bytes(models.record_model(bias=5.0))
    with pytest.raises(BundleRefused, match=r"only\.onnx"):
        load_detector(bundle)


@pytest.mark.parametrize(
    ("manifest", "files", "reason"),
    [
        (models.record_manifest(), {"only.onnx": models.image_model()}, "uint8"),
        (
            models.record_manifest(stages=[{"name": "only", "model": "only.onnx", "probability": "chance"}]),
            {},
            "no output 'chance'",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_its_file(
    tmp_path: Path, manifest: dict[str, Any], files: dict[str, bytes], reason: str
) -> None:
    root = models.write_bundle(tmp_path / "b", manifest, models.RECORD_FILES | files)
    with pytest.raises(BundleRefused, match=reason) as caught:
        load_detector(open_bundle(root, None))
    assert caught.value.facts["file"] == "only.onnx"


WINDOWS = {
    "video": {"frames": 8, "pool": "windows"},
    "stream": {
        "window_seconds": 4,
        "measure": "fraction_above",
        "of": SCREEN,
        "from": 0.5,
        "flag_at": 0.5,
        "known_from": 0.6,
        "events": [{"name": "flash", "of": SCREEN, "from": 0.5, "shortest_seconds": 1}],
        "gap_seconds": 2,
    },
}


def by_windows(*scores: float, unknown: Sequence[float] = (), **stream: Any) -> Assessment:
    """A clip of a frame a second."""
    changes = WINDOWS | {"stream": WINDOWS["stream"] | stream}
    manifest = Manifest.model_validate(models.cascade_manifest(**changes))
    seconds = [float(at) for at in range(len(scores) + len(unknown)) if at not in unknown]
    outcomes = [outcome(score, 0.3) for score in scores]
    return conclude(outcomes, manifest, seconds, unknown=unknown, length=len(scores) + len(unknown))


def test_a_clip_is_judged_by_its_windows_where_the_manifest_says_so() -> None:
    found = by_windows(0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1)
    assert (found.score, found.decision, found.label, found.decided_by) == (0.5, "flag", "bright", "window")
    assert found.thresholds is not None
    assert found.thresholds.flag_from == 0.5
    assert found.timeline is not None
    assert found.timeline.start == 4.0
    assert [(event.name, event.start, event.seconds) for event in found.timeline.events] == [("flash", 0.0, 2.0)]
    assert len(found.frames) == 8


def test_frames_without_a_face_make_no_clip_clear() -> None:
    assert by_windows(0.1, 0.1, 0.1, unknown=[3]).decision == "clear"
    found = by_windows(0.1, 0.1, unknown=[0, 3])
    assert (found.decision, found.degraded, found.label) == ("review", "known", None)


def test_a_stage_that_failed_on_a_frame_of_such_a_clip_makes_it_degraded() -> None:
    manifest = Manifest.model_validate(models.cascade_manifest(**WINDOWS))
    found = conclude([outcome(0.9), outcome(0.9, None)], manifest, (0.0, 1.0), length=2)
    assert (found.decision, found.degraded, found.score) == ("review", EXPERT, 1.0)
