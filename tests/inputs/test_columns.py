"""Records as columns: every row is accepted or refused as it is by itself, with the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from discern.core.errors import InvalidRecord
from discern.inputs.columns import Column, PreparedRows, prepare_columns
from discern.inputs.record import LARGEST, MOST_EXACT_INTEGER, prepare_record
from discern.inputs.spec import RecordSpec
from tests.inputs.test_record import GOOD, PAYMENT, spec

WORDS = ("shop", "web", "phone", "Web", "")
DTYPES = ("bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64", "longdouble", "object")
_edges = st.sampled_from(
    [0.0, -0.0, 0.5, 1.0, 23.0, 24.0, -1.0, float("nan"), float("inf"), LARGEST, LARGEST * 1.0001, 2.0**53, 2.0**53 + 2]
)
_integers = st.one_of(
    st.integers(-2, 30),
    st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63 - 1, -(2**63), 2**64 - 1]),
)
_anything = st.one_of(
    st.none(), st.booleans(), _integers, _edges, st.sampled_from(WORDS), st.just(b"web"), st.lists(st.integers())
)


@st.composite
def fields(draw: st.DrawFn, name: str) -> dict[str, object]:
    kind = draw(st.sampled_from(["number", "integer", "boolean", "category"]))
    field: dict[str, object] = {"name": name, "type": kind, "missing": draw(st.sampled_from(["refuse", "nan"]))}
    if kind == "category":
        return field | {"categories": draw(st.lists(st.sampled_from(WORDS), min_size=1, unique=True))}
    if kind in {"number", "integer"}:
        bounds = _integers if kind == "integer" else st.one_of(_integers, st.sampled_from([0.1, 22.5, -1e300, 1e300]))
        low, high = draw(st.none() | bounds), draw(st.none() | bounds)
        if low is not None and high is not None and low > high:
            low, high = high, low
        field |= {"minimum": low, "maximum": high}
    return field


@st.composite
def columns(draw: st.DrawFn, rows: int) -> Column:
    missing = draw(st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows))
    mask = None if missing is None else np.array(missing, dtype=np.bool_)
    dtype = draw(st.sampled_from((*DTYPES, "words")))
    if dtype == "words":
        codes = draw(st.lists(st.integers(0, len(WORDS) - 1), min_size=rows, max_size=rows))
        return Column(np.array(codes, dtype=np.int32), mask, WORDS)
    odd = draw(st.dictionaries(st.integers(0, rows - 1), _anything, max_size=2)) if rows else {}
    return Column(draw(arrays(dtype, rows)), mask, None, odd)


def arrays(dtype: str, rows: int) -> st.SearchStrategy[NDArray[Any]]:
    element: st.SearchStrategy[Any]
    if dtype == "object":
        element = _anything
    elif dtype == "bool":
        element = st.booleans()
    elif np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        element = _integers.filter(lambda value: info.min <= value <= info.max)
    else:
        element = st.one_of(_edges, st.floats(-3, 30, width=16))

    def array(values: list[Any]) -> NDArray[Any]:
        made = np.empty(rows, dtype=dtype)
        for row, value in enumerate(values):
            with np.errstate(over="ignore"):
                made[row] = value
        return made

    return st.lists(element, min_size=rows, max_size=rows).map(array)


@st.composite
def tables(draw: st.DrawFn) -> tuple[RecordSpec, dict[str, Column], int]:
    rows = draw(st.integers(0, 6))
    names = ["first", "second"]
    made = spec(*(draw(fields(name)) for name in names))
    given_names = draw(st.sampled_from([names, names, ["second"], ["second", "first", "other"]]))
    return made, {name: draw(columns(rows)) for name in given_names}, rows


@settings(max_examples=600, deadline=None)
@given(tables())
def test_a_row_is_accepted_when_and_only_when_it_is_accepted_as_a_record(
    table: tuple[RecordSpec, dict[str, Column], int],
) -> None:
    made, given_columns, rows = table
    prepared = prepare_columns(given_columns, rows, made)
    assert prepared.matrix.shape == (rows, 2)
    for row in range(rows):
        record = {name: column.value(row) for name, column in given_columns.items()}
        if row in prepared.refused:
            with pytest.raises(InvalidRecord) as caught:
                prepare_record(record, made)
            assert caught.value.detail == prepared.refused[row]
        else:
            assert prepared.matrix[row].tobytes() == prepare_record(record, made)[0].tobytes()


def payments(rows: int, **changes: Column) -> PreparedRows:
    made: dict[str, Column] = {
        "amount": Column(np.full(rows, 12.5)),
        "hour": Column(np.full(rows, 3)),
        "abroad": Column(np.ones(rows, np.bool_)),
        "channel": Column(np.full(rows, 1, np.int32), None, WORDS),
        "age": Column(np.zeros(rows), np.ones(rows, np.bool_)),
    }
    return prepare_columns(made | changes, rows, PAYMENT)


def test_columns_become_the_rows_their_records_become() -> None:
    prepared = payments(3)
    expected = prepare_record(GOOD | {"age": None}, PAYMENT)
    assert prepared.refused == {}
    assert prepared.matrix.tobytes() == np.repeat(expected, 3, axis=0).tobytes()


def test_a_bad_row_is_named_with_its_fault_and_spoils_no_other() -> None:
    hours = np.array([3, 24, 3, 3])
    prepared = payments(4, hour=Column(hours, np.array([False, False, False, True])))
    assert prepared.refused == {
        1: "The record has 1 fault: hour: 24 is above the maximum 23.",
        3: "The record has 1 fault: hour: missing.",
    }
    assert prepared.matrix[2, 1] == 3


@pytest.mark.parametrize("value", [2**53, MOST_EXACT_INTEGER + 1, -(2**63)])
def test_whole_numbers_are_bounded_where_they_are_no_longer_exact(value: int) -> None:
    counted = spec({"name": "count", "type": "integer"})
    prepared = prepare_columns({"count": Column(np.array([value], np.int64))}, 1, counted)
    assert bool(prepared.refused) == (abs(value) > MOST_EXACT_INTEGER)


def test_columns_are_not_changed() -> None:
    amounts = np.array([1.0, -5.0, 3.0])
    before = amounts.copy()
    payments(3, amount=Column(amounts, np.array([False, False, True])))
    assert (amounts == before).all()
