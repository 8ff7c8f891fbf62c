"""Whether a score of 0.8 is right eight times in ten.

- Bins hold equally many rows, except that equal scores are never split between two.
- The calibration error is an average of distances and so too high even for a calibrated detector; what a calibrated one
  would show stands beside it, and its interval takes that into account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.evaluation.statistics import (
    LEVEL,
    bisected,
    caveats_of,
    groups_unknown,
    nothing_to_measure,
    proportion,
    rows_of,
)
from discern.evaluation.statistics_bootstrap import DRAWS, drawn
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from discern.evaluation.statistics import Rows

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

BINS = 15


class ReliabilityBin(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bin: lowest and highest score in it, how many items, their mean score and the share of positives."""

    low: float
    high: float
    items: int
    mean_score: float
    positives: Estimate


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """The expected calibration error, what a calibrated detector would show on so many items, and the bins.

    `corrected` is the error less the part that chance explains, 0 where chance explains all of it.
    """

    error: Estimate
    expected_if_calibrated: float | None = None
    corrected: float | None = None
    bins: tuple[ReliabilityBin, ...] = ()


def bins_of(scores: Floats, bins: int = BINS) -> Integers:
    """Return the bin of each row, numbered from 0 by rising score; there are fewer where scores tie."""
    order = np.argsort(scores, kind="stable")
    sizes = [len(part) for part in np.array_split(order, bins)]
    starts = np.cumsum(sizes)[:-1]
    starts = starts[starts < len(order)]
    edges = np.unique(scores[order[starts]])
    return np.unique(np.searchsorted(edges, scores, side="right"), return_inverse=True)[1].astype(np.int64)


def _gaps(rows: Rows, bins: Integers, count: int) -> tuple[Floats, Floats]:
    """Return each bin's share of the rows and its share of positives less its mean score."""
    sizes = np.bincount(bins, minlength=count)
    gap = np.bincount(bins, weights=rows.labels - rows.scores, minlength=count) / sizes
    return sizes / len(bins), gap


def calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error over bins of equal count (Nixon et al., CVPR Workshops 2019)."""
    rows = rows_of(labels, scores)
    of = bins_of(rows.scores, bins)
    share, gap = _gaps(rows, of, int(of.max()) + 1)
    return float(np.sum(share * np.abs(gap)))


def calibration(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bins: int = BINS,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Calibration:
    """Return the expected calibration error with its interval, and the reliability table.

    The interval inverts a test (Carpenter, JRSS B 61, 1999): true gaps are taken to be the observed ones times a
    factor, the noise on them is what a cluster bootstrap shows, and the interval holds the factors under which the
    observed error is no surprise. It starts at 0 where a calibrated detector could have shown the error.
    """
    rows = rows_of(labels, scores, groups)
    nothing = nothing_to_measure(rows)
    if nothing:
        return Calibration(nothing)
    if rows.scores.min() < 0 or rows.scores.max() > 1:
        return Calibration(Estimate(None, level=level, caveat="scores outside 0 to 1 are no probabilities"))
    of = bins_of(rows.scores, bins)
    count = int(of.max()) + 1
    share, gap = _gaps(rows, of, count)
    observed = float(np.sum(share * np.abs(gap)))
    if groups_unknown(rows):
        plain = Estimate(observed, level=level, caveat=caveats_of(rows))
        return Calibration(plain, bins=_table(rows, of, count, level))
    noise = _noise(rows, of, count, seed, draws)
    low, high = _factors(share, gap, noise, observed, level)
    plain = Estimate(
        observed,
        low * observed,
        min(high * observed, 1.0),
        level=level,
        method=f"test inversion, {draws} draws, seed {seed}",
        caveat=caveats_of(rows),
    )
    by_chance = float(np.mean(_error(share, 0 * gap, noise)))
    middle = bisected(lambda factor: observed - float(np.mean(_error(share, factor * gap, noise))), 0.0, 1.0)
    return Calibration(
        error=plain,
        expected_if_calibrated=by_chance,
        corrected=0.0 if by_chance >= observed else middle * observed,
        bins=_table(rows, of, count, level),
    )


def _error(share: Floats, gap: Floats, noise: Floats) -> Floats:
    """Return the calibration error under each draw of the noise."""
    errors: Floats = np.sum(share * np.abs(gap + noise), axis=1)
    return errors


def _noise(rows: Rows, of: Integers, count: int, seed: int, draws: int) -> Floats:
    """Return what resampled gaps lie off the observed ones, float64 [draws, bins]; 0 where a draw empties a bin."""
    cell = rows.groups * count + of
    groups = rows.group_count
    where, position = np.unique(cell, return_inverse=True)
    sizes = np.bincount(position).astype(np.float64)
    sums = np.bincount(position, weights=rows.labels - rows.scores)
    order = np.argsort(where % count, kind="stable")
    starts = np.flatnonzero(np.diff(where[order] % count, prepend=-1))
    gap = np.add.reduceat(sums[order], starts) / np.add.reduceat(sizes[order], starts)

    def off(weights: Floats) -> Floats:
        drawn_sizes = np.add.reduceat((weights[:, where // count] * sizes)[:, order], starts, axis=1)
        drawn_sums = np.add.reduceat((weights[:, where // count] * sums)[:, order], starts, axis=1)
        return np.divide(drawn_sums, drawn_sizes, out=np.tile(gap, (len(weights), 1)), where=drawn_sizes > 0) - gap

    return drawn(off, groups, len(where), seed=seed, draws=draws)


def _factors(share: Floats, gap: Floats, noise: Floats, observed: float, level: float) -> tuple[float, float]:
    """Return the lowest and the highest factor on the gaps under which the observed error is within `level`."""
    outside = (1 - level) / 2

    def quantile(factor: float, at: float) -> float:
        return float(np.quantile(_error(share, factor * gap, noise), at))

    low = bisected(lambda factor: observed - quantile(factor, 1 - outside), 0.0, 1.0)
    high = 2.0
    while quantile(high, outside) <= observed and high < 1024:
        high *= 2
    high = bisected(lambda factor: observed - quantile(factor, outside), 0.0, high)
    return (0.0 if low < 1e-9 else low), high


def _table(rows: Rows, of: Integers, count: int, level: float) -> tuple[ReliabilityBin, ...]:
    lines = []
    for position in range(count):
        inside = of == position
        scores = rows.scores[inside]
        lines.append(
            ReliabilityBin(
                low=float(scores.min()),
                high=float(scores.max()),
                items=len(scores),
                mean_score=float(scores.mean()),
                positives=proportion(rows.labels[inside], rows.groups[inside], level=level),
            )
        )
    return tuple(lines)
