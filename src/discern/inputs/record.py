"""Records become the row of numbers a model takes, or one answer that names every fault.

Invariants:

- The row is in the order of the manifest's fields; nothing is guessed, trimmed or converted: `"12"` and `true` are no
  numbers. A whole number may come as 3 or as 3.0, as in JSON Schema.
- Every fault of a record is found at once; at most 100 are listed, then how many more there are.
- The work is bounded by the size of the record and of the manifest.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import InvalidRecord
from discern.inputs.spec import BooleanField, CategoryField, IntegerField, NumberField, RecordField, RecordSpec

_LISTED_FAULTS = 100
_FAULTS_IN_SENTENCE = 3
_GUESSED_NAMES = 10
_LONGEST_SHOWN = 60
MOST_EXACT_INTEGER = 2**53
LARGEST = float(np.finfo(np.float32).max)


class _Fault(Exception):
    """What is wrong with one value."""


def prepare_record(record: Mapping[str, object], spec: RecordSpec) -> NDArray[np.float32]:
    """The record as float32 [1, fields], in the order of the manifest; a missing value that may miss is NaN.

    Raises `InvalidRecord` whose fact `faults` names each field that is missing, unknown, mistyped, NaN, infinite, too
    large, out of range or not among its categories.
    """
    row = np.full((1, len(spec.fields)), np.nan, dtype=np.float32)
    faults: list[str] = []
    for column, field in enumerate(spec.fields):
        value = record.get(field.name)
        if value is None:
            if field.missing == "refuse":
                faults.append(f"{field.name}: missing")
            continue
        try:
            row[0, column] = _number(field, value)
        except _Fault as fault:
            faults.append(f"{field.name}: {fault}")
    faults += _unknown_fields(record, spec)
    if faults:
        raise _invalid(faults)
    return row


def _invalid(faults: list[str]) -> InvalidRecord:
    listed = faults[:_LISTED_FAULTS]
    if len(faults) > _LISTED_FAULTS:
        listed.append(f"and {len(faults) - _LISTED_FAULTS:,} more")
    sentence = "; ".join(faults[:_FAULTS_IN_SENTENCE])
    more = f"; and {len(faults) - _FAULTS_IN_SENTENCE:,} more" if len(faults) > _FAULTS_IN_SENTENCE else ""
    count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    return InvalidRecord(
        f"The record has {count}: {sentence}{more}.",
        mend="The detector's input section lists its fields, types and ranges.",
        faults=listed,
    )


def _unknown_fields(record: Mapping[str, object], spec: RecordSpec) -> list[str]:
    known = {field.name for field in spec.fields}
    faults: list[str] = []
    for name in record:
        if name in known:
            continue
        # Guessing costs time with every known name, so a record of ten thousand unknown names gets few guesses.
        near = _near_miss(name, known) if len(faults) < _GUESSED_NAMES else None
        faults.append(f"{_shown_name(name)}: unknown field" + (f"; did you mean {near}?" if near else ""))
    return faults


def _near_miss(name: object, known: set[str]) -> str | None:
    if not isinstance(name, str) or len(name) > _LONGEST_SHOWN:
        return None
    same = [candidate for candidate in sorted(known) if candidate.lower() == name.strip().lower()]
    return next(iter(same or difflib.get_close_matches(name, sorted(known), n=1)), None)


def _number(field: RecordField, value: object) -> float:
    """The value as the model takes it; raises `_Fault`."""
    if isinstance(value, np.generic):
        value = value.item()
    match field:
        case NumberField():
            return _in_range(field, _finite(value, "a number"))
        case IntegerField():
            number = _finite(value, "a whole number")
            if number != math.floor(number):
                raise _Fault(f"{_shown(value)} is not a whole number")
            if abs(number) > MOST_EXACT_INTEGER:
                raise _Fault(f"{_shown(value)} is beyond 2**53")
            return _in_range(field, number)
        case BooleanField():
            if not isinstance(value, bool):
                raise _Fault(f"{_shown(value)} is not true or false")
            return float(value)
        case CategoryField():
            return _category(field, value)
        case _:
            assert_never(field)


def _finite(value: object, wanted: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Fault(f"{_shown(value)} is not {wanted}")
    if isinstance(value, int) and abs(value) > MOST_EXACT_INTEGER:
        raise _Fault(f"{_shown(value)} is beyond 2**53")
    if math.isnan(value):
        raise _Fault("NaN is not a number; leave the field out or send null where it may be missing")
    if abs(value) > LARGEST:
        raise _Fault(f"{_shown(value)} is not finite or beyond the largest 32-bit number, {LARGEST:.4g}")
    return value


def _in_range(field: NumberField | IntegerField, value: float) -> float:
    if field.minimum is not None and value < field.minimum:
        raise _Fault(f"{_shown(value)} is below the minimum {field.minimum}")
    if field.maximum is not None and value > field.maximum:
        raise _Fault(f"{_shown(value)} is above the maximum {field.maximum}")
    return value


def _category(field: CategoryField, value: object) -> float:
    if not isinstance(value, str):
        raise _Fault(f"{_shown(value)} is not a string")
    try:
        return float(field.categories.index(value))
    except ValueError:
        # Only the case is forgiven here: comparing with ten thousand categories of every field would be slow.
        folded = value.casefold() if len(value) <= _LONGEST_SHOWN else None
        near = next((category for category in field.categories if category.casefold() == folded), None)
        hint = f"; did you mean {_shown(near)}?" if near else ""
        raise _Fault(f"{_shown(value)} is not one of its {len(field.categories):,} categories{hint}") from None


def _shown_name(name: object) -> str:
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= _LONGEST_SHOWN else _shown(name)


def _shown(value: object) -> str:
    """A value for a message: short, on one line, and never slow."""
    if isinstance(value, int) and abs(value) > MOST_EXACT_INTEGER:
        # Writing out an integer of ten thousand digits is slow, and Python refuses it.
        return f"an integer of {value.bit_length():,} bits"
    if isinstance(value, str):
        text = ascii(value[:_LONGEST_SHOWN])
        return f"{text}..." if len(value) > _LONGEST_SHOWN else text
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a value of type {type(value).__name__}"
