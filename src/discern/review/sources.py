"""Labels from outside: lines of JSON, and rows of CSV and Parquet files.

- A line that is no label is told with its number, and does not keep the others from being read.
- Rows come one by one, however long a file is. Of one that breaks off what came before is told and taken, and the
  rest is refused as one row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from discern.core.errors import CallerError, InputTooLarge, MissingExtra, UnsupportedInput
from discern.review.rules import line_of
from discern.review.types import LabelLine, Line

COLUMNS = tuple(LabelLine.__struct_fields__)
_ROWS_A_BATCH = 2000


def json_lines(content: bytes, *, most: int, setting: str) -> list[Line]:
    """Return the lines of a body; empty ones do not count. Raises InputTooLarge for more than `most`."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    if len(lines) > most:
        detail = f"There are {len(lines)} labels, and at most {most} are taken at once."
        mend = "Send them in parts, or use `discern label import`."
        raise InputTooLarge(detail, mend=mend, limit=setting, allowed=most, found=len(lines))
    return [_from_json(line) for line in lines]


def _from_json(line: bytes) -> Line:
    try:
        return line_of(msgspec.json.decode(line), strict=False)
    except (msgspec.DecodeError, RecursionError) as error:
        return CallerError(f"The line is no JSON: {error}.", mend="Send one JSON object a line.")


def file_lines(path: Path) -> Iterator[Line]:
    """Yield the rows of a CSV or Parquet file, by its ending; the row after a CSV file's heading is the first.

    Raises CallerError for a file that cannot be read or whose columns are not those of labels, and MissingExtra where
    Parquet needs what is not installed.
    """
    kind = path.suffix.lower()
    if kind == ".csv":
        yield from _broken_off(_from_csv(path))
    elif kind in {".parquet", ".pq"}:
        yield from _broken_off(_from_parquet(path))
    else:
        raise UnsupportedInput(
            f"{path.name} is neither .csv nor .parquet.", mend=f"Write one with the columns {', '.join(COLUMNS)}."
        )


def _broken_off(rows: Iterator[Line]) -> Iterator[Line]:
    """Yield rows; where they cannot be read to their end, that as the last one, unless it is the first."""
    has_begun = False
    try:
        for row in rows:
            has_begun = True
            yield row
    except CallerError as error:
        if not has_begun:
            raise
        detail = f"This row and those after it cannot be read: {error.detail}"
        yield CallerError(detail, mend=error.mend)


def _from_csv(path: Path) -> Iterator[Line]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            _check_columns(path, rows.fieldnames or ())
            for row in rows:
                if None in row or None in row.values():
                    yield CallerError("The row has other columns than the heading.", mend="Correct the row.")
                else:
                    yield line_of({name: value for name, value in row.items() if value != ""}, strict=False)
    except OSError as error:
        raise CallerError(f"{path} cannot be read: {error.strerror}.", mend="Name a file that can.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CallerError(f"{path} is no CSV file in UTF-8: {error}.", mend="Write it anew.") from error


def _from_parquet(path: Path) -> Iterator[Line]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional part of the installation
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        detail = "Parquet files need the optional part `bulk`, which is not installed here."
        raise MissingExtra(detail, mend="Write CSV, or install `bulk`.", extra="bulk") from error
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            for batch in file.iter_batches(_ROWS_A_BATCH):
                for row in batch.to_pylist():
                    yield line_of(_without_nulls(row), strict=False)
    except OSError as error:
        raise CallerError(f"{path} cannot be read: {error}.", mend="Name a file that can.") from error
    except (pa.lib.ArrowException, ValueError) as error:
        raise CallerError(f"{path} is no Parquet file: {str(error)[:200]}.", mend="Write it anew.") from error


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    # A cell without a value says nothing: who means that nobody can tell says `unknown`.
    return {name: value for name, value in row.items() if value is not None}


def _check_columns(path: Path, names: Any) -> None:  # noqa: ANN401 - of either library
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in ("verdict_id", "label") if name not in names]
    twice = [name for name in COLUMNS if list(names).count(name) > 1]
    if twice and not unknown:
        detail = f"{path.name} has the column {twice[0]!r} twice."
        raise CallerError(detail, mend="Keep the one that is meant.")
    if unknown or missing:
        wrong = f"has the column {str(unknown[0])[:100]!r}" if unknown else f"lacks the column {missing[0]!r}"
        raise CallerError(f"{path.name} {wrong}.", mend=f"Labels have the columns {', '.join(COLUMNS)}.")
