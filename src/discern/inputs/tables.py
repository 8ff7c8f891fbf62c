"""Arrow record batches as the columns that a detector takes.

- Text in a column of numbers or truth values, as CSV files have it, is read as what its field says: numbers, `true` and
  `false` (or 1 and 0); what says none is odd.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from discern.inputs.columns import Column
from discern.inputs.spec import BooleanField, CategoryField, RecordField, RecordSpec

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TRUTH = r"^(?i:true|false|0|1)$"


def columns_of(batch: Any, spec: RecordSpec) -> dict[str, Column]:  # noqa: ANN401
    """Return the columns of a record batch that are fields, without a Python object for a value."""
    fields = {one.name: one for one in spec.fields}
    return {
        name: _column(batch.column(position), fields[name])
        for position, name in enumerate(batch.schema.names)
        if name in fields
    }


def _column(array: Any, one: RecordField) -> Column:  # noqa: ANN401
    kind = array.type
    if pa.types.is_decimal(kind):
        array = pc.cast(array, pa.float64())
    elif pa.types.is_dictionary(kind) and not (is_text(kind.value_type) and isinstance(one, CategoryField)):
        array = array.dictionary_decode()
    kind = array.type
    missing = np.asarray(array.is_null()) if array.null_count else None
    if is_text(kind) and not isinstance(one, CategoryField):
        return _parsed(array, missing, one)
    if is_text(kind) or pa.types.is_dictionary(kind):
        coded = array.dictionary_encode()
        words = tuple("" if word is None else word for word in coded.dictionary.to_pylist())
        return Column(np.asarray(pc.fill_null(coded.indices, 0)), missing, words)
    if pa.types.is_boolean(kind):
        return Column(np.asarray(pc.fill_null(array, False)), missing)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        # The buffer itself: a conversion would make floats of integers where some are missing.
        values = np.frombuffer(array.buffers()[1], dtype=kind.to_pandas_dtype(), count=array.offset + len(array))
        return Column(values[array.offset :], missing)
    # What is left is a column of nulls: who asks has refused the other types (`holds_values`).
    return Column(np.zeros(len(array)), np.ones(len(array), np.bool_))


def _parsed(array: Any, missing: Any, one: RecordField) -> Column:  # noqa: ANN401
    """Return the numbers or truth values that the text of CSV cells says; what says none is odd."""
    wanted, pattern = (pa.bool_(), _TRUTH) if isinstance(one, BooleanField) else (pa.float64(), _NUMBER)
    odd: Mapping[int, object] = {}
    says_one = pc.match_substring_regex(array, pattern)
    if not pc.all(says_one, min_count=0).as_py():
        rows = np.flatnonzero(~np.asarray(pc.fill_null(says_one, True)))
        odd = dict(zip(rows.tolist(), array.take(pa.array(rows)).to_pylist(), strict=True))
        array = pc.if_else(says_one, array, None)
    values = pc.cast(array, wanted)
    return Column(np.asarray(pc.fill_null(values, False if wanted == pa.bool_() else 0.0)), missing, None, odd)


def holds_values(kind: Any) -> bool:  # noqa: ANN401
    """Tell whether a column of an Arrow type has values that some field may have; of others each would be missing."""
    if pa.types.is_dictionary(kind):
        return holds_values(kind.value_type)
    checks = (
        is_text,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    return any(check(kind) for check in checks)


def is_text(kind: Any) -> bool:  # noqa: ANN401
    """Tell whether an Arrow type is one of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
