"""The executable contract, over the shipped bundles and over toys that break it."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

import discern.detectors
from discern.core.errors import DiscernError
from discern.detectors.assessment import Assessment, Detector, load_detector
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.checks import contract, samples
from discern.detectors.checks.run import CHECKS, VETTED, run_check, run_checks
from discern.detectors.runtime import StageModel
from discern.detectors.trust import TrustStore
from discern.inputs.spec import RecordSpec
from discern.inputs.types import Prepared
from tests.detectors import models

BUILTIN = Path(discern.detectors.__file__).parent / "builtin"
SHIPPED = sorted(manifest.parent.name for manifest in BUILTIN.glob("*/detector.yaml"))


@cache
def shipped(name: str) -> tuple[Bundle, Detector]:
    bundle = open_bundle(BUILTIN / name, TrustStore((BUILTIN.parent / "keys",)))
    return bundle, load_detector(bundle)


def test_at_least_two_detectors_are_shipped() -> None:
    assert len(SHIPPED) >= 2


@pytest.mark.system
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SHIPPED or ["no-bundle-is-shipped"])
def test_every_shipped_detector_keeps_every_promise(name: str, check: str) -> None:
    bundle, detector = shipped(name)
    result = run_check(check, bundle, detector)
    assert result.passed, result.detail
    assert result.detail


# Toys that keep every promise.

MISSING = [
    {"name": "amount", "type": "number", "minimum": 0, "maximum": 10_000, "missing": "nan"},
    {"name": "count", "type": "integer"},
    {"name": "night", "type": "boolean"},
    {"name": "channel", "type": "category", "categories": ["web", "shop", "phone"], "missing": "nan"},
]


def tolerant_model() -> bytes:
    """Probability of a record of four fields, of which any may be NaN."""
    nodes = [
        helper.make_node("IsNaN", ["record"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "record"], ["filled"]),
        helper.make_node("Mul", ["filled", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["logit"], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants = [
        models.constant("zero", 0.0),
        models.constant("weights", [[0.0005, 0.0, 0.7, -0.9]]),
        models.constant("axis", [1], np.int64),
    ]
    inputs, outputs = [models.tensor("record", ["rows", 4])], [models.tensor("probability", ["rows"])]
    return models.build(nodes, inputs, outputs, constants).SerializeToString()


def record_toy(folder: Path, content: bytes | None = None, **changes: Any) -> Bundle:
    files = models.RECORD_FILES | ({"only.onnx": content} if content else {})
    return open_bundle(models.write_bundle(folder / "toy", models.record_manifest(**changes), files), None)


def image_toy(folder: Path, content: bytes | None = None, **changes: Any) -> Bundle:
    files = models.IMAGE_FILES | ({"only.onnx": content} if content else {})
    return open_bundle(models.write_bundle(folder / "toy", models.image_manifest(**changes), files), None)


def cascade_toy(folder: Path, expert: bytes | None = None, **changes: Any) -> Bundle:
    files = models.CASCADE_FILES | {"screen.onnx": models.image_model(slope=20)}
    files |= {"expert.onnx": expert} if expert else {}
    return open_bundle(models.write_bundle(folder / "toy", models.cascade_manifest(**changes), files), None)


def face_toy(folder: Path) -> Bundle:
    return image_toy(folder, input={"kind": "image", "width": 32, "height": 32, "crop": "face", "no_face": "refuse"})


def windows_toy(folder: Path) -> Bundle:
    rule = {"window_seconds": 4, "measure": "mean", "flag_at": 0.5, "known_from": 0.5}
    events = [{"name": "flash", "from": 0.5, "shortest_seconds": 1}]
    return image_toy(folder, video={"frames": 8, "pool": "windows"}, stream=rule | {"least": 60, "events": events})


def parts_toy(folder: Path) -> Bundle:
    spec = {"kind": "image", "width": 96, "height": 32, "crop": "eyes_and_mouth"}
    return image_toy(folder, models.image_model(height=32, width=96), input=spec)


def missing_toy(folder: Path) -> Bundle:
    return record_toy(folder, tolerant_model(), input={"kind": "record", "fields": MISSING})


@pytest.mark.parametrize("make", [record_toy, image_toy, cascade_toy, face_toy, windows_toy, parts_toy, missing_toy])
def test_a_sound_bundle_passes_every_check(tmp_path: Path, make: Callable[[Path], Bundle]) -> None:
    bundle = make(tmp_path)
    detector = load_detector(bundle)
    results = [run_check(name, bundle, detector) for name in CHECKS]
    assert [(result.name, result.detail) for result in results if not result.passed] == []
    assert [result.name for result in results] == list(CHECKS)


def test_the_cascade_toy_takes_every_path(tmp_path: Path) -> None:
    bundle = cascade_toy(tmp_path)
    result = run_check("stages_add_up", bundle, load_detector(bundle))
    assert result.detail.startswith("9 reached screen")
    reached = int(result.detail.removeprefix("9 reached screen, ").split()[0])
    assert 0 < reached < 9


# Toys that break one promise each.


def rowless_model(*nodes: Any, constants: Sequence[Any] = ()) -> bytes:
    """`nodes` turn `first` [rows], the first of three fields, into `probability` [rows]."""
    pick = helper.make_node("Gather", ["record", "column"], ["first"], axis=1)
    inputs, outputs = [models.tensor("record", ["rows", 3])], [models.tensor("probability", ["rows"])]
    listed = [models.constant("column", 0, np.int64), *constants]
    return models.build([pick, *nodes], inputs, outputs, listed).SerializeToString()


def random_model() -> bytes:
    return rowless_model(helper.make_node("RandomUniformLike", ["first"], ["probability"], seed=3.0))


def batch_normalising_model() -> bytes:
    return rowless_model(
        helper.make_node("ReduceMean", ["first"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["first", "mean"], ["centred"]),
        helper.make_node("Sigmoid", ["centred"], ["probability"]),
    )


def cumulative_model() -> bytes:
    return rowless_model(
        helper.make_node("CumSum", ["first", "axis"], ["sums"]),
        helper.make_node("Sigmoid", ["sums"], ["probability"]),
        constants=[models.constant("axis", 0, np.int32)],
    )


def blind_to_white_model() -> bytes:
    """Probability 0.5, and NaN for a picture that is white all over."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=1),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["white", "mean"], ["darkness"]),
        helper.make_node("Div", ["darkness", "darkness"], ["one"]),
        helper.make_node("Mul", ["one", "half"], ["probability"]),
    ]
    constants = [models.constant("white", 255.0), models.constant("half", 0.5)]
    inputs = [models.tensor("image", ["rows", 32, 32, 3], 2)]
    return models.build(nodes, inputs, [models.tensor("probability", ["rows"])], constants).SerializeToString()


