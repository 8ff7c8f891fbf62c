"""What happens to the values of records on their way: one function a condition.

- Rows are float32 [n, fields] as the door prepares them, NaN where a value misses; what is given stays as it was.
- Only numbers are shifted and scaled; a whole number stays whole.
- What shifts stays within its declared range, as a drifting source does. A value in another unit may leave it: the door
  refuses such a record, and `refusals` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from discern.inputs.spec import IntegerField, NumberField

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from discern.inputs.spec import RecordField, RecordSpec

    Matrix = NDArray[np.float32]


def missing_fields(rows: Matrix, spec: RecordSpec, generator: np.random.Generator, *, share: float) -> Matrix:
    """Return the rows with a `share` of the values missing, of the fields that may miss."""
    may_miss = np.array([field.missing == "nan" for field in spec.fields])
    hidden = (generator.random(rows.shape) < share) & may_miss
    return np.where(hidden, np.float32(np.nan), rows)


def shifted_fields(
    rows: Matrix, spec: RecordSpec, generator: np.random.Generator, *, deviations: float, spread: NDArray[np.float64]
) -> Matrix:
    """Return the rows with every number moved by so many of its standard deviations, each field up or down.

    `generator` decides on the directions and is the same for every row: what shifts is the source, not single records.
    """
    direction = np.where(generator.random(len(spec.fields)) < 0.5, -1.0, 1.0)
    low, high = np.array([bounds(field) for field in spec.fields]).T
    return _whole(np.clip(rows + direction * deviations * spread * _numeric(spec), low, high), spec)


def scaled_units(rows: Matrix, spec: RecordSpec, generator: np.random.Generator, *, factor: float) -> Matrix:
    """Return the rows with a third of the fields that hold numbers, at least one, in another unit.

    `generator` decides on the fields and is the same for every row.
    """
    numeric = np.flatnonzero(_numeric(spec))
    taken = generator.permutation(numeric)[: max(1, len(numeric) // 3)]
    scale = np.ones(len(spec.fields))
    scale[taken] = factor
    return _whole(rows * scale, spec)


def stale_values(rows: Matrix, before: Matrix, generator: np.random.Generator, *, share: float) -> Matrix:
    """Return the rows with a `share` of the values as they were in the record before of the same group.

    `before` [n, fields] is that record; where there is none, all of it is NaN and the row stays as it is.
    """
    known = ~np.isnan(before).all(axis=1, keepdims=True)
    stale = (generator.random(rows.shape) < share) & known
    return np.where(stale, before, rows)


def refusals(rows: Matrix, spec: RecordSpec) -> dict[int, str]:
    """Return the rows that the door would refuse for a number outside its declared range, and why."""
    refused: dict[int, str] = {}
    for position, field in reversed(list(enumerate(spec.fields))):
        low, high = bounds(field)
        outside = (rows[:, position] < np.float32(low)) | (rows[:, position] > np.float32(high))
        refused |= dict.fromkeys(np.flatnonzero(outside).tolist(), f"{field.name} is outside its declared range")
    return refused


def bounds(field: RecordField) -> tuple[float, float]:
    """Return the declared range of a field's value as the model takes it, infinite where none is declared."""
    if isinstance(field, NumberField | IntegerField):
        low = -np.inf if field.minimum is None else float(field.minimum)
        return low, np.inf if field.maximum is None else float(field.maximum)
    categories = getattr(field, "categories", ("false", "true"))
    return 0.0, float(len(categories) - 1)


def deviations_of(pieces: Sequence[Matrix], fields: int) -> NDArray[np.float64]:
    """Return the standard deviation of each field over all rows, 0 where a field has no two values."""
    if not pieces:
        return np.zeros(fields)
    rows = np.concatenate(pieces).astype(np.float64)
    present = ~np.isnan(rows)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, rows, 0.0).sum(axis=0) / count
    spread: NDArray[np.float64] = np.sqrt(np.where(present, (rows - mean) ** 2, 0.0).sum(axis=0) / count)
    return spread


def _numeric(spec: RecordSpec) -> NDArray[np.bool_]:
    return np.array([isinstance(field, NumberField | IntegerField) for field in spec.fields])


def _whole(rows: NDArray[np.float64], spec: RecordSpec) -> Matrix:
    whole = np.array([isinstance(field, IntegerField) for field in spec.fields])
    return np.where(whole, np.rint(rows), rows).astype(np.float32)
