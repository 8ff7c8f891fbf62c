"""Thresholds that depend on a field of the record: every door decides alike and says which applied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from discern.core.errors import InternalError
from discern.core.verdict import Thresholds
from discern.detectors.assessment import Assessment, Detector
from discern.detectors.checks.contract import check_decisions_follow_the_scores
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageModel
from discern.detectors.scoring import DECISIONS
from discern.detectors.thresholds import decide
from discern.evaluation.rules_exits import with_exits
from tests.detectors import models

STEPS = [
    {"from": 10.1, "review_from": 0.3, "flag_from": 0.6},
    {"from": 50, "review_from": 0.1, "flag_from": 0.2},
]


def banded(field: str = "c", steps: list[dict[str, Any]] | None = None, **changes: Any) -> Manifest:
    bands = {"field": field, "steps": STEPS if steps is None else steps}
    decision = {"review_from": 0.4, "flag_from": 0.8, "bands": bands}
    return Manifest.model_validate(models.record_manifest(decision=decision) | changes)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(banded(), "0" * 64, {"only": StageModel("only", models.RECORD_FILES["only.onnx"])})


def expected(amount: float) -> Thresholds:
    if amount >= np.float32(50):
        return Thresholds(0.1, 0.2)
    return Thresholds(0.3, 0.6) if amount >= np.float32(10.1) else Thresholds(0.4, 0.8)


def test_each_record_is_decided_by_the_thresholds_of_its_own_band(detector: Detector) -> None:
    random = np.random.default_rng(7)
    rows = random.normal(0, 1, (400, 3)).astype(np.float32)
    rows[:, 2] = random.choice(np.array([-5, 10.1, 10.0, 50, 49.99, 99], np.float32), 400)
    rows[:, 0] -= rows[:, 2] / 2  # so that the band's field alone moves no score
    together = detector.assess_rows(rows)
    scores = detector.score_rows(rows)
    decided = set()
    for row, one, code in zip(rows, together, scores.decision.tolist(), strict=True):
        assert isinstance(one, Assessment)
        assert one.thresholds == expected(float(row[2]))
        assert one.decision == decide(one.score, expected(float(row[2]))) == DECISIONS[code]
        decided.add((one.thresholds, one.decision))
        (alone,) = detector.assess_rows(row[None])
        assert isinstance(alone, Assessment)
        assert (alone.decision, alone.thresholds) == (one.decision, one.thresholds)
    assert len(decided) >= 7
    same = with_exits(scores.stage_scores, detector.manifest, rows)
    assert (same.decision == scores.decision).all()


def test_without_the_records_nothing_is_decided(detector: Detector) -> None:
    with pytest.raises(InternalError, match="3 bands, and no records came"):
        with_exits(np.array([[0.5]]), detector.manifest)


def test_the_check_of_decisions_reads_the_bands(detector: Detector) -> None:
    assert "flag" in check_decisions_follow_the_scores(None, detector)  # type: ignore[arg-type]


def test_the_manifest_comes_back_as_it_was() -> None:
    manifest = banded()
    dumped = manifest.model_dump(mode="json")
    assert dumped["decision"]["bands"]["steps"][0]["from"] == 10.1
    assert Manifest.model_validate(dumped) == manifest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"field": "z"}, "'z' is no number"),
        ({"steps": STEPS[::-1]}, "must rise"),
        ({"steps": [{"from": 1, "review_from": 0.5, "flag_from": 0.4}]}, "review_from 0.5 is above flag_from 0.4"),
        ({"steps": []}, "at least 1"),
    ],
)
def test_bands_that_contradict_themselves_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        banded(**change)


def test_a_field_that_may_miss_makes_no_bands() -> None:
    fields = [{"name": name, "type": "number", "missing": "nan"} for name in "abc"]
    with pytest.raises(ValidationError, match="no number of the input that may not miss"):
        banded(input={"kind": "record", "fields": fields})


def test_a_detector_of_images_has_no_bands() -> None:
    decision = {"review_from": 0.4, "flag_from": 0.8, "bands": {"field": "a", "steps": STEPS}}
    with pytest.raises(ValidationError, match="only a detector of records"):
        Manifest.model_validate(models.image_manifest(decision=decision))


def test_exits_agree_with_the_mildest_and_the_strictest_band() -> None:
    stages = [
        {"name": "first", "model": "first.onnx", "exits": {"clear_below": 0.15, "flag_above": 0.9}},
        {"name": "only", "model": "only.onnx"},
    ]
    with pytest.raises(ValidationError, match=r"clear_below must be at most 0.1, flag_above at least 0.8"):
        banded(stages=stages)