def half_blind_expert() -> bytes:
    """The expert's NaN for every input: 0 / 0."""
    nodes = [
        helper.make_node("Mul", ["screen_score", "zero"], ["nothing"]),
        helper.make_node("Div", ["nothing", "zero"], ["nan"]),
        helper.make_node("Cast", ["image"], ["pixels"], to=1),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["nan", "mean"], ["probability"]),
    ]
    inputs = [models.tensor("image", ["rows", 32, 32, 3], 2), models.tensor("screen_score", ["rows"])]
    outputs, zero = [models.tensor("probability", ["rows"])], [models.constant("zero", 0.0)]
    return models.build(nodes, inputs, outputs, zero).SerializeToString()


def dated(folder: Path) -> Bundle:
    return record_toy(
        folder, decision={"review_from": 0.4, "flag_from": 0.8, "chosen_by": {"on": np.datetime64("2026-01-02").item()}}
    )


def rewritten(folder: Path) -> Bundle:
    bundle = record_toy(folder)
    manifest = bundle.root / "detector.yaml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("1.0.0", "1.0.1"), encoding="utf-8")
    return bundle


def flipped(folder: Path) -> Bundle:
    bundle = record_toy(folder)
    card = bundle.root / "CARD.md"
    card.write_bytes(bytes([card.read_bytes()[0] ^ 1]) + card.read_bytes()[1:])
    return bundle


