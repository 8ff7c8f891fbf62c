"""The compiled reader accepts what the thorough one accepts, gives the same row, and refuses with its words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.errors import CallerError, EmptyInput, InputTooLarge, InvalidRecord, MalformedRequest
from discern.inputs.prepare import prepare_record_input
from discern.inputs.record_reader import RecordReader
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits

SPEC = RecordSpec.model_validate(
    {
        "kind": "record",
        "fields": [
            {"name": "zeta", "type": "number", "minimum": -5, "maximum": 1e6},
            {"name": "class", "type": "category", "categories": ["a", "b", "ä"], "missing": "nan"},
            {"name": "count", "type": "integer", "minimum": 0},
            {"name": "Night", "type": "boolean", "missing": "nan"},
            {"name": "free", "type": "number", "missing": "nan"},
            {"name": "far", "type": "number", "minimum": 1e300, "missing": "nan"},
        ],
    }
)
LIMITS = InputLimits(record_bytes=2_000)
GOOD: dict[str, Any] = {"zeta": 1.5, "class": "b", "count": 3, "Night": True, "free": -0.0}
READER = RecordReader(SPEC, LIMITS)

_numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 3.4028235e38, 3.5e38, 1e308]),
)
_values = st.one_of(st.none(), st.booleans(), _numbers, st.sampled_from(["a", "b", "ä", "A", "", "12"]), st.just([1]))
_records = st.dictionaries(st.sampled_from(["zeta", "class", "count", "Night", "free", "far", "other"]), _values)


def outcome(call: Any) -> Any:
    """What a reader made of a record: the bits of its row and its facts, or the error."""
    try:
        values, facts = call()
    except CallerError as error:
        return type(error), error.detail, error.facts
    return np.array([values], dtype=np.float32).tobytes(), facts


def thoroughly(record: dict[str, Any]) -> Any:
    prepared = prepare_record_input(record, SPEC, LIMITS)
    return tuple(prepared.tensor[0]), prepared.facts


@given(st.one_of(_records, _records.map(lambda changes: GOOD | changes)))
def test_the_reader_and_the_thorough_way_agree_on_every_record(record: dict[str, Any]) -> None:
    assert outcome(lambda: READER.from_record(record)) == outcome(lambda: thoroughly(record))


@given(st.one_of(_records, _records.map(lambda changes: GOOD | changes)))
def test_json_and_a_record_in_memory_are_read_alike(record: dict[str, Any]) -> None:
    text = json.dumps(record)
    try:
        plain = msgspec.json.decode(text)
    except msgspec.DecodeError:  # NaN and infinities are no JSON
        with pytest.raises(MalformedRequest):
            READER.from_json(text.encode())
        return
    assert outcome(lambda: READER.from_json(text.encode())) == outcome(lambda: thoroughly(plain))


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_an_error_of_ours(content: bytes) -> None:
    with pytest.raises((EmptyInput, MalformedRequest, InvalidRecord)):
        READER.from_json(content)


def test_order_spacing_and_nulls_do_not_change_the_digest() -> None:
    spaced = b'{ "count": 3,\n "class": "b", "free": -0.0, "Night": true, "zeta": 1.5, "far": null }'
    assert READER.from_json(spaced) == READER.from_json(json.dumps(GOOD).encode()) == READER.from_record(GOOD)


def test_numbers_of_numpy_are_numbers() -> None:
    of_numpy = GOOD | {"zeta": np.float64(1.5), "count": np.int64(3)}
    assert outcome(lambda: READER.from_record(of_numpy)) == outcome(lambda: READER.from_record(GOOD))


def test_a_detector_of_one_field_gets_a_row_of_one() -> None:
    one = RecordSpec.model_validate({"kind": "record", "fields": [{"name": "x", "type": "number"}]})
    assert RecordReader(one, LIMITS).from_json(b'{"x": 2}').values == (2,)


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(InputTooLarge) as caught:
        READER.from_json(b"{" + b" " * 2_000)
    assert caught.value.facts["limit"] == "record_bytes"
