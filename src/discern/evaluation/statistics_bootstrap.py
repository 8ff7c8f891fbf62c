"""Intervals by resampling whole groups.

- A resample is a weight for each group: how often it was drawn. A statistic takes many resamples at once, float64
  [draws, groups], and returns a figure for each, NaN where the resample does not allow one.
- Resamples that all say the same say nothing of how far off it is: they give no interval.
- The draws follow from the seed and the number of groups alone, so that two statistics under one seed are paired.
- Draws are whole numbers below 2**32 out of PCG64, which are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import special

from discern.evaluation.statistics import LEVEL, ROUNDING, counted, degrees_of_freedom, logit_limits, quantile
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Statistic = Callable[["Floats"], "Floats"]
Method = Literal["BCa", "percentile"]

DRAWS = 2000
BLOCKS = 200
"""The jackknife leaves out one group at a time, or one of this many blocks where there are more groups."""

_CELLS = 2_000_000
_MOST_FAILED = 0.01


def resamples(groups: int, rows: int, *, seed: int, draws: int) -> Iterator[Floats]:
    """Yield the weights of resamples in pieces, float64 [some, groups], small enough for `rows` rows of each."""
    random = np.random.Generator(np.random.PCG64(seed))
    piece = max(1, _CELLS // max(rows, groups, 1))
    for first in range(0, draws, piece):
        some = min(piece, draws - first)
        drawn = random.integers(0, groups, (some, groups)) + groups * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * groups).reshape(some, groups).astype(np.float64)


def drawn(statistic: Statistic, groups: int, rows: int, *, seed: int, draws: int = DRAWS) -> Floats:
    """Return the statistic of each resample, float64 [draws] or [draws, k] as the statistic has it."""
    return np.concatenate([statistic(weights) for weights in resamples(groups, rows, seed=seed, draws=draws)])


def left_out(statistic: Statistic, groups: int, rows: int) -> Floats:
    """Return the statistic without each group, or without each of `BLOCKS` blocks of groups of nearly one size.

    Blocks are mixed, always alike, for groups that lie side by side may be of one class.
    """
    block = np.empty(groups, np.int64)
    block[np.random.Generator(np.random.PCG64(0)).permutation(groups)] = (
        np.arange(groups) * min(groups, BLOCKS) // groups
    )
    pieces = np.array_split(np.arange(min(groups, BLOCKS)), max(1, min(groups, BLOCKS) * rows // _CELLS))
    return np.concatenate([statistic((block != some[:, None]).astype(np.float64)) for some in pieces])


def by_jackknife(statistic: Statistic, groups: int, rows: int, *, level: float = LEVEL) -> Estimate:
    """Return a statistic between 0 and 1 with Student's interval on the scale of log odds.

    Its variance is the jackknife's over groups or blocks of them (Shao and Wu, Annals of Statistics 17, 1989), with the
    degrees of freedom that this sum of squares has.
    """
    value = float(statistic(np.ones((1, groups)))[0]) if groups else float("nan")
    if np.isnan(value):
        return Estimate(None, level=level, caveat="the data do not allow this figure")
    without = left_out(statistic, groups, rows)
    deviation = without - without.mean()
    error = float(np.sqrt((len(without) - 1) / len(without) * np.sum(deviation**2)))
    if np.isnan(error) or not error or not 0 < value < 1:
        return Estimate(value, level=level, caveat="leaving out single groups gives no variance: no interval")
    limits = logit_limits(value, error, quantile(level, degrees_of_freedom(deviation)))
    return Estimate(value, *limits, level=level, method=f"jackknife, logit, {len(without)} parts")


def accelerated(value: float, draws: Floats, jackknife: Floats, level: float) -> tuple[float, float] | None:
    """Return the limits of BCa (Efron, JASA 82, 1987), or None where the draws do not lie around the value."""
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws == value) / 2) / len(draws)
    if not 0 < below < 1:
        return None
    bias = special.ndtri(below)
    deviation = jackknife.mean() - jackknife
    scale = float(np.sum(deviation**2)) ** 1.5
    acceleration = float(np.sum(deviation**3)) / (6 * scale) if scale else 0.0
    edges = bias + special.ndtri([(1 - level) / 2, 0.5 + level / 2])
    low, high = np.quantile(draws, special.ndtr(bias + edges / (1 - acceleration * edges)))
    return float(low), float(high)


def by_bootstrap(
    statistic: Statistic,
    groups: int,
    rows: int,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    method: Method = "BCa",
) -> Estimate:
    """Return the statistic of all groups with the interval of its resamples.

    Without groups, or where the data do not allow the figure, there is no value, and of one group no interval. `rows`
    only bounds the memory.
    """
    value = float(statistic(np.ones((1, max(groups, 1))))[0]) if groups else float("nan")
    if np.isnan(value):
        return Estimate(None, level=level, caveat="the data do not allow this figure")
    if groups < 2:
        return Estimate(value, level=level, caveat="one group: no interval")
    name = (
        f"cluster bootstrap, {method}, {draws} draws, seed {seed}"
        if groups < rows
        else (f"bootstrap, {method}, {draws} draws, seed {seed}")
    )
    found = drawn(statistic, groups, rows, seed=seed, draws=draws)
    kept = found[~np.isnan(found)]
    if len(kept) < draws / 2:
        return Estimate(value, level=level, method=name, caveat="most resamples miss a class: no interval")
    if kept.max() - kept.min() <= ROUNDING:
        return Estimate(value, level=level, method=name, caveat="the resamples do not vary: no interval")
    limits = None
    if method == "BCa":
        jackknife = left_out(statistic, groups, rows)
        limits = accelerated(value, kept, jackknife[~np.isnan(jackknife)], level)
    if limits is None:
        low, high = np.quantile(kept, [(1 - level) / 2, 0.5 + level / 2])
        limits = float(low), float(high)
    failed = draws - len(kept)
    return Estimate(
        value,
        *limits,
        level=level,
        method=name,
        caveat=f"{counted(failed, 'resample misses', 'resamples miss')} a class"
        if failed > _MOST_FAILED * draws
        else None,
    )
