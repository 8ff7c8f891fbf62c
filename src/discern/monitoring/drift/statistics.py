"""The tests, and what they are made of. Pure.

- A window of n verdicts and a reference of m are two samples: the chance of both is in every p-value, and none rests on
  numbers being large.
- Ties, and references that are known by a table of quantiles alone, make a p-value larger, never smaller.
- Numbers are compared at fixed quantiles of the reference: how many of the window lie below, and up to, each. At a
  quantile that the reference itself gave this is the precedence test (L. S. Nelson, "Tables for a precedence life
  test", Technometrics 5, 1963; N. Balakrishnan and H. K. T. Ng, "Precedence-Type Tests and Applications", 2006), whose
  chances are those of R. A. Fisher's exact test ("The logic of inductive inference", J. R. Stat. Soc. 98, 1935).
  Categories are each compared with all others by the latter. Both are multiplied by the number of comparisons (C. E.
  Bonferroni, 1936).
- Over the subjects of a window: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist.
  6, 1979, which holds however the subjects depend on each other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.monitoring.drift.types import Edges, Reference

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVELS = (0.0, 0.01, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99, 1.0)
"""The shares of a reference at whose quantiles a distribution is looked at: those that are asked for."""
# Below so many standard deviations nobody needs to know how likely it is.
_NOT_FAR = 2.0
_NEGLIGIBLE = 1e-12
_SMALL = np.array([math.lgamma(number + 1) for number in range(32)])


def cells_of(values: NDArray[Any], edges: Edges) -> Integers:
    """Return how many values lie in each cell, [cells].

    Numbers, without NaN: the cells are turn by turn what lies between two edges and what lies on one. Categories by
    their codes: a cell for each code of the edges, and one for all others.
    """
    if edges.codes:
        codes = np.asarray(edges.codes)
        places = np.searchsorted(codes, values)
        places[places == len(codes)] = 0
        return np.bincount(np.where(codes[places] == values, places, len(codes)), minlength=len(codes) + 1)
    places = np.searchsorted(edges.lower, values, "right") + np.searchsorted(edges.upper, values, "left")
    return np.bincount(places, minlength=2 * len(edges.lower) + 1)


def below_and_up_to(cells: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return how many values lie below each edge, and up to it, [..., edges]; `cells` are those of numbers."""
    sums = np.cumsum(cells, axis=-1)
    return sums[..., :-1:2], sums[..., 1::2]


def distances(cells: NDArray[Any], reference: Reference) -> Floats:
    """Return the largest distance of the cumulative shares of `cells` [..., cells] to what the reference allows.

    The reference says how much may lie below each edge at most, and up to it at least.
    """
    below, up_to = below_and_up_to(cells)
    total = np.maximum(cells.sum(axis=-1, keepdims=True), 1)
    more, less = below / total - np.array(reference.most), np.array(reference.least) - up_to / total
    apart: Floats = np.maximum(np.maximum(more, less).max(axis=-1), 0.0)
    return apart


def numbers(cells: NDArray[Any], reference: Reference) -> Floats:
    """Return the p-value of counts of numbers [..., cells] against those of the reference."""
    below, up_to = below_and_up_to(cells)
    window = cells.sum(axis=-1, keepdims=True)
    # They are counts, kept as shares.
    most, least = (np.rint(np.array(shares) * reference.verdicts) for shares in (reference.most, reference.least))
    more = tails(below, window, most, reference.verdicts)
    less = tails(least, reference.verdicts, up_to, window)
    p_value: Floats = np.minimum(np.minimum(more, less).min(axis=-1) * 2 * below.shape[-1], 1.0)
    return p_value


def categories(cells: NDArray[Any], reference: Reference) -> Floats:
    """Return the p-value of counts by category [..., categories] against those of the reference."""
    before = np.array(reference.cells)
    window, verdicts = cells.sum(axis=-1, keepdims=True), before.sum()
    single = np.minimum(tails(cells, window, before, verdicts), tails(before, verdicts, cells, window))
    p_value: Floats = np.minimum(single.min(axis=-1) * 2 * len(before), 1.0)
    return p_value


