"""A stage's model on ONNX Runtime."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from discern.detectors.runtime import StageFailed, StageModel
from tests.detectors import models

SOURCES = Path(__file__).parents[2] / "src"


def records(*first: float, fields: int = 3) -> NDArray[np.float32]:
    rows = np.zeros((len(first), fields), dtype=np.float32)
    rows[:, 0] = first
    return rows


def shaped_model(width: int | None, dtype: int = TensorProto.FLOAT) -> bytes:
    """Probability [rows, width] ([rows] for None): the first `width` fields, cast to `dtype`."""
    index = models.constant("columns", 0 if width is None else list(range(width)), np.int64)
    nodes = [
        helper.make_node("Gather", ["record", "columns"], ["picked"], axis=1),
        helper.make_node("Cast", ["picked"], ["chance"], to=dtype),
    ]
    output = models.tensor("chance", ["rows"] if width is None else ["rows", width], dtype)
    return models.build(nodes, [models.tensor("record", ["rows", 3])], [output], [index]).SerializeToString()


def outputs_model(*names: str) -> bytes:
    """Each named float output is one field of the record; an int64 output `label` stands before them."""
    nodes = [helper.make_node("Cast", ["record"], ["all"], to=TensorProto.INT64)]
    nodes.append(helper.make_node("Gather", ["all", "column0"], ["label"], axis=1))
    initializers = []
    for column, name in enumerate(names):
        nodes.append(helper.make_node("Gather", ["record", f"column{column}"], [name], axis=1))
        initializers.append(models.constant(f"column{column}", column, np.int64))
    outputs = [models.tensor("label", ["rows"], TensorProto.INT64), *(models.tensor(name, ["rows"]) for name in names)]
    return models.build(nodes, [models.tensor("record", ["rows", 3])], outputs, initializers).SerializeToString()


def test_a_model_answers_with_the_value_computed_by_hand() -> None:
    answer = StageModel("only", models.record_model(weights=(1.0, -2.0, 0.5), bias=0.25)).run(
        {"record": np.array([[1, 2, 3], [0, 0, 0]], dtype=np.float32)}
    )
    expected = [1 / (1 + math.exp(-(1 - 4 + 1.5 + 0.25))), 1 / (1 + math.exp(-0.25))]
    assert answer["probability"] == pytest.approx(expected, rel=1e-6)


def test_the_graph_is_described_by_names_types_and_shapes() -> None:
    model = StageModel("screen", models.image_model(height=24, width=32))
    (image,) = model.inputs
    assert (image.name, image.dtype, image.shape) == ("image", np.dtype(np.uint8), (None, 24, 32, 3))
    assert [(info.name, info.shape) for info in model.outputs] == [("probability", (None,)), ("embedding", (None, 3))]
    assert model.probability == "probability"


@pytest.mark.parametrize(("width", "column"), [(None, 0), (1, 0), (2, 1)])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_every_common_shape_of_a_probability_becomes_one_column(width: int | None, column: int, dtype: int) -> None:
    rows = np.array([[0.25, 0.75, 0], [0.5, 0.125, 0], [1, 0, 0]], dtype=np.float32)
    answer = StageModel("only", shaped_model(width, dtype)).run({"record": rows})["chance"]
    assert answer.dtype == (np.float64 if dtype == TensorProto.DOUBLE else np.float32)
    assert answer.tolist() == rows[:, column].tolist()
    assert answer.flags.c_contiguous


def test_a_single_row_keeps_its_dimension() -> None:
    assert StageModel("only", shaped_model(1)).run({"record": records(0.5)})["chance"].shape == (1,)


@pytest.mark.parametrize("width", [3])
def test_three_classes_are_not_a_probability(width: int) -> None:
    with pytest.raises(StageFailed, match=r"shape \[2, 3\] for 2 rows"):
        StageModel("only", shaped_model(width)).run({"record": records(0.5, 0.5)})


def test_one_answer_for_a_whole_batch_is_refused() -> None:
    with pytest.raises(StageFailed, match=r"shape \[1\] for 2 rows"):
        StageModel("only", models.wrong_shape_model()).run({"record": records(0.5, 0.5)})


@pytest.mark.parametrize(
    ("names", "asked", "chosen"),
    [
        (("anything",), None, "anything"),
        (("logit", "probability"), None, "probability"),
        (("logit", "probability"), "logit", "logit"),
        (("logit", "chance"), "chance", "chance"),
    ],
)
def test_the_probability_output_is_the_one_named_then_probability_then_the_only_one(
    names: tuple[str, ...], asked: str | None, chosen: str
) -> None:
    assert StageModel("only", outputs_model(*names), probability=asked).probability == chosen


@pytest.mark.parametrize(
    ("names", "asked", "reason"),
    [
        (("logit", "chance"), None, "which output"),
        (("logit",), "chance", "no output 'chance'"),
        (("logit",), "label", "no output"),
    ],
)
def test_an_output_that_cannot_be_told_is_refused(names: tuple[str, ...], asked: str | None, reason: str) -> None:
    with pytest.raises(StageFailed, match=reason):
        StageModel("only", outputs_model(*names), probability=asked)


def classifier_model(*outputs: str) -> bytes:
    """A linear classifier as converters write one: `label`, `probabilities` [rows, 2] and the maps `zipped`."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["record"],
            ["label", "probabilities"],
            domain="ai.onnx.ml",
            coefficients=[-1.0, 2.0, -0.5, 1.0, -2.0, 0.5],
            intercepts=[0.0, 0.0],
            classlabels_ints=[0, 1],
            post_transform="LOGISTIC",
        ),
        helper.make_node("ZipMap", ["probabilities"], ["zipped"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    known = {
        "label": models.tensor("label", ["rows"], TensorProto.INT64),
        "probabilities": models.tensor("probabilities", ["rows", 2]),
        "zipped": helper.make_value_info("zipped", maps),
    }
    inputs, listed = [models.tensor("record", ["rows", 3])], [known[name] for name in outputs]
    return models.build(nodes, inputs, listed, domains={"ai.onnx.ml": 3}).SerializeToString()


def test_a_classifier_from_a_converter_answers_with_its_second_class() -> None:
    rows = np.array([[1, 2, 3], [0, 0, 0]], dtype=np.float32)
    model = StageModel("only", classifier_model("label", "probabilities", "zipped"))
    assert model.probability == "probabilities"
    assert model.run({"record": rows})["probabilities"] == pytest.approx([1 / (1 + math.exp(1.5)), 0.5], rel=1e-6)


def test_a_classifier_that_gives_maps_only_is_refused_with_the_way_out() -> None:
    with pytest.raises(StageFailed, match="without ZipMap"):
        StageModel("only", classifier_model("label", "zipped"))


def test_only_the_outputs_asked_for_come_back() -> None:
    model = StageModel("only", outputs_model("first", "second", "probability"))
    rows = np.array([[1, 2, 0.5]], dtype=np.float32)
    assert model.run({"record": rows}).keys() == {"probability"}
    answer = model.run({"record": rows}, ["second", "probability", "second"])
    assert {name: values.tolist() for name, values in answer.items()} == {"probability": [0.5], "second": [2.0]}


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04K\x01.", b"\x08\x09" * 50, models.pickled(), models.custom_operator_model()]
)
def test_bytes_that_are_no_runnable_model_are_refused(content: bytes) -> None:
    with pytest.raises(StageFailed, match="stage only: ONNX Runtime does not open the model"):
        StageModel("only", content)


def test_any_damage_to_a_model_is_a_refusal_of_ours_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    random, sound = Random(4), models.record_model()
    ends = {"answered": 0, "refused": 0}
    for _ in range(150):
        damaged = bytearray(sound)
        for place in random.sample(range(len(damaged)), random.choice([1, 2, 4])):
            damaged[place] = random.randrange(256)
        try:
            StageModel("only", bytes(damaged)).run({"record": records(0.5)})
        except StageFailed:
            ends["refused"] += 1
        else:
            ends["answered"] += 1
    assert min(ends.values()) > 0
    assert capfd.readouterr() == ("", "")


def test_names_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(StageFailed, match="utf-8"):
        StageModel("only", models.record_model().replace(b"record", b"\xffecord"))


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({}, "takes"),
        ({"image": records(0.5)}, "takes"),
        ({"record": records(0.5).astype(np.float64)}, "float32 but was given float64"),
        ({"record": np.zeros((2, 4), np.float32)}, "ONNX Runtime failed"),
        ({"record": np.zeros((0, 3), np.float32)}, "rows"),
        ({"record": np.float32(1.0)}, "rows"),
    ],
)
def test_feeds_that_do_not_fit_the_graph_fail_the_stage(feeds: dict[str, NDArray[Any]], reason: str) -> None:
    with pytest.raises(StageFailed, match=reason):
        StageModel("only", models.record_model()).run(feeds)


