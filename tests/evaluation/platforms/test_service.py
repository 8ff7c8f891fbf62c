"""Variants made, put to the gate, and written into the next version."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.core.errors import BundleRefused, OperatorError
from discern.detectors.assessment import load_detector
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.packing import next_version, pack
from discern.detectors.signing import sign_bundle
from discern.evaluation.platforms.service import AcceptedVariant, Outcome, optimise, times_as_fast
from discern.evaluation.platforms.service_bundle import write_next
from discern.evaluation.platforms.types import TOGETHER, GateResult, LabelledRows
from tests.detectors import models, networks
from tests.evaluation.platforms.conftest import MARGIN, manifest


def tried(bundle: Bundle, data: LabelledRows, **changes: Any) -> Outcome:
    given: dict[str, Any] = {"margin": MARGIN, "watch": lambda _text: None}
    return optimise(bundle, data, **given | changes)


def by_name(outcome: Outcome) -> dict[tuple[str, str], GateResult]:
    return {(one.variant, one.stage): one for one in outcome.results}


def near(sharpness: float = 4000.0) -> bytes:
    """A network so sharp that the rounding of its weights alone turns decisions."""
    return networks.network(sharpness)


def packed(folder: Path, files: dict[str, bytes], **changes: Any) -> Bundle:
    files = {**files, "CARD.md": models.CARD.encode()}
    return pack(models.write_source(folder / "source", manifest(**changes), files), folder / "bundle")


@pytest.fixture(scope="module")
def outcome(bundle: Bundle, data: LabelledRows) -> Outcome:
    return tried(bundle, data)


def test_what_is_half_the_size_and_as_good_is_accepted_with_its_evidence(outcome: Outcome, data: LabelledRows) -> None:
    result = by_name(outcome)["int8-weights", "only"]
    assert result.accepted
    assert result.gain in {"size", "size and speed"}
    assert result.size is not None
    assert result.size_before is not None
    assert result.size * 2 <= result.size_before
    assert len(result.differences) == 4
    assert all(one.items == (len(data.labels) - data.calibration) // 2 for one in result.differences)
    variant = next(one for one in outcome.accepted if one.name == "int8-weights")
    assert variant.evidence["margin"] == MARGIN
    assert variant.evidence["dataset_sha256"] == data.sha256
    assert variant.evidence["bytes"] == {"only": result.size}
    assert "speed_up" not in str(variant.evidence)


def test_what_gains_too_little_is_refused_with_the_figure(bundle: Bundle, data: LabelledRows) -> None:
    result = by_name(tried(bundle, data, kinds=("fp16",)))["fp16", "only"]
    assert result.size is not None
    assert result.size_before is not None
    assert result.speed_up is not None
    assert result.size * 2 > result.size_before
    assert result.accepted == (result.speed_up >= 1.5)
    assert result.accepted or "50% or 1.5 times are asked for" in result.reason


def test_what_turns_decisions_is_refused_with_the_figure(tmp_path: Path, data: LabelledRows) -> None:
    chance = np.random.Generator(np.random.PCG64(3))
    # Every picture stands at the thresholds: a little rounding decides.
    grey = np.clip(127.5 + chance.normal(0, 40, data.rows.shape), 0, 255).astype(np.uint8)
    close = LabelledRows("close", data.sha256, 0, grey, data.labels, data.calibration)
    found = tried(packed(tmp_path, {"only.onnx": near()}), close, kinds=("int8",))
    result = found.results[0]
    assert not result.accepted
    assert "are lost" in result.reason
    assert f"{MARGIN:g} is the margin" in result.reason
    assert found.accepted == ()
    assert found.serves is None


def test_too_few_items_are_not_evidence(bundle: Bundle, data: LabelledRows) -> None:
    ten = LabelledRows("ten", data.sha256, 0, data.rows[:14], np.array([0, 1] * 7, np.int8), 4)
    found = tried(bundle, ten)
    assert not any(one.accepted for one in found.results)
    assert "or more" in by_name(found)["int8-weights", "only"].reason


def test_a_model_that_does_not_convert_is_said_to_and_the_others_go_on(tmp_path: Path, data: LabelledRows) -> None:
    stages = [
        {"name": "screen", "model": "screen.onnx", "exits": {"clear_below": 0.0, "flag_above": 1.0}},
        {"name": "expert", "model": "expert.onnx"},
    ]
    files = {"screen.onnx": models.image_model(), "expert.onnx": networks.network()}
    found = tried(packed(tmp_path, files, stages=stages), data, kinds=("int8-weights",))
    results = by_name(found)
    assert results["int8-weights", "screen"].reason.startswith("not converted: no tensor of 1024 numbers")
    assert results["int8-weights", "expert"].accepted
    assert [sorted(one.models) for one in found.accepted] == [["expert"]]


def test_stages_that_pass_go_through_the_gate_together(tmp_path: Path, data: LabelledRows) -> None:
    stages = [
        {"name": "screen", "model": "screen.onnx", "exits": {"clear_below": 0.1, "flag_above": 0.95}},
        {"name": "expert", "model": "expert.onnx"},
    ]
    files = {"screen.onnx": networks.network(2.0), "expert.onnx": networks.network()}
    found = tried(packed(tmp_path, files, stages=stages), data, kinds=("int8-weights",))
    results = by_name(found)
    assert results["int8-weights", TOGETHER].accepted
    assert results["int8-weights", TOGETHER].size == sum(
        results["int8-weights", name].size or 0 for name in ("screen", "expert")
    )
    assert [sorted(one.models) for one in found.accepted] == [["expert", "screen"]]
    assert {one["stage"] for one in found.accepted[0].evidence["differences"]} == {TOGETHER}


def test_originals_that_do_not_open_are_refused(tmp_path: Path, data: LabelledRows) -> None:
    bundle = packed(tmp_path, {"only.onnx": models.custom_operator_model("")})
    with pytest.raises(BundleRefused):
        tried(bundle, data)


def test_the_same_data_give_the_same_models_and_evidence(bundle: Bundle, data: LabelledRows) -> None:
    first, second = (tried(bundle, data, kinds=("int8-weights",)).accepted[0] for _ in range(2))
    assert (first.models, first.evidence) == (second.models, second.evidence)


def test_the_next_version_holds_the_variants_and_the_original_as_it_was(
    bundle: Bundle, outcome: Outcome, tmp_path: Path, data: LabelledRows
) -> None:
    served = Outcome(outcome.results, outcome.accepted, "int8-weights")
    made = write_next(bundle, served, tmp_path / "next", "1.1.0")
    assert made.manifest.version == "1.1.0"
    assert made.variant == "int8-weights"
    assert made.signer is None
    for name in bundle.manifest.files:
        assert made.read(name) == bundle.read(name)
    before = load_detector(bundle).score_rows(data.rows[:8]).score
    assert np.array_equal(load_detector(made.with_variant(None)).score_rows(data.rows[:8]).score, before)
    assert not np.array_equal(load_detector(made).score_rows(data.rows[:8]).score, before)
    changed = {"version", "variants", "serves", "files"}
    assert made.manifest.model_dump(exclude=changed) == bundle.manifest.model_dump(exclude=changed)


def test_optimising_again_replaces_the_variants(bundle: Bundle, outcome: Outcome, tmp_path: Path) -> None:
    once = write_next(bundle, outcome, tmp_path / "once", "1.1.0")
    fewer = Outcome((), (AcceptedVariant("int8-weights", {"only": networks.network()}, {}, 1.0),), None)
    again = write_next(once, fewer, tmp_path / "again", "1.2.0")
    assert [variant.name for variant in again.manifest.variants] == ["int8-weights"]
    assert set(again.manifest.files) == {*bundle.manifest.files, "int8-weights/only.onnx"}


def test_nothing_is_overwritten(bundle: Bundle, outcome: Outcome, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    with pytest.raises(OperatorError, match="it is there already"):
        write_next(bundle, outcome, tmp_path / "next", "1.1.0")


def test_a_version_that_is_none_is_refused_and_nothing_is_left(
    bundle: Bundle, outcome: Outcome, tmp_path: Path
) -> None:
    with pytest.raises(BundleRefused, match="version"):
        write_next(bundle, outcome, tmp_path / "next", "newest")
    assert list(tmp_path.iterdir()) == []


def test_what_was_signed_before_holds_for_the_old_version_alone(
    bundle: Bundle, outcome: Outcome, tmp_path: Path, home: Path
) -> None:
    made = write_next(bundle, outcome, tmp_path / "next", "1.1.0")
    assert not (made.root / "signature.json").exists()
    sign_bundle(made.root, home / "keys" / "local.key")
    assert open_bundle(made.root, None).digest == made.digest


@pytest.mark.parametrize(("version", "after"), [("1.0.0", "1.1.0"), ("0.9.7", "0.10.0")])
def test_the_next_version_is_the_next_minor_one(version: str, after: str) -> None:
    assert next_version(version) == after


class Machine:
    """Ten times as slow for stretches of many calls, as where other work takes the processor."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self._slow = np.random.default_rng(seed).random(40) < 0.5

    def work(self, seconds: float) -> None:
        self.now += seconds * (10 if self._slow[int(self.now / 40) % len(self._slow)] else 1)

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_other_work_on_the_machine_makes_nothing_look_fast(times: float) -> None:
    for seed in range(20):
        machine = Machine(seed)
        pair = partial(machine.work, 1.0), partial(machine.work, 1 / times)
        assert times_as_fast([pair] * 24, machine.clock) == pytest.approx(times, rel=0.05)
