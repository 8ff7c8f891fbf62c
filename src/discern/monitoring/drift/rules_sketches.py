"""Sketches: of how many values whatever, a few kilobytes that can be merged. Pure.

- Cells, counts and moments are exact, however often they are merged; quantiles are within `RANK_ERROR` of their share,
  for 99 of 100 sketches.
- A sketch of numbers keeps some of the values it was shown. Those of fields are rounded to 8 binary digits first.

Sources: Z. Karnin, K. Lang and E. Liberty, "Optimal quantile approximation in streams", FOCS 2016 (KLL, by
`datasketches`); T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.monitoring.drift.statistics import cells_of
from discern.monitoring.drift.types import Edges, Kind, Moments, Sketch

_SIZE = 200
RANK_ERROR = 0.0133
"""How far the share below a quantile may be from the one asked for: that of sketches of size 200."""
_KEPT_BITS = np.uint32(0xFFFF0000)
_HALF = np.uint32(0x8000)


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values to 8 binary digits, which is within 0.4 %."""
    bits = (np.ascontiguousarray(values, dtype=np.float32).view(np.uint32) + _HALF) & _KEPT_BITS
    return bits.view(np.float32)


def sketch_of(
    values: NDArray[Any], kind: Kind, edges: Edges, edges_number: int, *, is_exact: bool, categories: int = 0
) -> Sketch:
    """Return the sketch of values [n], NaN where one is missing.

    Where there are no edges numbers have no cells, and categories have one for each of `categories` codes.
    """
    has_edges = edges != Edges()
    there = values[~np.isnan(values)]
    missing = len(values) - len(there)
    if kind == "category":
        codes = there.astype(np.int64)
        cells = cells_of(codes, edges) if has_edges else np.bincount(codes, minlength=categories)
        return Sketch(edges_number, tuple(cells.tolist()), missing=missing)
    counted = tuple(cells_of(there, edges).tolist()) if has_edges else ()
    mean = float(there.mean(dtype=np.float64)) if len(there) else 0.0
    squares = float(((there - mean) ** 2).sum(dtype=np.float64)) if len(there) else 0.0
    shown = there.astype(np.float32)
    kll = kll_of(shown if is_exact else rounded(shown))
    return Sketch(edges_number, counted, Moments(len(there), mean, squares), kll, missing)


def kll_of(values: NDArray[np.float32]) -> bytes:
    """Return the sketch of numbers."""
    from datasketches import kll_floats_sketch  # noqa: PLC0415 - of an extra

    sketch = kll_floats_sketch(_SIZE)
    sketch.update(values)
    return bytes(sketch.serialize())


def merged(one: Sketch, other: Sketch, edges_number: int) -> Sketch:
    """Return the sketch of the values of both; cells that were counted at other edges than these are left out."""
    kept = [sketch.cells for sketch in (one, other) if sketch.edges == edges_number and sketch.cells]
    cells = kept[0] if len(kept) == 1 else tuple(map(sum, zip(*kept, strict=True)))
    return Sketch(
        edges_number,
        cells,
        merged_moments(one.moments, other.moments),
        _merged_kll(one.kll, other.kll),
        one.missing + other.missing,
    )


def _merged_kll(one: bytes, other: bytes) -> bytes:
    if not one or not other:
        return one or other
    from datasketches import kll_floats_sketch  # noqa: PLC0415 - of an extra

    sketch = kll_floats_sketch.deserialize(one)
    sketch.merge(kll_floats_sketch.deserialize(other))
    return bytes(sketch.serialize())


def merged_moments(one: Moments, other: Moments) -> Moments:
    """Return the moments of both."""
    count = one.count + other.count
    if not one.count or not other.count:
        return one if one.count else other
    apart = other.mean - one.mean
    share = other.count / count
    return Moments(
        count,
        one.mean + apart * share,
        one.squares + other.squares + apart * apart * one.count * share,
    )


def quantiles_of(kll: bytes, shares: Sequence[float]) -> tuple[float, ...]:
    """Return the quantiles of a sketch, none of an empty one."""
    if not kll:
        return ()
    from datasketches import kll_floats_sketch  # noqa: PLC0415 - of an extra

    sketch = kll_floats_sketch.deserialize(kll)
    return () if sketch.is_empty() else tuple(float(one) for one in sketch.get_quantiles(list(shares)))


def is_available() -> bool:
    """Tell whether the library for sketches is installed, without importing it."""
    return find_spec("datasketches") is not None
