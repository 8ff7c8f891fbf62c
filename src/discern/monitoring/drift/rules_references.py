"""What subjects are compared with: the table of quantiles in a bundle, or what traffic was like. Pure.

- A table is never made to say more than it does: where it leaves open how much lies on a value, both are allowed.
- A reference that is learned has its edges from one window and its counts from others, so that they do not depend on
  each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discern.monitoring.drift.rules_sketches import merged_moments, quantiles_of
from discern.monitoring.drift.statistics import LEVELS, Floats, below_and_up_to
from discern.monitoring.drift.types import QUANTILES, Edges, Learning, Reference, Sketch, Subject

_LEAST_QUANTILES = 3
_MOST_QUANTILES = 10_001
# Tables have six digits or seven.
_RELATIVE = 1e-6
_ABSOLUTE = 5.1e-7
_WHOLE = 1e-9
# Of more categories the most frequent ones are counted by themselves.
MOST_CATEGORIES = 31


class Table(NamedTuple):
    """Quantiles of `verdicts` values at equally spaced shares from 0 to 1."""

    quantiles: Floats
    verdicts: int


def table_of(found: object, verdicts: object) -> Table | None:
    """Return the table in a part of a bundle's reference; None for what is none."""
    quantiles = found.get("quantiles") if isinstance(found, dict) else None
    if isinstance(verdicts, bool) or not isinstance(verdicts, int) or verdicts < 2 or not isinstance(quantiles, list):
        return None
    if not _LEAST_QUANTILES <= len(quantiles) <= _MOST_QUANTILES:
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in quantiles):
        return None
    values = np.array(quantiles, dtype=np.float64)
    return Table(values, verdicts) if (np.diff(values) >= 0).all() else None


def of_table(table: Table, *, is_score: bool) -> tuple[Edges, Reference]:
    """Return the edges and the reference that a table of quantiles gives.

    That q is the quantile of a share s means that less than q is no more than s of all, and up to q no less than s:
    this holds with ties and without. Numbers of a table are rounded, so edges have a width.
    """
    values, verdicts = table
    shares = np.linspace(0.0, 1.0, len(values))
    width = np.abs(values) * _RELATIVE + (_ABSOLUTE if is_score else 0.0)
    lower: list[float] = []
    upper: list[float] = []
    least: list[float] = []
    most: list[float] = []
    for position in sorted({round(level * (len(values) - 1)) for level in LEVELS}):
        value, half = float(values[position]), float(width[position])
        if upper and value - half <= upper[-1]:
            continue
        first, after = np.searchsorted(values, value, "left"), np.searchsorted(values, value, "right")
        lower.append(value - half)
        upper.append(value + half)
        # Between two values of the sample a quantile is interpolated, as NumPy does.
        least.append((math.floor(shares[after - 1] * (verdicts - 1) + _WHOLE) + 1) / verdicts)
        most.append(math.ceil(shares[first] * (verdicts - 1) - _WHOLE) / verdicts)
    mean, deviation = _moments(values)
    reference = Reference(
        "bundle",
        verdicts,
        tuple(least),
        tuple(most),
        mean=mean,
        deviation=deviation,
        quantiles=tuple(float(one) for one in np.interp(QUANTILES, shares, values)),
    )
    return Edges(tuple(lower), tuple(upper)), reference


def _moments(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of what is spread evenly between each two quantiles."""
    low, high = values[:-1], values[1:]
    mean = float((low + high).mean() / 2)
    squares = float((low * low + low * high + high * high).mean() / 3)
    return mean, math.sqrt(max(0.0, squares - mean * mean))


def cells_of_reference(reference: Reference) -> Floats:
    """Return how many of the reference's values lie in each cell, as far as it tells."""
    if reference.cells:
        return np.array(reference.cells, dtype=np.float64)
    turns = np.stack([reference.most, reference.least], axis=-1).ravel()
    sums = np.minimum(np.maximum.accumulate(np.concatenate([[0.0], turns, [1.0]])), 1.0)
    return np.diff(sums) * reference.verdicts


def edges_of_numbers(kll: bytes) -> Edges:
    """Return edges at the quantiles of a sketch."""
    values = tuple(sorted({float(one) for one in quantiles_of(kll, LEVELS)}))
    return Edges(values, values)


def edges_of_categories(counts: Sequence[int]) -> Edges:
    """Return the codes of the most frequent categories; `counts` are by code."""
    order = sorted(range(len(counts)), key=lambda code: (-counts[code], code))
    return Edges(codes=tuple(sorted(order[:MOST_CATEGORIES])))


def learned(learning: Learning, sketch: Sketch, began_at: datetime) -> Learning:
    """Return what is known after one more window."""
    cells = learning.cells or (0,) * len(sketch.cells)
    return Learning(
        learning.windows + 1,
        tuple(one + other for one, other in zip(cells, sketch.cells, strict=True)),
        merged_moments(learning.moments, sketch.moments),
        learning.quantiles,
        learning.since or began_at,
    )


def frozen(subject: Subject, learning: Learning, until: datetime) -> Reference:
    """Return the reference that was learned."""
    cells = np.array(learning.cells, dtype=np.int64)
    verdicts = int(cells.sum())
    if subject.kind == "category":
        return Reference("traffic", verdicts, cells=learning.cells, since=learning.since, until=until)
    below, up_to = below_and_up_to(cells)
    return Reference(
        "traffic",
        verdicts,
        tuple((up_to / verdicts).tolist()),
        tuple((below / verdicts).tolist()),
        mean=learning.moments.mean,
        deviation=learning.moments.deviation,
        quantiles=quantiles_of_cells(subject.edges, cells),
        since=learning.since,
        until=until,
    )


def quantiles_of_cells(edges: Edges, cells: NDArray[Any]) -> tuple[float, ...]:
    """Return the quantiles of what was counted, as if it were spread evenly between two edges."""
    shares = below_and_up_to(cells)[1] / cells.sum()
    return tuple(float(one) for one in np.interp(QUANTILES, shares, edges.upper))