def tails(seen: Any, of: Any, seen_before: Any, of_before: Any) -> Floats:  # noqa: ANN401 - counts that broadcast
    """Return the chance of so many or more, `seen` among `of`, where there were `seen_before` among `of_before`.

    One side of Fisher's exact test. What is less than two standard deviations above what is expected has 1.
    """
    counts = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in (seen, of, seen_before, of_before)))
    share = (counts[0] + counts[2]) / np.maximum(counts[1] + counts[3], 1.0)
    spread = np.sqrt(counts[1] * share * (1 - share) * counts[3] / np.maximum(counts[1] + counts[3] - 1, 1.0))
    is_far = counts[0] > counts[1] * share + _NOT_FAR * spread
    p_value = np.ones(is_far.shape)
    if is_far.any():
        p_value[is_far] = np.minimum(_far_tails(*(one[is_far] for one in counts)), 1.0)
    return p_value


def _far_tails(seen: Floats, of: Floats, seen_before: Floats, of_before: Floats) -> Floats:
    others, before = of_before - seen_before + 1, seen_before.copy()
    count = seen.copy()
    term = np.exp(_choose(of, seen) + _choose(of_before, seen_before) - _choose(of + of_before, seen + seen_before))
    total = term.copy()
    while (term > total * _NEGLIGIBLE).any():
        term *= (of - count) * before / ((count + 1) * others)
        total += term
        count, before, others = count + 1, before - 1, others + 1
        # Where one side is used up the term is 0, and stays so.
        np.maximum(before, 0.0, out=before)
    return total


def _choose(all_: Floats, some: Floats) -> Floats:
    """Return the logarithm of how many ways there are to choose some of all."""
    return _log_factorial(all_) - _log_factorial(some) - _log_factorial(all_ - some)


def _log_factorial(number: Floats) -> Floats:
    """Return the logarithms of factorials, by Stirling's series from 32 on: there it has fourteen digits."""
    large = np.maximum(number, 32.0)
    series = (
        (large + 0.5) * np.log(large) - large + 0.5 * math.log(2 * math.pi) + 1 / (12 * large) - 1 / (360 * large**3)
    )
    exact: Floats = np.where(number < 32, _SMALL[np.minimum(number, 31).astype(np.int64)], series)
    return exact


def holm(p_values: Floats, level: float) -> NDArray[np.bool_]:
    """Tell which of the hypotheses [..., subjects] are rejected, so that any true one is with chance `level` at most.

    NaN stands for a subject that was not tested.
    """
    tested = np.isfinite(p_values).sum(axis=-1, keepdims=True)
    order = np.argsort(p_values, axis=-1)  # NaN last
    rank = np.arange(p_values.shape[-1])
    with np.errstate(invalid="ignore"):
        passes = np.take_along_axis(p_values, order, axis=-1) <= level / np.maximum(tested - rank, 1)
    in_order = np.logical_and.accumulate(passes, axis=-1)
    rejected = np.zeros(p_values.shape, dtype=np.bool_)
    np.put_along_axis(rejected, order, in_order, axis=-1)
    return rejected


def change_point(windows: NDArray[Any], reference: NDArray[Any]) -> int:
    """Return the position of the first window [windows, cells] of the stretch that differs from all before it.

    By the largest likelihood of one change: D. V. and E. A. Hinkley, "Inference about the change-point in a sequence of
    binomial variables", Biometrika 57, 1970, for several categories. `reference` [cells] comes before all windows.
    """
    before = np.cumsum(np.vstack([reference, windows[:-1]]), axis=0, dtype=np.float64)
    after = np.cumsum(windows[::-1], axis=0, dtype=np.float64)[::-1]
    return int(np.argmax(_likelihood(before) + _likelihood(after)))


def _likelihood(counts: Floats) -> Floats:
    """Return the largest logarithm of the likelihood of counts [..., cells] by cell."""
    totals = counts.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(counts > 0, counts * np.log(counts / totals), 0.0)
    likelihood: Floats = terms.sum(axis=-1)
    return likelihood
