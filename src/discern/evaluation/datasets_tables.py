"""Records of frozen tables: their roles as arrays, and their fields as a detector takes them.

- Rows keep the order of the files and of the rows in them; a row's id is `FILE#ROW`, counted from 0 without the header.
- Cells of a CSV file are text until a role or a field says what they are.
- A row without a label, a group or an amount where the table has them is an error, never a guess.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import check_once
from discern.evaluation.types_datasets import Columns, Condition, Join
from discern.inputs.columns import Column
from discern.inputs.spec import RecordSpec
from discern.inputs.tables import columns_of, holds_values, is_text

PART_ROWS = 65_536
_CSV_BLOCK_BYTES = 16 * 1024**2
_SHOWN = 5
_DAY_SECONDS = 86_400
_COMPARE: Mapping[str, str] = {
    "==": "equal",
    "!=": "not_equal",
    ">=": "greater_equal",
    "<=": "less_equal",
    ">": "greater",
    "<": "less",
}
# Odd constants that mix bits well (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
_MIX_1, _MIX_2, _STEP = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of one or several files are read: which ones, and what else belongs to a row."""

    root: Path
    paths: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    join: Join | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """The rows of a table that meet its conditions, as columns [n]; `rows` counts those of the files.

    `places` are the numbers of file and row, int64 [n, 2]. `groups` and `cards` are positions in their names.
    """

    rows: int
    places: NDArray[np.int64]
    labels: NDArray[np.int8]
    groups: NDArray[np.int64]
    group_names: list[str]
    amounts: NDArray[np.float64] | None = None
    days: NDArray[np.int64] | None = None
    cards: NDArray[np.int64] | None = None
    splits: NDArray[np.object_] | None = None
    subgroups: dict[str, NDArray[np.object_]] = field(default_factory=dict)

    def ids(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return `FILE#ROW` of every row."""
        return tuple(f"{paths[file]}#{row}" for file, row in self.places.tolist())


def names_of(table: Table) -> list[str]:
    """Return the names of the columns, those that are joined included. Raises DatasetRefused."""
    names = _header(table.root, table.paths[0])
    for path in table.paths[1:]:
        if _header(table.root, path) != names:
            raise DatasetRefused(f"{path} has other columns than {table.paths[0]}.", mend="Freeze them apart.")
    if table.join is not None:
        names = names + [name for name in _header(table.root, table.join.path) if name not in names]
    return names


def holds_text(root: Path, path: str, name: str) -> bool:
    """Tell whether a column is of text, as every one of a CSV file is. Raises DatasetRefused."""
    table = Table(root, (path,))
    check_columns(Columns(label=name), (), names_of(table))
    return not path.lower().endswith(".parquet") or is_text(pq.read_schema(root / path).field(name).type)


def check_columns(columns: Columns, conditions: Sequence[Condition], names: Sequence[str]) -> None:
    """Raise DatasetRefused for roles and conditions whose columns are not there."""
    roles = (columns.label, columns.group, columns.amount, columns.at, columns.card, columns.split, columns.identifier)
    asked = {*roles, *columns.subgroups, *columns.withheld, *(one.column for one in conditions)} - {None}
    missing = sorted(str(name) for name in asked - set(names))
    if missing:
        shown = ", ".join(list(names)[:20])
        raise DatasetRefused(f"There is no column {', '.join(missing)}.", mend=f"The columns are: {shown}.")


def read_roles(table: Table, columns: Columns) -> Roles:
    """Read what the columns are for, of every row that meets the conditions. Raises DatasetRefused."""
    one_by_one = (columns.label, columns.group, columns.amount, columns.at, columns.card, columns.split)
    wanted = sorted({name for name in (*one_by_one, *columns.subgroups) if name is not None})
    rows = 0
    places: list[NDArray[np.int64]] = []
    batches: list[Any] = []
    for file, start, batch, kept in _pieces(table, wanted):
        rows += batch.num_rows
        places.append(np.stack([np.full(len(kept), file), start + kept], axis=1))
        batches.append(batch.take(pa.array(kept)).select(wanted))
    if not sum(map(len, places)):
        raise DatasetRefused("No row is left.", mend="See the conditions and the files.")
    read = pa.Table.from_batches(batches)
    place = np.concatenate(places)
    at = _Reading(read, table.paths, place)
    groups, group_names = at.codes(columns.group) if columns.group else (np.arange(len(place)), at.row_names())
    return Roles(
        rows=rows,
        places=place,
        labels=at.labels(columns),
        groups=groups,
        group_names=group_names,
        amounts=at.numbers(columns.amount) if columns.amount else None,
        days=at.days(columns.at, columns.at_unit) if columns.at else None,
        cards=at.codes(columns.card)[0] if columns.card else None,
        splits=at.words(columns.split, missing=None) if columns.split else None,
        subgroups={name: at.words(name, missing="(none)") for name in columns.subgroups},
    )


def field_parts(
    table: Table, spec: RecordSpec, chosen: NDArray[np.bool_] | None
) -> Iterator[tuple[dict[str, Column], int]]:
    """Yield in parts the fields of the rows that meet the conditions and are `chosen` [n], and how many they are."""
    wanted = [one.name for one in spec.fields]
    done = 0
    for _, _, batch, kept in _pieces(table, wanted):
        taken = kept if chosen is None else kept[chosen[done : done + len(kept)]]
        done += len(kept)
        for one in spec.fields:
            kind = batch.schema.field(one.name).type
            if not holds_values(kind):
                raise DatasetRefused(f"{one.name} holds {kind}, the field is a {one.type}.", mend="Convert the column.")
        if len(taken):
            yield columns_of(batch.take(pa.array(taken)).select(wanted), spec), len(taken)


def row_hashes(table: Table, names: Sequence[str]) -> NDArray[np.uint64]:
    """Return 64 bits for each row that meets the conditions, the same for rows with the same values in the columns.

    Values are taken as numbers where a column holds numbers, else as text. Two different rows of a million have the
    same bits with a probability of one in thirty million.
    """
    found = [np.zeros(0, np.uint64)]
    for _, _, batch, kept in _pieces(table, list(names)):
        taken = batch.take(pa.array(kept))
        mixed = np.zeros(taken.num_rows, np.uint64)
        for name in names:
            mixed = _mixed(mixed + _STEP + _bits(taken.column(name)))
        found.append(mixed)
    return np.concatenate(found)


def text_rows(root: Path, path: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a Parquet file as text, empty where a value misses. Raises DatasetRefused."""
    table = Table(root, (path,))
    missing = sorted(set(columns) - set(names_of(table)))
    if missing:
        raise DatasetRefused(f"{path} has no column {', '.join(missing)}.", mend="See its columns.")
    for _, _, batch, _ in _pieces(table, sorted(set(columns))):
        for row in batch.to_pylist():
            yield {name: "" if value is None else str(value) for name, value in row.items()}


class _Reading:
    """The columns of a table that was read, and where its rows stand."""

    def __init__(self, read: Any, paths: Sequence[str], places: NDArray[np.int64]) -> None:  # noqa: ANN401
        self._read = read
        self._paths = paths
        self._places = places

    def row_names(self) -> list[str]:
        return [f"{self._paths[file]}#{row}" for file, row in self._places.tolist()]

    def labels(self, columns: Columns) -> NDArray[np.int8]:
        array = self._whole(columns.label)
        positive, negative = (
            self._is_one_of(array, said, columns.label) for said in (columns.positive, columns.negative)
        )
        wrong = np.flatnonzero(~(positive | negative))
        if len(wrong):
            values = {str(value) for value in array.take(pa.array(wrong[:1000])).to_pylist()}
            raise DatasetRefused(
                f"{columns.label}: {len(wrong):,} rows, the first {self._row(wrong[0])}, have other labels than "
                f"{', '.join((*columns.negative, *columns.positive))}: {', '.join(sorted(values)[:_SHOWN])}.",
                mend="Say with positive and negative what the labels are, or leave the rows out with where.",
            )
        return positive.astype(np.int8)

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        coded = _as_text(self._whole(name), name).dictionary_encode()
        return np.asarray(coded.indices).astype(np.int64), coded.dictionary.to_pylist()

    def numbers(self, name: str) -> NDArray[np.float64]:
        array = self._whole(name)
        try:
            numbers = np.asarray(pc.cast(array, pa.float64()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DatasetRefused(f"{name} holds what is no number: {_first_line(error)}.", mend="See it.") from error
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            raise DatasetRefused(f"{name}: {self._row(wrong[0])} is not finite.", mend="Correct it.")
        return numbers

    def days(self, name: str, unit: str) -> NDArray[np.int64]:
        if unit == "seconds":
            return np.floor(self.numbers(name) / _DAY_SECONDS).astype(np.int64)
        array = self._whole(name)
        try:
            if is_text(array.type):
                array = _times_of(array)
            return np.asarray(pc.cast(pc.cast(array, pa.date32(), safe=False), pa.int32())).astype(np.int64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DatasetRefused(
                f"{name} holds what is no ISO 8601 time: {_first_line(error)}.", mend="Convert it, or give at-unit."
            ) from error

    def words(self, name: str, *, missing: str | None) -> NDArray[np.object_]:
        coded = _as_text(self._known(name), name).dictionary_encode()
        values = np.array([*coded.dictionary.to_pylist(), missing], np.object_)
        positions: NDArray[np.int64] = np.asarray(pc.fill_null(coded.indices, len(values) - 1))
        return values[positions]

    def _known(self, name: str) -> Any:  # noqa: ANN401
        """Return a column, in which what is no number is missing."""
        array = self._read.column(name).combine_chunks()
        return pc.if_else(pc.is_nan(array), None, array) if pa.types.is_floating(array.type) else array

    def _whole(self, name: str) -> Any:  # noqa: ANN401
        array = self._known(name)
        if array.null_count:
            first = int(np.flatnonzero(np.asarray(array.is_null()))[0])
            raise DatasetRefused(
                f"{name}: {array.null_count:,} rows have no value, the first is {self._row(first)}.",
                mend="Give them one, or leave the rows out with where.",
            )
        return array

    def _is_one_of(self, array: Any, said: tuple[str, ...], name: str) -> NDArray[np.bool_]:  # noqa: ANN401
        """Compare as numbers where both sides are such, so that 1, 1.0 and true are the same, else as text."""
        if not is_text(array.type):
            try:
                numbers = np.asarray(pc.cast(array, pa.float64()))
                return np.isin(numbers, [float(word) for word in said])
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
                array = _as_text(array, name)
        return np.asarray(pc.is_in(array, value_set=pa.array(said, array.type)))

    def _row(self, position: int) -> str:
        file, row = self._places[position].tolist()
        return f"{self._paths[file]}#{row}"


def _pieces(table: Table, wanted: Sequence[str]) -> Iterator[tuple[int, int, Any, NDArray[np.int64]]]:
    """Yield file number, first row, batch and the positions in it that meet the conditions."""
    needed = sorted({*wanted, *(one.column for one in table.conditions)})
    joined = None if table.join is None else _Joined(table, table.join, needed)
    for file, path in enumerate(table.paths):
        start = 0
        for batch in _batches(table.root, path, needed if joined is None else joined.of_the_table):
            whole = batch if joined is None else joined.with_others(batch)
            mask = np.ones(batch.num_rows, np.bool_)
            for condition in table.conditions:
                mask &= _meets(whole.column(condition.column), condition)
            yield file, start, whole, np.flatnonzero(mask)
            start += batch.num_rows


class _Joined:
    """The columns of a second table, by the values of the column that both have."""

    def __init__(self, table: Table, join: Join, needed: Sequence[str]) -> None:
        self._on = join.on
        there = _header(table.root, join.path)
        here = _header(table.root, table.paths[0])
        for path, names in ((table.paths[0], here), (join.path, there)):
            if self._on not in names:
                raise DatasetRefused(f"{path} has no column {self._on}.", mend="It is what the tables share.")
        others = [name for name in needed if name not in here]
        self.of_the_table = sorted({*(name for name in needed if name in here), self._on})
        batches = list(_batches(table.root, join.path, [*others, self._on]))
        self._other = pa.Table.from_batches(batches).combine_chunks()
        self._keys = pc.cast(self._other.column(self._on), pa.string()).combine_chunks()
        if len(self._keys.unique()) != len(self._keys):
            raise DatasetRefused(f"{join.path} has a {self._on} twice.", mend="Correct it.")
        self._names = others

    def with_others(self, batch: Any) -> Any:  # noqa: ANN401
        positions = pc.index_in(pc.cast(batch.column(self._on), pa.string()), value_set=self._keys)
        for name in self._names:
            batch = batch.append_column(name, self._other.column(name).combine_chunks().take(positions))
        return batch


def _header(root: Path, path: str) -> list[str]:
    try:
        if path.lower().endswith(".parquet"):
            names = list(pq.read_schema(root / path).names)
        else:
            with pa_csv.open_csv(root / path) as reader:
                names = list(reader.schema.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    check_once(path, names)
    return names


def _batches(root: Path, path: str, columns: Sequence[str]) -> Iterator[Any]:
    columns = sorted(set(columns))
    try:
        if path.lower().endswith(".parquet"):
            with pq.ParquetFile(root / path) as file:
                yield from file.iter_batches(PART_ROWS, columns=columns)
            return
        options = pa_csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        with pa_csv.open_csv(
            root / path,
            read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=options,
        ) as reader:
            yield from reader
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _as_text(array: Any, name: str) -> Any:  # noqa: ANN401
    try:
        return pc.cast(array, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetRefused(
            f"{name} holds {array.type}, which is no plain value.", mend="Convert the column to text or numbers."
        ) from error


def _times_of(array: Any) -> Any:  # noqa: ANN401
    """Return text as times, those with a zone in UTC."""
    try:
        return pc.cast(array, pa.timestamp("us"))
    except pa.ArrowInvalid:
        return pc.cast(array, pa.timestamp("us", "UTC"))


def _meets(array: Any, condition: Condition) -> NDArray[np.bool_]:  # noqa: ANN401
    """Tell which values compare as the condition says; what misses does not."""
    kind: Any = pa.string()
    if pa.types.is_temporal(array.type):
        kind = pa.timestamp("us")
    elif not is_text(array.type) or _is_number(condition.value):
        kind = pa.float64()
    try:
        value = pc.cast(pa.scalar(condition.value), kind)
        compared = getattr(pc, _COMPARE[condition.comparison])(pc.cast(array, kind, safe=False), value)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetRefused(
            f"{condition.column} and {condition.value!r} cannot be compared: {_first_line(error)}.", mend="See both."
        ) from error
    return np.asarray(pc.fill_null(compared, False))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bits(array: Any) -> NDArray[np.uint64]:  # noqa: ANN401
    """Return 64 bits for each value."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type
    plain = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)
    odd = (pa.types.is_time, pa.types.is_duration, pa.types.is_interval)
    if not is_text(kind) and not pa.types.is_dictionary(kind):
        if any(check(kind) for check in odd) or not any(check(kind) for check in plain):
            return np.array([_word_bits(None if one is None else repr(one)) for one in array.to_pylist()], np.uint64)
        if pa.types.is_temporal(array.type):
            array = pc.cast(pc.cast(array, pa.timestamp("us")), pa.int64())
        numbers = np.asarray(pc.fill_null(pc.cast(array, pa.float64(), safe=False), np.nan)) + 0.0
        numbers[np.isnan(numbers)] = np.nan
        return _mixed(numbers.view(np.uint64))
    coded = pc.cast(array, pa.string()).dictionary_encode()
    words = [*coded.dictionary.to_pylist(), None]
    digests = np.array([_word_bits(word) for word in words], np.uint64)
    positions: NDArray[np.int64] = np.asarray(pc.fill_null(coded.indices, len(words) - 1))
    return digests[positions]


def _word_bits(word: str | None) -> int:
    return 1 if word is None else int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _unreadable(path: str, error: BaseException) -> DatasetRefused:
    return DatasetRefused(f"{path} cannot be read: {_first_line(error)}.", mend="See that the file is whole.")
