"""Models in half precision and in 8 bits: what is converted, what is left, and that it says so."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from discern.core.errors import MissingExtra
from discern.detectors.onnx.graph import inspect_graph
from discern.detectors.optimise import (
    CONVERSIONS,
    Feeds,
    NotConverted,
    eight_bit_weights,
    eight_bits,
    half_precision,
)
from tests.detectors import models, networks


def calibration() -> list[Feeds]:
    images, _ = networks.pictures(16, seed=3)
    return [{"image": images[place : place + 1]} for place in range(len(images))]


def signature(model: bytes) -> tuple[Any, Any]:
    graph = inspect_graph(model, "model.onnx")
    return graph.inputs, graph.outputs


@pytest.mark.parametrize(
    ("kind", "share", "gap"), [("fp16", 0.6, 1e-3), ("int8-weights", 0.35, 0.03), ("int8", 0.5, 0.1)]
)
def test_a_variant_is_smaller_answers_nearly_the_same_and_has_the_same_inputs_and_outputs(
    kind: str, share: float, gap: float
) -> None:
    original = networks.network()
    images, labels = networks.pictures(64, seed=5)
    converted = CONVERSIONS[kind](original, calibration())
    assert len(converted.model) < share * len(original)
    assert signature(converted.model) == signature(original)
    before, after = networks.outputs(original, images), networks.outputs(converted.model, images)
    assert np.abs(after - before).max() < gap
    assert ((after > 0.5) == (labels == 1)).mean() > 0.95
    assert converted.note


@pytest.mark.parametrize("kind", list(CONVERSIONS))
def test_the_same_model_and_calibration_give_the_same_bytes(kind: str) -> None:
    first, second = (CONVERSIONS[kind](networks.network(), calibration()).model for _ in range(2))
    assert first == second


def test_eight_bits_computes_in_eight_bits_per_channel() -> None:
    proto = onnx.load_from_string(eight_bits(networks.network(), calibration()).model)
    scales = {one.name: list(one.dims) for one in proto.graph.initializer if one.name.endswith("_scale")}
    assert scales["second_scale"] == [networks.CHANNELS]
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in proto.graph.node}
    weights = {one.name: one for one in proto.graph.initializer}
    assert weights["second_quantized"].data_type == TensorProto.INT8
    # Seven bits: with eight, processors differ in when they saturate.
    assert np.abs(numpy_helper.to_array(weights["second_quantized"])).max() <= 64


def test_weights_that_are_stored_in_half_precision_are_computed_in_eight_bits_too() -> None:
    original = networks.network()
    stored = half_precision(original, []).model
    converted = eight_bits(stored, calibration())
    assert converted.note == eight_bits(original, calibration()).note
    proto = onnx.load_from_string(converted.model)
    assert all(one.data_type != TensorProto.FLOAT16 for one in proto.graph.initializer)
    images, _ = networks.pictures(64, seed=5)
    gap = np.abs(networks.outputs(converted.model, images) - networks.outputs(stored, images)).max()
    assert gap < 0.1


def test_weights_in_half_precision_that_something_else_reads_stay() -> None:
    """The tensor that is cast is also read inside a branch, where no node of the graph itself names it."""
    generator = np.random.default_rng(0)
    weights = numpy_helper.from_array(generator.normal(0, 1, (64, 64)).astype(np.float16), "stored")
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 64])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 64])
    shown = helper.make_tensor_value_info("shown", TensorProto.FLOAT, [64, 64])
    branch = helper.make_graph(
        [helper.make_node("Cast", ["stored"], ["shown"], to=TensorProto.FLOAT)], "branch", [], [shown]
    )
    nodes = [
        helper.make_node("Cast", ["stored"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["rows", "weights"], ["product"]),
        helper.make_node("If", ["yes"], ["again"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["product", "again"], ["out"]),
    ]
    yes = numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph(nodes, "graph", [rows], [out], [weights, yes])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    given: list[Feeds] = [{"rows": generator.normal(0, 1, (1, 64)).astype(np.float32)} for _ in range(8)]
    proto = onnx.load_from_string(eight_bits(model, given).model)
    # They are stored in 8 bits after that, under the name that the branch knows.
    assert "stored.levels" in {one.name for one in proto.graph.initializer}
    assert any("stored" in node.output for node in proto.graph.node)
    onnx.checker.check_model(proto)


def test_what_is_rounded_further_on_is_computed_as_before() -> None:
    proto = onnx.load_from_string(eight_bits(networks.rounding_network(), calibration()).model)
    producers = {output: node.op_type for node in proto.graph.node for output in node.output}
    by_output = {node.output[0]: node for node in proto.graph.node}
    assert [producers.get(name) for name in by_output["edges"].input] == ["Transpose", None]
    assert "second_quantized" in {one.name for one in proto.graph.initializer}


def test_a_model_whose_every_operator_is_rounded_further_on_is_not_quantised() -> None:
    nodes = [
        helper.make_node("MatMul", ["record", "weights"], ["products"]),
        helper.make_node("Round", ["products"], ["rounded"]),
        helper.make_node("ReduceMean", ["rounded"], ["probability"], axes=[1], keepdims=0),
    ]
    weights = models.constant("weights", np.ones((3, 512)))
    outputs = [models.tensor("probability", ["rows"])]
    model = models.build(nodes, [models.tensor("record", ["rows", 3])], outputs, [weights]).SerializeToString()
    with pytest.raises(NotConverted, match="rounded further on"):
        eight_bits(model, [])


@pytest.mark.parametrize("kind", ["fp16", "int8-weights"])
def test_a_model_without_large_weights_is_not_converted(kind: str) -> None:
    with pytest.raises(NotConverted, match="no tensor of 1024 numbers"):
        CONVERSIONS[kind](models.record_model(), [])


def test_weights_beyond_half_precision_stay() -> None:
    weights = np.ones((3, 512))
    weights[0, 0] = 70_000
    with pytest.raises(NotConverted):
        half_precision(_one_product(weights), [])


def test_weights_that_are_not_finite_stay() -> None:
    weights = np.ones((3, 512))
    weights[0, 0] = np.inf
    with pytest.raises(NotConverted):
        eight_bit_weights(_one_product(weights), [])


def test_eight_bit_weights_are_right_to_half_a_step_of_their_channel() -> None:
    chance = np.random.Generator(np.random.PCG64(2))
    weights = chance.normal(0, 1, (64, 48)) * np.logspace(-3, 3, 48)
    weights[:, 7] = 0
    model = eight_bit_weights(_one_product(weights), []).model
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(model).graph.initializer}
    again = stored["weights.levels"] * stored["weights.scale"]
    steps = np.abs(weights).max(axis=0) / 127
    assert (np.abs(again - weights) <= steps * 0.5001 + 1e-12).all()


def test_weights_that_came_in_half_precision_leave_in_it() -> None:
    proto = onnx.load_from_string(_one_product(np.ones((64, 32))))
    half = onnx.load_from_string(half_precision(proto.SerializeToString(), []).model)
    again = onnx.load_from_string(eight_bit_weights(half.SerializeToString(), []).model)
    assert {one.name for one in again.graph.initializer} == {"weights.half.levels", "weights.half.scale"}
    onnx.checker.check_model(again, full_check=True)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        half_precision(b"", [])
    assert "discern-detectors[optimise]" in str(caught.value)


def _one_product(weights: Any) -> bytes:
    nodes = [
        helper.make_node("MatMul", ["record", "weights"], ["products"]),
        helper.make_node("ReduceMean", ["products"], ["level"], axes=[1], keepdims=0),
        helper.make_node("Sigmoid", ["level"], ["probability"]),
    ]
    inputs = [models.tensor("record", ["rows", np.shape(weights)[0]])]
    tensors = [models.constant("weights", weights)]
    return models.build(nodes, inputs, [models.tensor("probability", ["rows"])], tensors).SerializeToString()