def crowded(folder: Path) -> Bundle:
    bundle = record_toy(folder)
    (bundle.root / "more.md").write_text("more\n", encoding="utf-8")
    return bundle


def heated(temperature: float, flag_from: float = 0.8, review_from: float = 0.4) -> Callable[[Path], Bundle]:
    def make(folder: Path) -> Bundle:
        stages = [{"name": "only", "model": "only.onnx", "calibration": {"temperature": temperature}}]
        return record_toy(folder, stages=stages, decision={"review_from": review_from, "flag_from": flag_from})

    return make


def of_record(content: bytes) -> Callable[[Path], Bundle]:
    return lambda folder: record_toy(folder, content)


@pytest.mark.parametrize(
    ("check", "make", "reason"),
    [
        ("manifest_round_trip", dated, "changes decision"),
        ("manifest_round_trip", rewritten, "not the file that was opened"),
        ("files_match_digests", flipped, "CARD.md"),
        ("files_match_digests", crowded, "more.md"),
        ("temperatures_are_sane", heated(50.0), "temperature 50.0"),
        ("temperatures_are_sane", heated(0.05), "temperature 0.05"),
        ("temperatures_are_sane", heated(5.0, flag_from=0.99), "never reaches a threshold"),
        ("temperatures_are_sane", heated(10.0, review_from=0.1), "never reaches a threshold"),
        ("scores_are_probabilities", of_record(models.nan_model()), "not finite"),
        ("scores_are_probabilities", of_record(models.identity_model()), "outside"),
        ("scores_are_probabilities", of_record(models.poisoned_model()), "ONNX Runtime failed"),
        ("scores_are_probabilities", lambda folder: cascade_toy(folder, half_blind_expert()), "stage expert failed"),
        (
            "extreme_inputs_are_answered",
            lambda folder: image_toy(folder, blind_to_white_model()),
            "all 255.*not finite",
        ),
        (
            "extreme_inputs_are_answered",
            lambda folder: record_toy(
                folder, models.record_model((1, 1, 1, 1)), input={"kind": "record", "fields": MISSING}
            ),
            "all missing that may be.*not finite",
        ),
        ("same_input_same_score", of_record(random_model()), "second run"),
        ("batch_equals_one_by_one", of_record(batch_normalising_model()), "in a batch and alone"),
        ("row_order_does_not_matter", of_record(cumulative_model()), "in one order and in the other"),
    ],
)
def test_a_bundle_that_breaks_a_promise_is_caught(
    tmp_path: Path, check: str, make: Callable[[Path], Bundle], reason: str
) -> None:
    bundle = make(tmp_path)
    sound = open_bundle(bundle.root, None) if check not in {"files_match_digests", "manifest_round_trip"} else None
    detector = load_detector(sound or record_toy(tmp_path / "sound"))
    result = run_check(check, bundle, detector)
    assert not result.passed
    assert re.search(reason, result.detail)


# What no bundle can break while the code is right: the check itself is tried on a detector that is wrong.


class Wrong(Detector):
    """A detector with the models of a bundle, whose subclasses each do one thing wrong, with or without exits."""

    def __init__(self, bundle: Bundle) -> None:
        opened = {stage.name: StageModel(stage.name, bundle.read(stage.model)) for stage in bundle.manifest.stages}
        super().__init__(bundle.manifest, bundle.digest, opened)

    def without_exits(self) -> Self:
        return self

    def assess_many(self, prepared: Sequence[Prepared]) -> list[Assessment | DiscernError]:
        found = super().assess_many(prepared)
        return [self.spoiled(one) if isinstance(one, Assessment) else one for one in found]

    def spoiled(self, one: Assessment) -> Assessment:
        return one


