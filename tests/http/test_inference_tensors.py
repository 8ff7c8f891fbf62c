"""Tensors and their mapping to inputs, without a server."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
import zlib
from base64 import b64encode
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.core.errors import (
    CallerError,
    DetectorFailed,
    DiscernError,
    InputTooLarge,
    InvalidRecord,
    MalformedRequest,
    UnsupportedInput,
)
from discern.http import inference_models as models
from discern.http.inference_tensors import Output, Tensor, encode_answer, inflated, numbers, parse_request
from discern.inputs.spec import RecordSpec
from discern.inputs.uploads import UploadLimits

OUTPUTS = tuple(models.OUTPUTS)
LIMITS = UploadLimits(10, "batch_images", 1_000_000, "batch_bytes", 5000, "image_bytes")
SPEC = RecordSpec.model_validate(
    {
        "kind": "record",
        "fields": [
            {"name": "amount", "type": "number", "missing": "nan"},
            {"name": "count", "type": "integer"},
            {"name": "weekend", "type": "boolean"},
            {"name": "kind", "type": "category", "categories": ["shop", "cash"]},
        ],
    }
)


def of_bytes(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def request(*inputs: dict[str, Any], binary: bytes = b"", **members: Any) -> tuple[bytes, str | None]:
    text = json.dumps({"inputs": inputs, **members}).encode()
    return text + binary, str(len(text)) if binary else None


def entry(name: str, datatype: str, shape: list[int], **members: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **members}


def tensors(*inputs: dict[str, Any], binary: bytes = b"") -> tuple[Tensor, ...]:
    return parse_request(*request(*inputs, binary=binary), OUTPUTS).inputs


def binary_entry(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return entry(name, datatype, shape, parameters={"binary_data_size": size})


@pytest.mark.parametrize("data", [[1, 2.5, 3, 4, 5, 6], [[1, 2.5, 3], [4, 5, 6]]], ids=["flat", "as deep as the shape"])
def test_json_numbers_may_be_flat_or_nested(data: Any) -> None:
    (tensor,) = tensors(entry("x", "FP32", [2, 3], data=data))
    assert numbers(tensor).tolist() == [[1, 2.5, 3], [4, 5, 6]]


def test_binary_tensors_follow_one_another_in_the_order_of_the_inputs() -> None:
    first, second = np.array([1, 2], "<i2"), np.array([[0.5], [1.5]], "<f8")
    parsed = tensors(
        binary_entry("x", "INT16", [2], 4),
        entry("json", "BOOL", [2], data=[True, False]),
        binary_entry("y", "FP64", [2, 1], 16),
        binary=first.tobytes() + second.tobytes(),
    )
    assert [numbers(tensor).tolist() for tensor in parsed] == [[1, 2], [True, False], [[0.5], [1.5]]]


@pytest.mark.parametrize(
    ("one", "binary", "said"),
    [
        (entry("x", "FP32", [2], data=[1]), b"", "needs 2 values"),
        (entry("x", "FP32", [2], data=[1, 2, 3]), b"", "it has 3"),
        (entry("x", "FP32", [2, 2], data=[[1, 2, 3], [4]]), b"", "not of shape"),
        (entry("x", "FP32", [2], data=["1", "2"]), b"", "no list of FP32"),
        (entry("x", "FP32", [2], data={"a": 1, "b": 2}), b"", "no list of FP32"),
        (entry("x", "UINT8", [2], data=[1, 300]), b"", "no UINT8"),
        (entry("x", "UINT8", [2], data=[1, None]), b"", "no UINT8"),
        (entry("x", "INT8", [2], data=[1, 2.5]), b"", "no list of INT8"),
        (binary_entry("x", "FP32", [2], 7), b"1234567", "needs 8 bytes"),
        (binary_entry("x", "FP32", [2**30, 2**30, 2**30], 8), b"12345678", "needs"),
        (entry("x", "FP32", [2**30, 2**30], data=[1]), b"", "needs"),
    ],
)
def test_a_shape_that_is_not_that_of_the_data_is_refused(one: dict[str, Any], binary: bytes, said: str) -> None:
    (tensor,) = tensors(one, binary=binary)
    with pytest.raises(MalformedRequest, match=said):
        numbers(tensor)


@pytest.mark.parametrize(
    ("one", "binary", "said"),
    [
        (entry("x", "FP32", [2]), b"", "no data"),
        (entry("x", "BF16", [2], data=[1, 2]), b"", "datatype"),
        (entry("x", "FP32", [], data=[]), b"", "dimensions"),
        (entry("x", "FP32", [0], data=[]), b"", "dimensions"),
        (entry("x", "FP32", [-1], data=[1]), b"", "dimensions"),
        (entry("x", "FP32", [1] * 5, data=[1]), b"", "dimensions"),
        (entry("x", "FP32", [2**40], data=[1]), b"", "dimensions"),
        (binary_entry("x", "FP32", [1], 9), b"12345678", "8 are left"),
        (binary_entry("x", "FP32", [1], -1), b"1234", "are left"),
        (binary_entry("x", "FP32", [1], 4), b"12345", "1 bytes follow"),
        (entry("x", "FP32", [1], parameters={"binary_data_size": "4"}), b"1234", "Expected `int"),
        (entry("x", "FP32", [1], parameters={"binary_data_size": True}), b"1234", "Expected `int"),
        (entry("x", "FP32", [1], parameters={"shared_memory_region": "r"}), b"", "shared memory"),
    ],
)
def test_an_input_that_cannot_be_taken_is_named(one: dict[str, Any], binary: bytes, said: str) -> None:
    with pytest.raises(MalformedRequest, match=said):
        tensors(one, binary=binary)


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "1e3", "9" * 40, "٣"])
def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    with pytest.raises(MalformedRequest, match="Inference-Header-Content-Length"):
        parse_request(b'{"inputs": []}', length, OUTPUTS)


def test_a_declared_size_is_not_believed() -> None:
    body, length = request(binary_entry("x", "BYTES", [2**30], 8), binary=b"\0" * 8)
    tracemalloc.start()
    (tensor,) = parse_request(body, length, OUTPUTS).inputs
    with pytest.raises(MalformedRequest, match="needs 1073741824 values"):
        models.members([tensor._replace(name="image", shape=(2**30,))], replace(LIMITS, items=2**31))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "content",
    [
        of_bytes(b"one", b"two")[:-1],
        of_bytes(b"one", b"two") + b"x",
        of_bytes(b"one") + b"\xff\xff\xff\xff",
        b"\xff\xff\xff\xff" * 2,
        b"",
    ],
)
def test_byte_strings_that_do_not_add_up_are_refused(content: bytes) -> None:
    body, length = request(binary_entry("image", "BYTES", [2], len(content)), binary=content)
    with pytest.raises(MalformedRequest, match="needs 2 values"):
        models.members(parse_request(body, length or str(len(body)), OUTPUTS).inputs, LIMITS)


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({}, dict.fromkeys(OUTPUTS, False)),
        ({"parameters": {"binary_data_output": True}}, dict.fromkeys(OUTPUTS, True)),
        ({"outputs": [{"name": "score"}]}, {"score": False}),
        (
            {"outputs": [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]},
            {"score": True, "label": False},
        ),
    ],
)
def test_the_outputs_that_are_wanted(members: dict[str, Any], wanted: dict[str, bool]) -> None:
    body, length = request(entry("x", "FP32", [1], data=[1]), **members)
    assert parse_request(body, length, OUTPUTS).outputs == wanted


@pytest.mark.parametrize(
    ("output", "said"),
    [({"name": "logits"}, "no output"), ({"name": "label", "parameters": {"classification": 2}}, "classification")],
)
def test_outputs_there_are_not_are_refused(output: dict[str, Any], said: str) -> None:
    body, length = request(entry("x", "FP32", [1], data=[1]), outputs=[output])
    with pytest.raises(MalformedRequest, match=said):
        parse_request(body, length, OUTPUTS)


@pytest.mark.parametrize(
    "inputs",
    [
        [
            entry("amount", "FP32", [2], data=[1.5, None]),
            entry("count", "INT64", [2, 1], data=[[3], [4]]),
            entry("weekend", "BOOL", [2], data=[True, False]),
            entry("kind", "BYTES", [2], data=["shop", "cash"]),
        ],
        [entry("record", "FP64", [2, 4], data=[1.5, 3, 1, 0, None, 4, 0, 1])],
    ],
    ids=["a tensor a field", "one tensor"],
)
def test_tensors_become_records(inputs: list[dict[str, Any]]) -> None:
    assert models.records(tensors(*inputs), SPEC, 10) == [
        {"amount": 1.5, "count": 3, "weekend": True, "kind": "shop"},
        {"count": 4, "weekend": False, "kind": "cash"},
    ]


def test_binary_columns_become_records() -> None:
    parts = [
        np.array([np.nan, 2.5], "<f4").tobytes(),
        np.array([3, -4], "<i8").tobytes(),
        b"\0\1",
        of_bytes(b"cash", "schöp".encode()),
    ]
    kinds = [("amount", "FP32"), ("count", "INT64"), ("weekend", "BOOL"), ("kind", "BYTES")]
    inputs = [binary_entry(*kind, [2], len(part)) for kind, part in zip(kinds, parts, strict=True)]
    assert models.records(tensors(*inputs, binary=b"".join(parts)), SPEC, 10) == [
        {"count": 3, "weekend": False, "kind": "cash"},
        {"amount": 2.5, "count": -4, "weekend": True, "kind": "schöp"},
    ]


def test_what_fits_no_boolean_and_no_category_is_left_to_be_refused() -> None:
    (record,) = models.records(tensors(entry("record", "FP32", [1, 4], data=[1, 2, 0.5, 2])), SPEC, 10)
    assert (record["weekend"], record["kind"]) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "no inputs"),
        ([entry("count", "INT8", [1], data=[1])], "missing: kind, weekend"),
        ([entry("other", "INT8", [1], data=[1])], "unknown: other"),
        ([entry("count", "INT8", [1], data=[1])] * 2, "twice: count"),
        (
            [entry("amount", "FP32", [1], data=[1]), entry("count", "INT8", [2], data=[1, 2])],
            r"first dimension: \[1, 2\]",
        ),
        ([entry("record", "FP32", [1, 3], data=[1, 2, 3])], r"\[n, 4\]"),
        ([entry("record", "INT64", [1, 4], data=[1, 2, 3, 4])], r"\[n, 4\]"),
        ([entry(name, "INT8", [1, 2], data=[1, 2]) for name in ("count", "weekend", "kind")], "every field has"),
    ],
)
def test_tensors_that_are_no_records_are_refused(inputs: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(MalformedRequest, match=said):
        models.records(tensors(*inputs), SPEC, 10)


def test_more_rows_than_allowed_are_refused_by_their_shape() -> None:
    with pytest.raises(InputTooLarge, match="batch_records"):
        models.records(tensors(entry("count", "INT8", [2**30], data=[1])), SPEC, 10)
    with pytest.raises(InputTooLarge, match="batch_images"):
        models.members(tensors(entry("image", "UINT8", [2**30, 2, 2, 3], data=[1])), LIMITS)


def test_files_come_binary_or_as_base64() -> None:
    content = of_bytes(b"\xff\xd8one", b"")
    binary = models.members(tensors(binary_entry("image", "BYTES", [2], len(content)), binary=content), LIMITS)
    text = [b64encode(b"\xff\xd8one").decode(), ""]
    for members in (binary, models.members(tensors(entry("image", "BYTES", [2, 1], data=text)), LIMITS)):
        assert [member.read() for member in members] == [b"\xff\xd8one", b""]
    (wrong,) = models.members(tensors(entry("image", "BYTES", [1], data=["no base64!"])), LIMITS)
    with pytest.raises(MalformedRequest, match="base64"):
        wrong.read()


@pytest.mark.parametrize(
    "one",
    [
        entry("image", "FP32", [1, 2, 2, 3], data=[0.5] * 12),
        entry("image", "UINT8", [1, 3, 2, 2], data=[1] * 12),
        entry("image", "UINT8", [2, 2, 3], data=[1] * 12),
        entry("image", "BYTES", [1, 2], data=["", ""]),
    ],
)
def test_pictures_in_another_form_are_refused(one: dict[str, Any]) -> None:
    with pytest.raises(MalformedRequest, match=r"taken are BYTES \[n\] and UINT8 \[n, height, width, 3\]"):
        models.members(tensors(one), LIMITS)


def test_pixels_over_the_limit_are_refused_by_their_shape() -> None:
    with pytest.raises(InputTooLarge, match="image_bytes"):
        models.members(tensors(entry("image", "UINT8", [1, 1000, 1000, 3], data=[1])), LIMITS)


def test_the_rows_that_failed_are_named() -> None:
    faults: list[Any] = [InvalidRecord("a: missing.") for _ in range(7)]
    with pytest.raises(MalformedRequest) as caught:
        models.all_judged(faults)
    assert str(caught.value).startswith("7 of 7 rows cannot be judged: row 0: a: missing.; row 1:")
    assert "row 5" not in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_a_detector_that_failed_is_no_fault_of_the_caller() -> None:
    with pytest.raises(DetectorFailed):
        models.all_judged([InvalidRecord("a"), DetectorFailed("b")])


def test_an_answer_is_json_and_then_the_binary_outputs() -> None:
    outputs = [Output("score", [0.5, 1.0]), Output("label", ["ü", ""]), Output("unwanted", ["x", "y"])]
    body, length = encode_answer(outputs, {"score": True, "label": True}, {"model_name": "m"})
    assert length is not None
    told = json.loads(body[:length])
    assert told == {
        "model_name": "m",
        "outputs": [
            {"name": "score", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}},
            {"name": "label", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        ],
    }
    assert body[length:] == np.array([0.5, 1.0]).tobytes() + of_bytes("ü".encode(), b"")
    body, length = encode_answer(outputs, {"label": False}, {})
    assert (json.loads(body)["outputs"][0]["data"], length) == (["ü", ""], None)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_bodies_are_inflated_up_to_the_limit(pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "Deflate"
    assert inflated(pack(b"x" * 1000), encoding, 1000) == b"x" * 1000
    bomb = pack(b"\0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(InputTooLarge, match="batch_bytes"):
        inflated(bomb, encoding, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    for wrong in (b"x", pack(b"x")[:-1], pack(b"x") + b"x"):
        with pytest.raises(MalformedRequest):
            inflated(wrong, encoding, 1000)


def test_other_encodings_are_refused_and_none_is_left_alone() -> None:
    assert inflated(b"x", "", 1) == inflated(b"x", "identity", 1) == b"x"
    with pytest.raises(UnsupportedInput, match="gzip or deflate"):
        inflated(b"x", "br", 1)


def test_json_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputTooLarge, match="binary data"):
        parse_request(b" " * 16_000_001, None, OUTPUTS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["amount", "count", "weekend", "kind", "record", "image"]),
        "shape": st.lists(st.integers(-1, 5) | st.integers(), max_size=5),
        "datatype": st.sampled_from(["FP16", "FP32", "FP64", "INT8", "UINT8", "UINT64", "BOOL", "BYTES", "BF16"]),
    },
    optional={
        "data": VALUES,
        "parameters": st.none() | st.fixed_dictionaries({"binary_data_size": st.integers(-1, 60) | VALUES}),
    },
)


@settings(max_examples=500, deadline=None)
@given(inputs=st.lists(ENTRY, max_size=4), binary=st.binary(max_size=60), spare=st.integers(-3, 3), raw=st.booleans())
def test_no_request_raises_anything_but_our_errors(
    inputs: list[dict[str, Any]], binary: bytes, spare: int, raw: bool
) -> None:
    text = json.dumps({"inputs": inputs}).encode()
    body, length = (binary, None) if raw else (text + binary, str(len(text) + spare))
    try:
        parsed = parse_request(body, length, OUTPUTS).inputs
    except CallerError:
        return
    for take in (
        lambda: models.records(parsed, SPEC, 10),
        lambda: [member.read() for member in models.members(parsed, LIMITS)],
    ):
        try:
            assert isinstance(take(), list)
        except DiscernError as error:
            assert isinstance(error, CallerError)  # noqa: PT017
