"""Hours, and verdicts without whom they are of, as Parquet in a folder for each month.

- A file is there as a whole or not at all, and a month that is written again takes the place of what was there.
- The columns are those of `HOURS` and `VERDICTS`; one may be added at the end, none is renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discern.core.errors import CallerError, MissingExtra
from discern.monitoring.analytics.rules_sketches import callers_in, callers_of, histogram_of, quantile
from discern.monitoring.analytics.types import HourRow

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 50_000
_COUNTS = ("verdicts", "clear", "review", "flag", "cached", "degraded")
HOURS: tuple[tuple[str, str], ...] = (
    ("hour", "timestamp"),
    ("workspace", "string"),
    ("detector", "string"),
    ("version", "string"),
    *((name, "int64") for name in _COUNTS),
    ("milliseconds", "float64"),
    ("p50_milliseconds", "float64"),
    ("p95_milliseconds", "float64"),
    ("p99_milliseconds", "float64"),
    ("callers", "int64"),
    ("drift_alarms", "int64"),
    ("cost", "float64"),
    ("currency", "string"),
)
VERDICTS: tuple[tuple[str, str], ...] = (
    ("id", "string"),
    ("created_at", "timestamp"),
    ("workspace", "string"),
    ("detector", "string"),
    ("version", "string"),
    ("decision", "string"),
    ("score", "float64"),
)


def check_available() -> None:
    """Raise MissingExtra where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        detail = "Parquet needs pyarrow, which is not installed."
        raise MissingExtra(detail, mend="Install the extra `bulk`.", extra="bulk")


def hour_values(row: HourRow, currency: str) -> tuple[Any, ...]:
    """Return an hour in the order of `HOURS`."""
    cells = histogram_of(row.latencies)
    quantiles = [quantile(cells, share) for share in (0.5, 0.95, 0.99)]
    others = callers_in(callers_of(row.callers)), row.drift_alarms, row.cost, currency
    return row.hour, *row.release, *row.numbers, *quantiles, *others


def write_month(
    folder: Path, name: str, month: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]
) -> int:
    """Write `folder/name/month=.../part-0.parquet`; return how many rows. Of none there is no file.

    Raises CallerError where it cannot be written.
    """
    import pyarrow as pa  # noqa: PLC0415 - in an extra
    from pyarrow import parquet  # noqa: PLC0415 - likewise

    kinds = {
        "timestamp": pa.timestamp("us", tz="UTC"),
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
    }
    schema = pa.schema([(column, kinds[kind]) for column, kind in columns])
    place = folder / name / f"month={month}"
    path, unfinished = place / "part-0.parquet", place / ".part-0.parquet.unfinished"
    written = 0
    try:
        place.mkdir(parents=True, exist_ok=True)
        with parquet.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for part in _parts(rows):
                writer.write_table(_table(schema, part))
                written += len(part)
        if not written:
            unfinished.unlink()
            path.unlink(missing_ok=True)
            return 0
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise CallerError(f"{place} cannot be written: {error}.", mend="Name another folder.") from error
    return written


def _table(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - in an extra

    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def _parts(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    iterator = iter(rows)
    while part := list(islice(iterator, _ROWS)):
        yield part
