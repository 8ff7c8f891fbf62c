"""A detector whose thresholds depend on a field of the record is measured at the thresholds that apply."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.detectors.assessment import load_detector
from discern.detectors.bundle import Bundle
from discern.detectors.packing import pack
from discern.evaluation.platforms.service import AcceptedVariant, Outcome
from discern.evaluation.platforms.service_bundle import write_next
from discern.evaluation.platforms.service_measuring import measure_platforms
from discern.evaluation.platforms.types import LabelledRows
from tests.commands import Ran
from tests.detectors import models

# From a = 1 on everything from a score of 0.05 is flagged, below it nothing under 0.95.
DECISION = {
    "review_from": 0.9,
    "flag_from": 0.95,
    "bands": {"field": "a", "steps": [{"from": 1.0, "review_from": 0.02, "flag_from": 0.05}]},
}
WEIGHTS = (1.0, -2.0, 0.5)


@pytest.fixture
def banded(tmp_path: Path) -> Bundle:
    """Two stages of the same model, and exits that change nothing."""
    stages = [
        {"name": "screen", "model": "only.onnx", "exits": {"clear_below": 0.001, "flag_above": 0.999}},
        {"name": "expert", "model": "expert.onnx"},
    ]
    files = {**models.RECORD_FILES, "expert.onnx": models.record_model(WEIGHTS)}
    manifest = models.record_manifest(decision=DECISION, stages=stages)
    return pack(models.write_source(tmp_path / "source", manifest, files), tmp_path / "bundle")


def records(count: int) -> Any:
    return np.random.default_rng(3).normal(0.5, 1.0, (count, 3)).astype(np.float32)


@pytest.mark.system
def test_exits_that_change_nothing_change_nothing_in_any_band(
    banded: Bundle, run: Callable[..., Ran], tmp_path: Path
) -> None:
    rows = records(400)
    columns: dict[str, Any] = dict(zip("abc", rows.T, strict=True))
    columns["label"] = (rows @ WEIGHTS + np.random.default_rng(4).normal(size=400) > 0).astype(int)
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    done = run("evaluate", banded.root, "--data", tmp_path / "t.parquet", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    (dataset,) = tree["datasets"]
    cascade = dataset["cascade"]
    assert cascade["same_decision"]["value"] == 1.0
    flagging = cascade["exits"][1]
    assert flagging["baseline"]["value"] == flagging["candidate"]["value"]
    decided = load_detector(banded).score_rows(rows).decision
    positive = columns["label"] == 1
    assert dataset["operating"]["positive"]["flag"]["value"] == pytest.approx((decided[positive] == 2).mean(), abs=1e-6)
    assert tree["detector"]["bands"]["field"] == "a"
    assert "and <em>review</em> between, but by a: from " in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.system
def test_platforms_count_decisions_at_the_thresholds_of_each_band(banded: Bundle, tmp_path: Path) -> None:
    # A variant that says more of everything: what changes is told from the bands alone.
    more = AcceptedVariant("more", {"expert": models.record_model(WEIGHTS, bias=0.7)}, {}, 1.0)
    varied = write_next(banded, Outcome((), (more,), None), tmp_path / "varied", "1.1.0")
    rows = records(60)
    data = LabelledRows("made", "0" * 64, 0, rows, np.resize([0, 1], 60).astype(np.int8), 0)
    table = measure_platforms(varied, data, cache=tmp_path, runtimes=(), items=60)
    before, after = (load_detector(varied.with_variant(one)).score_rows(rows).decision for one in (None, "more"))
    expected = int((before != after).sum())
    assert expected > 0
    base = [
        np.add(one >= 0.9, one >= 0.95, dtype=int)
        for one in (load_detector(varied.with_variant(name)).score_rows(rows).score for name in (None, "more"))
    ]
    assert int((base[0] != base[1]).sum()) != expected
    assert [row.decisions_differ for row in table.rows] == [0, expected]
