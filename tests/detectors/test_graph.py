"""Static inspection: what it says of an ONNX file, and all that it refuses."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from discern.core.errors import BundleRefused
from discern.detectors.onnx.graph import DOMAINS, TensorInfo, inspect_graph
from discern.detectors.onnx.schema import BY_NUMBER, ELEMENT_TYPES, SCHEMA
from tests.detectors import models


def refusal(content: bytes) -> str:
    with pytest.raises(BundleRefused) as caught:
        inspect_graph(content, "m.onnx")
    assert caught.value.facts["file"] == "m.onnx"
    return str(caught.value.facts["reason"])


def edited(change: Callable[[onnx.ModelProto], object], content: bytes | None = None) -> bytes:
    model = onnx.load_from_string(content or models.record_model())
    change(model)
    return model.SerializeToString()


def field(number: int, payload: bytes) -> bytes:
    size, length = len(payload), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


MODEL = b"\x08\x09"
"""A model of IR version 9, to which a graph is added."""


# The schema against the official one.


def official(message: str) -> Descriptor:
    kind = onnx
    for part in message.split("."):
        kind = getattr(kind, part)
    descriptor: Descriptor = kind.DESCRIPTOR  # type: ignore[attr-defined]
    return descriptor


def short(descriptor: Any) -> str:
    """The official name without its package; the library's types name two classes of descriptors."""
    return str(descriptor.full_name).removeprefix("onnx.")


KINDS = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
}


@pytest.mark.parametrize("message", sorted(SCHEMA))
def test_our_part_of_the_format_is_the_official_one(message: str) -> None:
    fields = official(message).fields_by_name
    for name, (number, kind) in SCHEMA[message].items():
        field = fields[name]
        theirs = short(field.message_type) if field.message_type else KINDS[field.type]
        assert (number, kind) == (field.number, theirs + ("[]" if field.is_repeated else "")), f"{message}.{name}"


def reaching(target: str) -> set[str]:
    """Official messages from which `target` can be reached."""
    everything = {short(one): one for one in onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values()}
    for one in list(everything.values()):
        everything |= {short(inner): inner for inner in one.nested_types}
    found = {target}
    while True:
        more = {
            name
            for name, descriptor in everything.items()
            if any(field.message_type and short(field.message_type) in found for field in descriptor.fields)
        }
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize("target", ["TensorProto", "NodeProto", "GraphProto", "TensorShapeProto", "OperatorSetIdProto"])
def test_no_way_to_a_tensor_a_node_or_a_shape_is_left_out(target: str) -> None:
    reached = reaching(target)
    for message in reached & SCHEMA.keys():
        for field in official(message).fields:
            if field.message_type and short(field.message_type) in reached:
                assert field.name in SCHEMA[message], f"{message}.{field.name}"


def test_every_official_element_type_is_known() -> None:
    for name, number in TensorProto.DataType.items():
        if name != "UNDEFINED":
            assert number in ELEMENT_TYPES, name


def test_every_message_of_the_schema_is_described() -> None:
    kinds = {kind for fields in BY_NUMBER.values() for _, kind, _ in fields.values()}
    assert {kind for kind in kinds if kind[0].isupper()} <= BY_NUMBER.keys()


# What it says.


def test_inputs_outputs_operators_and_weights_are_told() -> None:
    graph = inspect_graph(models.stacked_model(), "m.onnx")
    assert graph.inputs == (
        TensorInfo("image", "uint8", ("rows", 32, 32, 3)),
        TensorInfo("screen_score", "float32", ("rows",)),
    )
    assert graph.outputs == (TensorInfo("probability", "float32", ("rows",)),)
    assert graph.opsets == {"ai.onnx": 17}
    assert graph.operators["ai.onnx"]["Sub"] == 2
    assert graph.nodes == 9
    assert graph.weight_bytes == 4 * 4


def test_unknown_shapes_and_dimensions_are_told_apart() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
        model.graph.output[0].type.tensor_type.ClearField("shape")

    graph = inspect_graph(edited(change), "m.onnx")
    assert graph.inputs[0].shape == (None, 3)
    assert graph.outputs[0].shape is None


def test_initializers_listed_as_inputs_are_no_inputs() -> None:
    content = edited(lambda model: model.graph.input.append(models.tensor("weights", [3, 1])))
    assert [one.name for one in inspect_graph(content, "m.onnx").inputs] == ["record"]


