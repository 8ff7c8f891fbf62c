"""Records that come as columns: checked and put into rows a column at a time, with the decisions of `prepare_record`.

- A row is accepted when and only when `prepare_record` accepts it as a record, and has the same numbers, to the bit.
- A row that does not pass the quick checks is examined by `prepare_record`, which says what is wrong with it.
- One bad row does not spoil the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import InvalidRecord
from discern.inputs.record import LARGEST, MOST_EXACT_INTEGER, prepare_record
from discern.inputs.spec import BooleanField, CategoryField, IntegerField, NumberField, RecordField, RecordSpec

# The next whole number that a float64 holds: beyond every number that is accepted.
_OUT_OF_REACH = MOST_EXACT_INTEGER + 2
Bad = NDArray[np.bool_] | bool
"""Which rows did not pass: a mask, or the same for all."""


class Column(NamedTuple):
    """One column of n rows.

    `values` [n] holds booleans, integers or floats of up to 64 bits; with `words`, positions in them; or objects.
    `missing` [n] is true where there is no value, None where none misses; what `values` has there does not matter.
    `odd` holds the values, by row, that do not go with the others, such as a word in a column of numbers.
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None
    words: tuple[str, ...] | None = None
    odd: Mapping[int, object] = {}

    def value(self, row: int) -> object:
        """Return one value as a record would have it."""
        if row in self.odd:
            return self.odd[row]
        if self.missing is not None and self.missing[row]:
            return None
        return self.values[row] if self.words is None else self.words[int(self.values[row])]


class PreparedRows(NamedTuple):
    """The rows as the model takes them, float32 [n, fields], and per refused row what is wrong with it.

    What stands in the matrix for a refused row means nothing.
    """

    matrix: NDArray[np.float32]
    refused: dict[int, str]


def prepare_columns(columns: Mapping[str, Column], rows: int, spec: RecordSpec) -> PreparedRows:
    """Return `rows` records, whose values stand in `columns` by the names of the fields, in the manifest's order.

    A field without a column misses in every row; a column that is no field makes every row a bad one.
    """
    matrix = np.empty((rows, len(spec.fields)), dtype=np.float32)
    known = {field.name for field in spec.fields}
    suspect = np.full(rows, not columns.keys() <= known)
    for position, field in enumerate(spec.fields):
        column = columns.get(field.name)
        if column is None:
            matrix[:, position] = np.nan
            suspect |= field.missing == "refuse"
        else:
            suspect |= _fill(matrix[:, position], column, field)
            suspect[list(column.odd)] = True
    refused: dict[int, str] = {}
    for row in np.flatnonzero(suspect).tolist():
        record = {name: column.value(row) for name, column in columns.items()}
        try:
            matrix[row] = prepare_record(record, spec)[0]
        except InvalidRecord as error:
            refused[row] = error.detail
    return PreparedRows(matrix, refused)


def _fill(target: NDArray[np.float32], column: Column, field: RecordField) -> Bad:
    """Write a column's numbers to `target`, and return the rows that did not pass the quick checks."""
    values, missing = column.values, column.missing
    if missing is not None and not missing.any():
        missing = None
    if missing is None:
        numbers, bad = _numbers(values, column.words, field)
        # What is too large for 32 bits is among the bad ones.
        with np.errstate(over="ignore", invalid="ignore"):
            target[:] = numbers
        return bad
    target[:] = np.nan
    present = ~missing
    numbers, bad_among_present = _numbers(values[present], column.words, field)
    with np.errstate(over="ignore", invalid="ignore"):
        target[present] = numbers
    bad = missing if field.missing == "refuse" else np.zeros(len(values), np.bool_)
    bad = bad.copy()
    bad[present] |= bad_among_present
    return bad


def _numbers(
    values: NDArray[Any], words: tuple[str, ...] | None, field: RecordField
) -> tuple[NDArray[Any] | float, Bad]:
    """Return what the model takes for present values, and which of them did not pass."""
    kind = values.dtype.kind
    match field:
        case CategoryField():
            if words is None:
                return np.nan, True
            order = {category: position for position, category in enumerate(field.categories)}
            codes = np.array([order.get(word, -1) for word in words] or [-1])[values]
            return codes, codes < 0
        case BooleanField():
            return (values, False) if kind == "b" and words is None else (np.nan, True)
        case NumberField() | IntegerField():
            if words is not None or kind not in "iuf" or values.dtype.itemsize > 8:
                return np.nan, True
            if kind == "f":
                return values, _bad_floats(values, field)
            return values, _outside(values, *_whole_bounds(field))
        case _:
            assert_never(field)


def _bad_floats(values: NDArray[Any], field: NumberField | IntegerField) -> Bad:
    if isinstance(field, NumberField):
        low = -LARGEST if field.minimum is None else max(field.minimum, -LARGEST)
        high = LARGEST if field.maximum is None else min(field.maximum, LARGEST)
        return _outside(values, low, high)
    low, high = _whole_bounds(field)
    whole = np.floor(values) == values
    return _outside(values, float(low), float(high)) | (~whole if not whole.all() else False)


def _outside(values: NDArray[Any], low: float, high: float) -> Bad:
    """Return which values are not within the bounds; NaN is not."""
    if not len(values):
        return False
    if values.dtype.kind == "f":
        # In 64 bits: a bound must not be rounded to the precision of the values.
        least, most, compared = float(np.min(values)), float(np.max(values)), values.astype(np.float64, copy=False)
    else:
        least, most, compared = int(np.min(values)), int(np.max(values)), values
        low, high = math.ceil(low), math.floor(high)
    if low <= least and most <= high:
        return False
    return ~((compared >= low) & (compared <= high))


def _whole_bounds(field: NumberField | IntegerField) -> tuple[float, float]:
    low = -MOST_EXACT_INTEGER if field.minimum is None else max(field.minimum, -MOST_EXACT_INTEGER)
    high = MOST_EXACT_INTEGER if field.maximum is None else min(field.maximum, MOST_EXACT_INTEGER)
    return min(low, _OUT_OF_REACH), max(high, -_OUT_OF_REACH)
