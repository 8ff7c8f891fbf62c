"""Scores as arrays: they say what the objects say, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from discern.core.errors import DetectorFailed, InternalError
from discern.core.verdict import InputFacts, StageReading
from discern.detectors.assessment import Assessment, Detector
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageModel
from discern.detectors.scoring import DECISIONS, NOT_DEGRADED, UNDECIDED, Scores
from discern.detectors.thresholds import decide
from discern.inputs.types import Prepared
from tests.detectors import models
from tests.detectors.test_cascade import column_model, table_model

NAMES = ("screen", "expert", "judge")
FACTS = InputFacts(kind="record", sha256="0" * 64, bytes=1)


def detector(*contents: bytes, early_exits: bool = True) -> Detector:
    """One stage a content; exits below 0.2 and from 0.9, review from 0.4, flag from 0.8, and a temperature each."""
    stages: list[dict[str, Any]] = [
        {
            "name": name,
            "model": f"{name}.onnx",
            "calibration": {"temperature": temperature},
            "exits": {"clear_below": 0.2, "flag_above": 0.9},
        }
        for name, temperature, _ in zip(NAMES, (1.0, 1.3, 0.7), contents, strict=False)
    ]
    stages[-1].pop("exits")
    manifest = Manifest.model_validate(models.record_manifest(stages=stages))
    opened = {name: StageModel(name, content) for name, content in zip(NAMES, contents, strict=False)}
    return Detector(manifest, "0" * 64, opened, early_exits=early_exits)


DETECTORS = (
    detector(column_model(0)),
    detector(table_model(0)),
    detector(column_model(0), table_model(1)),
    detector(table_model(0), column_model(1), table_model(2)),
    detector(column_model(0), column_model(1), column_model(2), early_exits=False),
)
values = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.2, 0.4, 0.8, 0.9, 1.0, 1.5, 7.0, -1.0, math.nan]))
tables = st.lists(st.tuples(values, values, values), min_size=1, max_size=12).map(
    lambda table: np.array(table, dtype=np.float32)
)


@settings(max_examples=150, deadline=None)
@given(which=st.sampled_from(range(len(DETECTORS))), table=tables)
def test_arrays_say_of_every_row_what_it_is_answered_alone(which: int, table: NDArray[np.float32]) -> None:
    judge = DETECTORS[which]
    scores = judge.score_rows(table)
    for row in range(len(table)):
        alone = judge.assess_many([Prepared(table[row : row + 1], FACTS)])[0]
        if isinstance(alone, DetectorFailed):
            assert math.isnan(scores.score[row])
            assert (scores.decision[row], scores.degraded[row]) == (UNDECIDED, NOT_DEGRADED)
            assert scores.faults[row] == alone.facts["reason"]
            continue
        assert isinstance(alone, Assessment)
        names = [stage.name for stage in judge.manifest.stages]
        degraded = None if scores.degraded[row] == NOT_DEGRADED else names[scores.degraded[row]]
        assert (scores.score[row], names[scores.decided_by[row]]) == (alone.score, alone.decided_by)
        assert (DECISIONS[scores.decision[row]], degraded) == (alone.decision, alone.degraded)
        reached = [(reading.name, reading.score) for reading in alone.stages if reading.score is not None]
        found = [
            (name, score) for name, score in zip(names, scores.stage_scores[row], strict=True) if not np.isnan(score)
        ]
        assert found == reached
        assert scores.faults.get(row) == next((r.error for r in alone.stages if r.error is not None), None)


@settings(max_examples=100, deadline=None)
@given(which=st.sampled_from(range(len(DETECTORS))), table=tables)
def test_rows_that_are_inputs_are_assessed_as_prepared_inputs_are(which: int, table: NDArray[np.float32]) -> None:
    judge = DETECTORS[which]
    together = judge.assess_rows(table)
    prepared = judge.assess_many([Prepared(table[row : row + 1], FACTS) for row in range(len(table))])
    assert [summary(one) for one in together] == [summary(one) for one in prepared]


def summary(one: object) -> tuple[Any, ...]:
    """An assessment or an error without its times."""
    if not isinstance(one, Assessment):
        return type(one), str(one)
    stages = [(reading.name, reading.score, reading.rows, reading.error) for reading in one.stages]
    return one.score, one.decision, one.label, one.decided_by, one.degraded, stages


@given(table=tables)
def test_the_rows_of_a_stage_are_the_rows_the_stage_before_left_open(table: NDArray[np.float32]) -> None:
    judge = DETECTORS[3]
    scores = judge.score_rows(table)
    assert scores.stage_rows[0] == len(table)
    for position in (1, 2):
        before = scores.stage_scores[:, position - 1]
        with np.errstate(invalid="ignore"):
            assert scores.stage_rows[position] == np.count_nonzero((before >= 0.2) & (before < 0.9))


@given(
    st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.4, 0.8]))),
)
def test_decisions_are_those_of_the_rule(given_scores: list[float]) -> None:
    judge = DETECTORS[0]
    count = len(given_scores)
    scores = Scores(
        np.array(given_scores, dtype=np.float64),
        np.zeros(count, np.int16),
        np.full(count, NOT_DEGRADED, np.int16),
        np.array(given_scores, dtype=np.float64).reshape(-1, 1),
        {},
        (count,),
        (1.0,),
        judge.manifest.decision.thresholds,
    )
    expected = [decide(score, judge.manifest.decision.thresholds) for score in given_scores]
    assert [DECISIONS[code] for code in scores.decision] == expected


def test_times_are_summed_over_chunks_and_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discern.detectors.cascade.CHUNK_ROWS", 5)
    table = np.full((23, 3), 0.5, dtype=np.float32)
    scores = DETECTORS[2].score_rows(table)
    assert scores.stage_rows == (23, 23)
    assert all(0 < milliseconds < 10_000 for milliseconds in scores.stage_milliseconds)
    assert scores.shares() == tuple(round(milliseconds / 23, 3) for milliseconds in scores.stage_milliseconds)
    first = DETECTORS[2].assess_rows(table)[0]
    assert isinstance(first, Assessment)
    assert isinstance(first.stages[0], StageReading)


def test_how_many_run_at_a_time_changes_no_answer() -> None:
    table = np.random.default_rng(3).random((600, 3)).astype(np.float32)
    usual = DETECTORS[2].score_rows(table)
    for chunk_rows in (1, 7, 1024):
        other = DETECTORS[2].score_rows(table, chunk_rows=chunk_rows)
        assert (other.decision == usual.decision).all()
        assert other.score == pytest.approx(usual.score, abs=1e-6)


def test_no_rows_give_empty_arrays() -> None:
    scores = DETECTORS[2].score_rows(np.empty((0, 3), dtype=np.float32))
    assert (scores.score.shape, scores.stage_scores.shape, scores.decision.shape) == ((0,), (0, 2), (0,))
    assert (scores.stage_rows, scores.shares(), scores.faults) == ((0, 0), (0.0, 0.0), {})
    assert DETECTORS[2].assess_rows(np.empty((0, 3), dtype=np.float32)) == []


@pytest.mark.parametrize("shape", [(2, 4), (3,), (), (2, 3, 1)])
def test_rows_that_are_not_the_manifests_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InternalError, match=r"toy-record takes a tensor of float32 \[rows, 3\]"):
        DETECTORS[0].score_rows(np.zeros(shape, dtype=np.float32))
    with pytest.raises(InternalError, match="float64"):
        DETECTORS[0].score_rows(np.zeros((2, 3), dtype=np.float64))


def test_images_are_scored_as_arrays_too() -> None:
    judge = Detector(
        Manifest.model_validate(models.image_manifest()), "0" * 64, {"only": StageModel("only", models.image_model())}
    )
    pictures = np.stack([np.full((32, 32, 3), value, dtype=np.uint8) for value in (0, 128, 255)])
    scores = judge.score_rows(pictures)
    alone = [judge.assess(Prepared(pictures[row : row + 1], FACTS)).score for row in range(3)]
    assert scores.score == pytest.approx(alone, abs=1e-6)