def test_a_failure_inside_the_graph_is_ours_and_one_line() -> None:
    with pytest.raises(StageFailed) as caught:
        StageModel("only", models.poisoned_model()).run({"record": records(0.0, 5.0)})
    assert caught.value.stage == "only"
    assert "ONNX Runtime failed" in caught.value.reason
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 400


def test_an_allocation_that_cannot_be_had_fails_the_stage_not_the_process() -> None:
    model = StageModel("only", models.allocating_model(gigabytes=2_000_000))
    with pytest.raises(StageFailed, match="ONNX Runtime failed"):
        model.run({"record": records(0.0)})


def test_feeds_are_not_changed_and_need_not_be_contiguous() -> None:
    model = StageModel("screen", models.image_model())
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 64, 3), dtype=np.uint8)
    halves = images[:, :, ::2]
    before = images.copy()
    answer = model.run({"image": halves})["probability"]
    assert answer.tolist() == model.run({"image": halves.copy()})["probability"].tolist()
    assert (images == before).all()


def test_the_same_feeds_give_the_same_bits_in_every_session_and_thread() -> None:
    content, rows = models.record_model(), np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    shared = StageModel("only", content)
    expected = shared.run({"record": rows})["probability"].tobytes()
    assert StageModel("only", content).run({"record": rows})["probability"].tobytes() == expected
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: shared.run({"record": rows})["probability"].tobytes(), range(64))
    assert set(answers) == {expected}


