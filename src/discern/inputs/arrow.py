"""Records from an Arrow IPC stream in memory (https://arrow.apache.org/docs/format/Columnar.html).

- Columns are plain numbers, booleans, strings, or dictionaries of these, so that what they unpack to is bounded by the
  bytes that were sent; packed buffers, whose size nobody could know before unpacking, are refused.
- How many rows there are is checked before one is made.
- No bytes raise anything but our own errors.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from discern.core.errors import InvalidRecord, MalformedRequest, MissingExtra
from discern.inputs.types import Record
from discern.inputs.uploads import too_many

if TYPE_CHECKING:
    import pyarrow as pa

    from discern.inputs.spec import RecordSpec

# Positions of fields in the tables of Message.fbs.
_MESSAGE_HEADER = 2
_DICTIONARY_DATA = 1
_BATCH_LENGTH = 0
_BATCH_COMPRESSION = 3
# Batches and dictionaries beyond one a row: an empty one costs time too.
_SPARE_MESSAGES = 1000
_SHOWN = 200


def arrow_records(content: bytes, spec: RecordSpec, *, most: int, setting: str) -> list[Record]:
    """Return the rows of an Arrow stream as records, null where a value misses; their values are not yet checked.

    Raises MissingExtra without pyarrow, MalformedRequest for what is no such stream, InvalidRecord for columns that are
    no fields of `spec` or of a type that is not taken, InputTooLarge for more than `most` rows, naming `setting`.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional part of the installation
        import pyarrow.ipc  # noqa: PLC0415
    except ImportError as error:
        detail = "Arrow streams need the optional part `bulk`, which is not installed here."
        raise MissingExtra(detail, mend="Send JSON or NDJSON, or install `bulk`.", extra="bulk") from error
    try:
        rows = _examined(content, pa, most=most, setting=setting)
        reader = pyarrow.ipc.open_stream(pa.py_buffer(content))
        _check_columns(reader.schema, spec, pa)
        records: list[Record] = []
        for batch in reader:
            batch.validate(full=True)
            records += _records(batch)
    except (pa.lib.ArrowException, OSError, struct.error, ValueError, OverflowError) as error:
        shown = str(error)[:_SHOWN].rstrip(".") or type(error).__name__
        detail = f"The body is not an Arrow stream that can be read: {shown}."
        raise MalformedRequest(detail, mend="Send what `pyarrow.ipc.new_stream` writes.") from error
    if len(records) != rows:
        raise MalformedRequest("The Arrow stream ends before its last batch.", mend="Send it again.")
    return records


def _examined(content: bytes, pa: Any, *, most: int, setting: str) -> int:  # noqa: ANN401 - the optional library
    """Return how many rows the stream says it has. Reads the heads of its messages, and none of their bodies."""
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(content))
    rows = 0
    for number, message in enumerate(reader):
        if number > most + _SPARE_MESSAGES:
            raise too_many(setting, most)
        metadata = message.metadata.to_pybytes()
        if message.type == "record batch":
            batch = _child(metadata, _root(metadata), _MESSAGE_HEADER)
            rows += _length(metadata, batch)
            if rows > most:
                raise too_many(setting, most)
        elif message.type == "dictionary":
            batch = _child(metadata, _child(metadata, _root(metadata), _MESSAGE_HEADER), _DICTIONARY_DATA)
        else:
            continue
        if _field(metadata, batch, _BATCH_COMPRESSION) is not None:
            detail = "The buffers of the Arrow stream are compressed."
            raise MalformedRequest(detail, mend="Write it with `IpcWriteOptions(compression=None)`.")
    return rows


def _check_columns(schema: pa.Schema, spec: RecordSpec, pa: Any) -> None:  # noqa: ANN401 - the optional library
    known = {field.name for field in spec.fields}
    faults = []
    if len(schema) > len(known) or len(set(schema.names)) < len(schema):
        faults = [f"{len(schema)} columns for {len(known)} fields, or a column that is there twice"]
    else:
        faults += [f"{name[:_SHOWN]!r}: no field of this detector" for name in schema.names if name not in known]
        faults += [
            f"{column.name}: columns of type {str(column.type)[:_SHOWN]} are not taken"
            for column in schema
            if column.name in known and not _is_taken(column.type, pa)
        ]
    if faults:
        raise InvalidRecord(
            f"The columns do not fit: {'; '.join(faults[:3])}.",
            mend="Send numbers, booleans and strings, in columns named like the fields.",
            faults=faults[:100],
        )


def _is_taken(kind: pa.DataType, pa: Any) -> bool:  # noqa: ANN401 - the optional library
    types = pa.types
    if types.is_dictionary(kind):
        return not types.is_dictionary(kind.value_type) and _is_taken(kind.value_type, pa)
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_null(kind)
    )


def _records(batch: pa.RecordBatch) -> list[Record]:
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    return [dict(zip(names, row, strict=True)) for row in zip(*map(_values, batch.columns), strict=True)]


def _values(column: pa.Array) -> list[Any]:
    if hasattr(column, "dictionary"):
        words = column.dictionary.to_pylist()
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    kind = column.type
    if column.null_count == 0 and kind.num_buffers == 2 and kind.bit_width >= 8:  # numbers, and none misses
        return list(column.to_numpy().tolist())
    return list(column.to_pylist())


def _root(metadata: bytes) -> int:
    return int(struct.unpack_from("<I", metadata, 0)[0])


def _field(metadata: bytes, table: int, position: int) -> int | None:
    """Return where a field of a flatbuffer table stands, or None where it is left out."""
    entries = table - struct.unpack_from("<i", metadata, table)[0]
    at = 4 + 2 * position
    if entries < 0 or at + 2 > struct.unpack_from("<H", metadata, entries)[0]:
        return None
    offset = struct.unpack_from("<H", metadata, entries + at)[0]
    return table + offset if offset else None


def _child(metadata: bytes, table: int, position: int) -> int:
    """Return where the table that a field holds stands."""
    at = _field(metadata, table, position)
    if at is None:
        raise ValueError("a message without its header")
    return int(at + struct.unpack_from("<I", metadata, at)[0])


def _length(metadata: bytes, batch: int) -> int:
    at = _field(metadata, batch, _BATCH_LENGTH)
    length = 0 if at is None else int(struct.unpack_from("<q", metadata, at)[0])
    if length < 0:
        raise ValueError("a batch of fewer than no rows")
    return length