class Scribbling(Wrong):
    def assess_many(self, prepared: Sequence[Prepared]) -> list[Assessment | DiscernError]:
        found = super().assess_many(prepared)
        prepared[0].tensor.reshape(-1)[0] += 1
        return found


class Forgiving(Wrong):
    def assess(self, prepared: Prepared) -> Assessment:
        fits = prepared.tensor.shape == (1, 3) and prepared.tensor.dtype == np.float32
        return super().assess(
            prepared if fits else dataclasses.replace(prepared, tensor=np.zeros((1, 3), dtype=np.float32))
        )


class Mild(Wrong):
    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, decision="clear", label=self.manifest.classes.negative)


class Mislabelling(Wrong):
    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, label="someone")


class Boastful(Wrong):
    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, decided_by="expert")


class Hasty(Wrong):
    """Stops at the screen, whatever it says."""

    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, stages=one.stages[:1])


class Greedy(Wrong):
    """Asks the expert about everything and keeps its screen's score."""

    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, stages=(one.stages[0], one.stages[-1]))


class Overflowing(Wrong):
    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, score=one.score + 1)


class Confused(Wrong):
    """Keeps what it is asked in one place for all threads."""

    last: Prepared

    def assess(self, prepared: Prepared) -> Assessment:
        self.last = prepared
        time.sleep(0.005)
        return super().assess(self.last)


class Hoarding(Wrong):
    def assess_many(self, prepared: Sequence[Prepared]) -> list[Assessment | DiscernError]:
        self.kept = [*getattr(self, "kept", []), np.ones(120_000)]
        return super().assess_many(prepared)


class Averaging(Wrong):
    def spoiled(self, one: Assessment) -> Assessment:
        scores = [frame.score for frame in one.frames]
        return msgspec.structs.replace(one, score=sum(scores) / len(scores)) if scores else one


class Shortening(Wrong):
    def spoiled(self, one: Assessment) -> Assessment:
        return msgspec.structs.replace(one, frames=one.frames[1:])


WRONG: Mapping[str, tuple[str, type[Wrong], Callable[[Path], Bundle], str]] = {
    "scribbles": ("input_is_not_mutated", Scribbling, record_toy, "was changed"),
    "forgives": ("bad_input_is_refused", Forgiving, record_toy, "a tensor of"),
    "is mild": ("decisions_follow_the_scores", Mild, record_toy, "is due"),
    "mislabels": ("decisions_follow_the_scores", Mislabelling, record_toy, "was said"),
    "boasts": ("decisions_follow_the_scores", Boastful, cascade_toy, "says expert decided"),
    "is hasty": ("decisions_follow_the_scores", Hasty, cascade_toy, "ended at stage screen"),
    "drops a reading": ("stages_add_up", Hasty, cascade_toy, "should have reached stage expert"),
    "overflows": ("scores_are_probabilities", Overflowing, record_toy, "not a score"),
    "confuses threads": ("threads_get_their_own_answers", Confused, record_toy, "threads at once"),
    "hoards": ("memory_is_bounded", Hoarding, record_toy, "grow"),
    "averages": (
        "video_pools_its_frames",
        Averaging,
        lambda folder: image_toy(folder, video={"frames": 4, "pool": "max"}),
        "the pool of its frames",
    ),
    "shortens": ("video_pools_its_frames", Shortening, image_toy, "the answer lists 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_detector_that_does_wrong_is_caught(tmp_path: Path, name: str) -> None:
    check, kind, make, reason = WRONG[name]
    bundle = make(tmp_path)
    result = run_check(check, bundle, kind(bundle))
    assert not result.passed
    assert reason in result.detail


def test_a_reading_too_many_is_caught(tmp_path: Path) -> None:
    bundle = cascade_toy(tmp_path)
    result = run_check("stages_add_up", bundle, Greedy(bundle))
    assert not result.passed
    assert "should have reached stage expert" in result.detail


def test_a_session_that_answers_otherwise_than_a_fresh_one_is_caught(tmp_path: Path) -> None:
    bundle = record_toy(tmp_path)
    other = Detector(bundle.manifest, bundle.digest, {"only": StageModel("only", models.record_model(bias=0.1))})
    result = run_check("same_input_same_score", bundle, other)
    assert (result.passed, result.detail) == (False, "a freshly opened session gave another answer")


@pytest.mark.parametrize(("make", "entrance"), [(record_toy, "prepare_record_input"), (image_toy, "prepare_media")])
def test_a_preparation_that_takes_anything_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Bundle], entrance: str
) -> None:
    bundle = make(tmp_path)
    anything = samples.prepared(samples.typical(bundle.manifest.input, 1))
    monkeypatch.setattr(contract, entrance, lambda *_: anything)
    result = run_check("bad_input_is_refused", bundle, load_detector(bundle))
    assert not result.passed
    assert "was taken as an input" in result.detail