def official_nodes(graph: onnx.GraphProto) -> int:
    inner = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return len(graph.node) + sum(official_nodes(one) for one in inner)


def official_shape(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dimensions = value.type.tensor_type.shape.dim
    return tuple(one.dim_value if one.HasField("dim_value") else one.dim_param or None for one in dimensions)


def test_what_the_official_package_reads_is_what_we_read() -> None:
    """Over the models that the official package brings along for testing runtimes, and a nested one of ours."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    contents = [path.read_bytes() for path in sorted(folder.rglob("*.onnx"))]
    read = 0
    for content in [models.nested_model(6), *contents]:
        theirs = onnx.load_from_string(content)
        if any(one.domain not in DOMAINS for one in theirs.opset_import):
            assert "only ai.onnx and ai.onnx.ml are taken" in refusal(content)
            continue
        ours = inspect_graph(content, "m.onnx")
        constants = {one.name for one in theirs.graph.initializer}
        inputs = [one for one in theirs.graph.input if one.name not in constants]
        assert ours.nodes == official_nodes(theirs.graph)
        assert [(one.name, one.shape) for one in ours.inputs] == [(one.name, official_shape(one)) for one in inputs]
        assert [one.name for one in ours.outputs] == [one.name for one in theirs.graph.output]
        assert ours.opsets == {one.domain or "ai.onnx": one.version for one in theirs.opset_import}
        read += 1
    assert read > 50


def test_sixteen_subgraphs_deep_is_taken_and_seventeen_is_not() -> None:
    assert inspect_graph(models.nested_model(16), "m.onnx").nodes > 16
    assert refusal(models.nested_model(17)) == "its subgraphs are nested more than 16 deep"


# External data, wherever a tensor can stand.


def outside_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(models.external_constant())


def outside_attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=models.external_constant()))


def outside_attribute_list(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="many", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(models.external_constant())


def outside_subgraph(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [], [models.external_constant()])
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=body, else_branch=body))


def outside_graph_list(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="many", type=onnx.AttributeProto.GRAPHS)
    attribute.graphs.append(helper.make_graph([], "body", [], [], [models.external_constant()]))


def outside_sparse_values(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(values=models.external_constant(), dims=[1])


def outside_sparse_indices(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="sparse", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.indices.CopyFrom(models.external_constant())


def outside_function_node(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="f", domain="")
    function.node.append(helper.make_node("Constant", [], ["x"], value=models.external_constant()))


def outside_function_default(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="f", domain="")
    function.attribute_proto.add(name="a", type=onnx.AttributeProto.TENSOR).t.CopyFrom(models.external_constant())


def outside_training(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.initializer.append(models.external_constant())


OUTSIDE = [
    outside_initializer,
    outside_attribute,
    outside_attribute_list,
    outside_subgraph,
    outside_graph_list,
    outside_sparse_values,
    outside_sparse_indices,
    outside_function_node,
    outside_function_default,
    outside_training,
]


@pytest.mark.parametrize("change", OUTSIDE, ids=lambda change: change.__name__)
def test_external_data_are_refused_wherever_they_stand(change: Callable[[onnx.ModelProto], object]) -> None:
    assert refusal(edited(change)) == "the tensor 'outside' keeps its data in another file"


def test_a_location_without_the_flag_is_external_too() -> None:
    def change(model: onnx.ModelProto) -> None:
        entry = model.graph.initializer[0].external_data.add()
        entry.key, entry.value = "location", "weights.bin"

    assert "keeps its data in another file" in refusal(edited(change))


# Operators.


@pytest.mark.parametrize("domain", ["com.microsoft", "com.example", "ai.onnx.training", "ai.onnx\x00", "AI.ONNX"])
def test_operators_of_other_domains_are_refused(domain: str) -> None:
    assert "only ai.onnx and ai.onnx.ml are taken" in refusal(models.custom_domain_model(domain))
    assert "'Anything'" in refusal(models.custom_operator_model(domain, imported=False))


@pytest.mark.parametrize("domain", ["ai.onnx", "ai.onnx.ml"])
def test_the_standard_domains_are_taken_by_any_of_their_names(domain: str) -> None:
    assert inspect_graph(models.custom_domain_model(domain), "m.onnx").opsets[domain] == 1


def test_functions_and_training_information_are_refused() -> None:
    assert "functions of its own" in refusal(edited(lambda model: model.functions.add(name="Relu", domain="")))
    assert "training information" in refusal(edited(lambda model: model.training_info.add()))


def test_a_hundred_thousand_nodes_are_the_most() -> None:
    assert refusal(MODEL + field(7, field(1, b"") * 100_001)) == "it has more than 100000 nodes"
    assert inspect_graph(models.many_nodes_model(500), "m.onnx").nodes == 501


# Dimensions and sizes.


@pytest.mark.parametrize("dimension", [-1, -(2**63), 2**31 + 1, 2**63 - 1])
def test_absurd_declared_dimensions_are_refused(dimension: int) -> None:
    assert f"the dimension {dimension}, which is outside" in refusal(models.declared_dimension_model(dimension))


def test_absurd_dimensions_are_found_in_subgraphs_and_in_nested_types() -> None:
    def in_sequence(model: onnx.ModelProto) -> None:
        inner = model.graph.value_info.add(name="s").type.sequence_type.elem_type.optional_type.elem_type
        inner.tensor_type.shape.dim.add().dim_value = -7

    def in_subgraph(model: onnx.ModelProto) -> None:
        body = helper.make_graph([], "body", [], [models.tensor("x", [2**40])])
        model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=body))

    assert "the dimension -7" in refusal(edited(in_sequence))
    assert f"the dimension {2**40}" in refusal(edited(in_subgraph))


@pytest.mark.parametrize(
    ("dimensions", "raw", "dtype"),
    [
        ([2], b"1234567", TensorProto.FLOAT),
        ([2**20, 2**20], b"1234", TensorProto.FLOAT),
        ([2**31] * 32, b"", TensorProto.DOUBLE),  # overflows 64 bits many times over; 2**992 elements
        ([2**31, 2**31, 4], b"", TensorProto.UINT8),  # 0 modulo 2**64
        ([3], b"1", TensorProto.INT4),
        ([5], b"1", TensorProto.UINT2),
        ([], b"", TensorProto.FLOAT),
    ],
)
def test_a_tensor_with_fewer_bytes_than_it_says_is_refused(dimensions: list[int], raw: bytes, dtype: int) -> None:
    assert "its data hold fewer" in refusal(models.initializer_model(dimensions, raw, dtype))


@pytest.mark.parametrize("dimensions", [[-1], [2**32], [1, -(2**63)]])
def test_absurd_tensor_dimensions_are_refused(dimensions: list[int]) -> None:
    assert "which is outside 0 to" in refusal(models.initializer_model(dimensions, b""))


def test_an_endless_list_of_dimensions_is_refused() -> None:
    assert "more than 32 dimensions" in refusal(models.initializer_model([1] * 33, b"1234"))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 2), np.float32),
        np.zeros(3, np.float16),
        np.arange(5, dtype=np.int64),
        np.zeros(2, np.complex64),
        np.zeros((0, 7), np.float64),
        np.array(True),
        np.array(["a", "bc"], dtype=object),
    ],
    ids=lambda values: str(values.dtype),
)
def test_tensors_are_taken_however_their_data_are_stored(values: np.ndarray) -> None:
    raw = onnx.numpy_helper.from_array(values, "added")
    assert inspect_graph(edited(lambda model: model.graph.initializer.append(raw)), "m.onnx").weight_bytes > 0
    if values.dtype != object:
        typed = helper.make_tensor("added", raw.data_type, values.shape, values.flatten().tolist())
        inspect_graph(edited(lambda model: model.graph.initializer.append(typed)), "m.onnx")
    longer = type(raw)()
    longer.CopyFrom(raw)
    longer.dims.append(1_000_000)
    if values.size:
        assert "its data hold fewer" in refusal(edited(lambda model: model.graph.initializer.append(longer)))


def test_half_bytes_are_counted_as_halves() -> None:
    assert inspect_graph(models.initializer_model([4], b"12", TensorProto.INT4), "m.onnx").weight_bytes == 24 + 2


def test_other_faulty_tensors_are_refused() -> None:
    assert "element type 99" in refusal(models.initializer_model([1], b"1234", 99))
    assert "element type 0" in refusal(models.initializer_model([1], b"1234", 0))
    segmented = edited(lambda model: model.graph.initializer[0].segment.SetInParent())
    assert "segments" in refusal(segmented)


def test_a_sparse_tensor_that_would_fill_the_memory_is_refused() -> None:
    sparse = edited(lambda model: model.graph.sparse_initializer.add(dims=[2**31, 2**31]))
    assert "a sparse tensor stands for" in refusal(sparse)


def test_a_file_over_the_limit_is_refused_unread() -> None:
    assert "at most 1073741824 are taken" in refusal(bytes(2**30 + 1))


# Files that are something else.


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (models.pickled(), "a pickle, which can run code"),
        (pickle.dumps({"a": [1, 2]}, protocol=0), "a pickle, which can run code"),
        (models.torch_archive(), "a PyTorch archive with a pickle in it"),
        (models.torch_archive().replace(b"data.pkl", b"constants.pkl"), "a TorchScript archive"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"\x7fELF" + bytes(100), "a native library"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy array"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(100), "a TensorFlow Lite model"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":"F32"}}' + bytes(100), "a safetensors file"),
        (b"#!/bin/sh\ntrue\n", "a script"),
        (b"import os\nprint(os.environ)\n", "a text file"),
        (b'{"learner": {"gradient_booster": {}}}', "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
    ],
)
def test_a_file_that_is_something_else_is_recognised(content: bytes, what: str) -> None:
    assert refusal(content).startswith(f"it is not an ONNX file but {what}")


def test_random_and_truncated_files_are_refused() -> None:
    noise = np.random.default_rng(1).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    assert "it is not an ONNX file" in refusal(b"\x08" + noise)
    content = models.image_model()
    for length in range(1, len(content), 7):
        assert "ONNX file" in refusal(content[:length])


def test_a_model_without_a_graph_or_with_two_is_refused() -> None:
    assert "a version or a graph is missing" in refusal(edited(lambda model: model.ClearField("graph")))
    assert "a version or a graph is missing" in refusal(edited(lambda model: model.ClearField("ir_version")))
    assert "gives its `graph` twice" in refusal(models.record_model() + models.image_model())


def test_a_file_of_empty_messages_does_not_fill_the_memory() -> None:
    content = MODEL + field(7, field(1, field(5, b"") * 20_000))  # one node of 20,000 empty attributes
    tracemalloc.start()
    try:
        inspect_graph(content, "m.onnx")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize("filler", [b"\x18\x00", field(11, b""), field(13, b""), field(1, field(5, b""))])
def test_more_fields_than_a_model_needs_are_refused(filler: bytes) -> None:
    with pytest.raises(BundleRefused) as caught:
        inspect_graph(MODEL + field(7, filler * 1000), "m.onnx", budget=900)
    assert caught.value.facts["reason"] == "it is made of more than 900 fields"


def test_long_lists_of_numbers_are_passed_over() -> None:
    content = edited(
        lambda model: model.graph.node[0].attribute.extend(
            [
                helper.make_attribute("nodes_values", [0.5] * 100_000),
                helper.make_attribute("nodes_truenodeids", list(range(100_000))),
                helper.make_attribute("nodes_modes", ["BRANCH_LEQ", "LEAF"] * 50_000),
                helper.make_attribute("after", models.constant("c", [1.0])),
            ]
        )
    )
    graph = inspect_graph(content, "m.onnx", budget=200)
    assert graph.nodes == 4
    assert graph.weight_bytes == 24 + 4


def test_messages_nested_without_end_are_refused() -> None:
    inner = b""
    for _ in range(300):
        inner = field(4, field(1, inner))  # TypeProto.sequence_type.elem_type
    content = MODEL + field(7, field(13, field(2, inner)))
    assert "messages deep" in refusal(content)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000), st.sampled_from([models.image_model(), models.nested_model(3)]))
def test_garbage_raises_nothing_but_a_refusal(garbage: bytes, place: int, content: bytes) -> None:
    for candidate in (garbage, b"\x08\x09" + garbage, content[:place] + garbage + content[place + len(garbage) :]):
        with contextlib.suppress(BundleRefused):
            assert inspect_graph(candidate, "m.onnx").nodes >= 0
