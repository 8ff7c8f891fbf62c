"""What the studio reads of a dataset beside its scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import CallerError
from discern.evaluation.datasets import rows_of
from discern.evaluation.sources import FrozenSource
from discern.inputs.columns import prepare_columns


def column_of(source: FrozenSource, field: str) -> NDArray[np.float64]:
    """Return one field of every record, NaN where it has none. Raises CallerError where it is no field."""
    spec = source.spec
    named = () if spec is None else tuple(one for one in spec.fields if one.name == field)
    if spec is None or not named:
        raise CallerError(f"The detector has no field {field!r}.", mend="`discern detector show` lists them.")
    alone = spec.model_copy(update={"fields": named})
    parts = []
    for part in rows_of(source.manifest, source.root, alone, source.split):
        rows = prepare_columns(part.columns, part.rows, alone)
        values = rows.matrix[:, 0].astype(np.float64)
        values[list(rows.refused)] = np.nan
        parts.append(values)
    return np.concatenate(parts)
