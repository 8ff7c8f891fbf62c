"""Tables in pieces: Parquet and CSV as Arrow record batches.

- Only the columns that are needed are read, a few megabytes at a time.
- A row's number is its place in the file, whatever was skipped and however the pieces are cut.
- A line of a CSV file that has too few or too many cells is a bad row, and the rest is read.
- An empty cell of a CSV file without quotes misses.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from discern.core.errors import EmptyInput, MalformedRequest, UnreadableInput
from discern.detection.bulk.rules import columns_do_not_fit
from discern.inputs.spec import BooleanField, CategoryField, RecordField, RecordSpec
from discern.inputs.tables import is_text

PART_ROWS = 65_536
PART_BYTES = 8 * 1024**2
_LEAST_ROWS = 256
_SENT_ARE_SMALLER = 4
_CSV_BLOCK_BYTES = 4 * 1024**2
_HEADER_BYTES = 1024**2
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows `start` to `start + rows` of a table: `batch` holds those that could be read, `bad` says of the others why.

    The keys of `bad` count from the start of the part.
    """

    start: int
    rows: int
    batch: Any
    bad: dict[int, str] = field(default_factory=dict)


class ParquetTable:
    """A Parquet file."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        try:
            # Without pre-buffering a row group of any size goes through a buffer of one.
            self._file = pq.ParquetFile(file, pre_buffer=False, buffer_size=1024**2)
            self._schema = self._file.schema_arrow
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(name, error) from error

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return list(self._schema.names)

    @property
    def rows(self) -> int | None:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    def id_type(self, id_column: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return the type of a column."""
        return self._schema.field(id_column).type

    def check(self, spec: RecordSpec) -> None:
        """Raise InvalidRecord naming every column whose type its field can never take."""
        faults = [
            f"{one.name}: a column of {self._schema.field(one.name).type}, the field is a {one.type}"
            for one in spec.fields
            if one.name in self._schema.names and not _fits(self._schema.field(one.name).type, one)
        ]
        if faults:
            raise columns_do_not_fit(faults)

    def parts(self, columns: Sequence[str], skip: int, part_rows: int) -> Iterator[TablePart]:
        """Yield the rows from row `skip` on. Raises UnreadableInput."""
        start = 0
        metadata = self._file.metadata
        try:
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                if start + rows <= skip:
                    start += rows
                    continue
                for batch in self._file.iter_batches(part_rows, row_groups=[group], columns=list(columns)):
                    end = start + batch.num_rows
                    if end > skip:
                        kept = batch.slice(max(0, skip - start))
                        yield TablePart(end - kept.num_rows, kept.num_rows, kept)
                    start = end
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(self._name, error) from error


class CsvTable:
    """A CSV file with a header; cells are separated by comma, semicolon, tab or bar, as the header is."""

    rows: int | None = None

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self._delimiter, self.names = _header(name, file)

    def id_type(self, id_column: str) -> Any:  # noqa: ANN401, ARG002
        """Return the type of a column: text."""
        return pa.string()

    def check(self, spec: RecordSpec) -> None:
        """Raise nothing: a CSV file has no types."""

    def parts(self, columns: Sequence[str], skip: int, part_rows: int) -> Iterator[TablePart]:  # noqa: ARG002
        """Yield the rows from row `skip` on. Raises UnreadableInput."""
        malformed: list[tuple[int, str]] = []
        expected = len(self.names)

        def note(row: Any) -> str:  # noqa: ANN401
            # The header is row 1.
            malformed.append((row.number - 2, f"The row has {row.actual_columns} cells, the header {expected}."))
            return "skip"

        self._file.seek(0)
        try:
            reader = pa_csv.open_csv(
                self._file,
                # One thread: only then do malformed rows have a number.
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=note
                ),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=list(columns),
                    # As bytes: text that is not UTF-8 would end the reading.
                    column_types=dict.fromkeys(columns, pa.binary()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            start = 0
            for batch in reader:
                part = _with_bad_rows(start, _as_text(batch), malformed)
                start += part.rows
                if start > skip:
                    yield _from(part, skip)
            if malformed:
                rest = _with_bad_rows(start, None, malformed)
                empty = pa.RecordBatch.from_pylist([], pa.schema([(name, pa.string()) for name in columns]))
                if start + rest.rows > skip:
                    yield _from(TablePart(start, rest.rows, empty, rest.bad), skip)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(self._name, error) from error


def part_rows(columns: int, *, sent: bool = False) -> int:
    """Return how many rows of so many columns make a part of a few megabytes, of fewer where it is `sent` elsewhere."""
    most = PART_BYTES // _SENT_ARE_SMALLER if sent else PART_BYTES
    return max(_LEAST_ROWS, min(PART_ROWS, most // (8 * max(1, columns))))


def _fits(kind: Any, one: RecordField) -> bool:  # noqa: ANN401
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return True
    if isinstance(one, BooleanField):
        return bool(pa.types.is_boolean(kind))
    if isinstance(one, CategoryField):
        return is_text(kind)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _as_text(batch: Any) -> Any:  # noqa: ANN401
    """Return columns of bytes as text; what is not UTF-8 is replaced, so that it is no number and no category."""
    columns = []
    for column in batch.columns:
        try:
            columns.append(pc.cast(column, pa.string()))
        except pa.ArrowInvalid:
            texts = [None if cell is None else cell.decode(errors="replace") for cell in column.to_pylist()]
            columns.append(pa.array(texts, pa.string()))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _with_bad_rows(start: int, batch: Any, malformed: list[tuple[int, str]]) -> TablePart:  # noqa: ANN401
    """Return a part with the malformed rows that stand before its last good row; without a batch, with all of them."""
    rows = 0 if batch is None else batch.num_rows
    bad: dict[int, str] = {}
    while malformed and (batch is None or malformed[0][0] < start + rows):
        number, reason = malformed.pop(0)
        bad[number - start] = reason
        rows += 1
    return TablePart(start, rows, batch, bad)


def _from(part: TablePart, row: int) -> TablePart:
    """Return a part without the rows before row `row` of the file."""
    leave = row - part.start
    if leave <= 0:
        return part
    bad = {position - leave: reason for position, reason in part.bad.items() if position >= leave}
    good = part.batch.slice(leave - (len(part.bad) - len(bad)))
    return TablePart(row, part.rows - leave, good, bad)


def _header(name: str, file: BinaryIO) -> tuple[str, list[str]]:
    line = file.readline(_HEADER_BYTES).removeprefix(b"\xef\xbb\xbf")
    if not line.strip():
        raise EmptyInput(
            f"{name} is empty." if not line else f"{name} begins with an empty line.", mend="See the file."
        )
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"{name} is neither Parquet nor text in UTF-8.", mend="Convert it.") from error
    if "\0" in text:
        raise UnreadableInput(f"{name} is neither Parquet nor text.", mend="Give Parquet, CSV or NDJSON.")
    delimiter = max(_DELIMITERS, key=lambda one: len(re.sub(r'"[^"]*"', "", text).split(one)))
    try:
        return delimiter, next(csv.reader([text], delimiter=delimiter))
    except csv.Error as error:
        raise MalformedRequest(f"{name}: the header cannot be read: {error}.", mend="Correct it.") from error


def _unreadable(name: str, error: BaseException) -> UnreadableInput:
    reason = " ".join(str(error).split())[:200]
    return UnreadableInput(f"{name} cannot be read: {reason}.", mend="See that the file is whole.")