def test_every_check_is_caught_failing_by_some_toy_here() -> None:
    marks = [mark for mark in test_a_bundle_that_breaks_a_promise_is_caught.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    by_bundle = {case[0] for case in marks[0].args[1]}
    assert by_bundle | {case[0] for case in WRONG.values()} == set(CHECKS)


# Running them all.


@pytest.mark.system
def test_running_the_checks_yields_one_result_each(tmp_path: Path) -> None:
    results = list(run_checks(cascade_toy(tmp_path)))
    assert [result.name for result in results] == [VETTED, *CHECKS]
    assert all(result.passed for result in results)
    assert "2 stages" in results[0].detail


@pytest.mark.system
def test_models_that_do_not_run_apart_end_the_checks_there(tmp_path: Path) -> None:
    (result,) = run_checks(record_toy(tmp_path, models.nan_model()))
    assert (result.name, result.passed) == (VETTED, False)
    assert "only.onnx" in result.detail


# Samples.


def test_samples_are_the_same_every_time_and_differ_from_each_other(tmp_path: Path) -> None:
    for make in (record_toy, image_toy, missing_toy):
        spec = make(tmp_path / make.__name__).manifest.input
        rows = samples.typical(spec, 6)
        assert rows.tobytes() == samples.typical(spec, 6).tobytes()
        assert len({row.tobytes() for row in rows}) == 6


def test_samples_of_records_are_what_the_manifest_lets_in() -> None:
    spec = RecordSpec.model_validate({"kind": "record", "fields": MISSING})
    rows = samples.typical(spec, 300)
    amount, count, night, channel = rows.T
    assert np.nanmin(amount) >= 0
    assert np.nanmax(amount) <= 10_000
    assert 20 < np.isnan(amount).sum() < 120
    assert (count == np.round(count)).all()
    assert set(night.tolist()) == {0.0, 1.0}
    assert {value for value in channel.tolist() if not np.isnan(value)} == {0.0, 1.0, 2.0}
    assert samples.record(spec) == {"amount": 0.0, "count": 0, "night": False, "channel": "web"}


def test_extreme_records_reach_the_bounds() -> None:
    spec = RecordSpec.model_validate({"kind": "record", "fields": MISSING})
    found: dict[str, NDArray[Any]] = dict(samples.extremes(spec))
    assert found["all minima"].tolist() == [[0, -samples.UNBOUNDED, 0, 0]]
    assert found["all maxima"].tolist() == [[10_000, samples.UNBOUNDED, 1, 2]]
    assert np.isnan(found["all missing that may be"]).tolist() == [[True, False, False, True]]


def test_the_png_that_samples_write_is_read_back_bit_for_bit() -> None:
    import io

    from PIL import Image

    pixels = np.random.default_rng(2).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(samples.png(pixels)))) == pixels).all()