def test_threads_at_once_each_get_their_own_answer() -> None:
    model = StageModel("only", models.identity_model())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: model.run({"record": records(i / 500)})["probability"][0], range(500)))
    assert answers == pytest.approx([i / 500 for i in range(500)], abs=1e-7)


@pytest.mark.system
def test_a_failing_model_writes_nothing_to_standard_error() -> None:
    program = (
        "import sys, json; import numpy as np\n"
        "from discern.detectors.runtime import StageFailed, StageModel\n"
        "try:\n"
        "    StageModel('only', sys.stdin.buffer.read()).run({'record': np.full((2, 3), 7, np.float32)})\n"
        "except StageFailed as failure:\n"
        "    print(json.dumps(failure.reason))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=models.poisoned_model(),
        capture_output=True,
        env={"PYTHONPATH": str(SOURCES)},
        timeout=60,
        check=True,
    )
    assert "ONNX Runtime failed" in json.loads(done.stdout)
    assert done.stderr == b""


def test_memory_does_not_grow_with_runs_or_batch_sizes() -> None:
    model = StageModel("screen", models.image_model(height=128, width=128))
    images = np.zeros((24, 128, 128, 3), dtype=np.uint8)
    for rows in [*range(1, 25), *range(1, 25)]:
        model.run({"image": images[:rows]})
    before = _resident_bytes()
    for _ in range(6):
        for rows in range(1, 25):
            model.run({"image": images[:rows]})
    # These runs pass 350 MB through the graph; what the C library keeps of freed memory is a few MB.
    assert _resident_bytes() - before < 16_000_000


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096
