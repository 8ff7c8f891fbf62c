from __future__ import annotations

import io
import math
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.core.errors import CallerError, InputTooLarge, InvalidRecord, MalformedRequest, MissingExtra
from discern.inputs.arrow import arrow_records
from discern.inputs.spec import RecordSpec
from discern.inputs.types import Record

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")

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
ROWS: list[dict[str, Any]] = [
    {"amount": 1.5, "count": 3, "weekend": True, "kind": "shop"},
    {"amount": None, "count": -3, "weekend": None, "kind": "cash"},
    {"amount": 2.0, "count": None, "weekend": False, "kind": None},
]


def stream(table: Any, rows_a_batch: int = 2, **options: Any) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows_a_batch)
    return out.getvalue()


def read(content: bytes, most: int = 10) -> list[Record]:
    return arrow_records(content, SPEC, most=most, setting="batch_records")


def test_rows_come_back_as_records() -> None:
    assert read(stream(pa.Table.from_pylist(ROWS))) == ROWS


@pytest.mark.parametrize("kind", ["int8", "uint16", "int64", "float16", "float32", "float64"])
def test_numbers_of_every_width_keep_their_values(kind: str) -> None:
    for values in ([1, 2, 100], [1, None, 100]):
        column = pa.array(values, pa.float32()).cast(kind)
        assert [row["amount"] for row in read(stream(pa.table({"amount": column})))] == values


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_words_of_every_kind_keep_their_values(kind: Any) -> None:
    words = ["shop", None, "cash", "shop"]
    assert [row["kind"] for row in read(stream(pa.table({"kind": pa.array(words).cast(kind)})))] == words


def test_a_column_of_nothing_and_no_columns_at_all() -> None:
    assert read(stream(pa.table({"amount": pa.nulls(2)}))) == [{"amount": None}] * 2
    assert read(stream(pa.table({"amount": pa.array([], pa.float64())}))) == []


def test_nan_is_a_value_and_not_a_missing_one() -> None:
    (row,) = read(stream(pa.table({"amount": pa.array([math.nan])})))
    assert isinstance(row["amount"], float)
    assert math.isnan(row["amount"])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"other": [1]}), "'other': no field"),
        (pa.table([[1], [2]], names=["amount", "amount"]), "there twice"),
        (pa.table({"amount": [[1]]}), "amount: columns of type list"),
        (pa.table({"amount": [b"x"]}), "amount: columns of type binary"),
        (pa.table({"kind": pa.array(["x"], pa.string_view())}), "kind: columns of type string_view"),
        (pa.table({"count": pa.array([1], pa.timestamp("s"))}), "count: columns of type timestamp"),
        (pa.table({f"field{number}": [1] for number in range(5)}), "5 columns for 4 fields"),
    ],
)
def test_columns_that_do_not_fit_are_named(table: Any, said: str) -> None:
    with pytest.raises(InvalidRecord, match=said):
        read(stream(table))


def test_more_rows_than_allowed_are_refused_before_one_is_made() -> None:
    table = pa.table({"amount": range(11)})
    with pytest.raises(InputTooLarge, match="batch_records"):
        read(stream(table))
    assert len(read(stream(table), most=11)) == 11


def test_empty_batches_without_end_are_refused() -> None:
    table = pa.table({"amount": pa.array([], pa.float64())})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        for _ in range(1100):
            writer.write_batch(pa.record_batch({"amount": pa.array([], pa.float64())}))
    with pytest.raises(InputTooLarge, match="batch_records"):
        read(out.getvalue())


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_packed_buffers_are_refused_before_they_are_unpacked(codec: str) -> None:
    plain = pa.table({"amount": [1.0] * 9})
    coded = pa.table({"kind": pa.array(["shop" * 100] * 9).dictionary_encode()})
    for table in (plain, coded):
        with pytest.raises(MalformedRequest, match="compressed"):
            read(stream(table, compression=codec))


@pytest.mark.parametrize("content", [b"", b"x" * 100, stream(pa.Table.from_pylist(ROWS))[:-200], b"\xff" * 50])
def test_what_is_no_stream_is_said(content: bytes) -> None:
    with pytest.raises(MalformedRequest, match="Arrow stream"):
        read(content)


def test_where_the_library_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = stream(pa.Table.from_pylist(ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="bulk") as caught:
        read(content)
    assert caught.value.facts == {"extra": "bulk"}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_a_stream_raises_anything_but_our_errors(data: st.DataObject) -> None:
    table = pa.Table.from_pylist(ROWS)
    content = bytearray(stream(table.set_column(3, "kind", table["kind"].dictionary_encode())))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut]), bytes(content[cut:])):
        try:
            assert isinstance(read(damaged), list)
        except CallerError:
            continue
