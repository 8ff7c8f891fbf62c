"""Whether one of two detectors, or of two variants, is better on the same items.

- Both are measured on the same rows: a row that one of them has no score for is left out of both, and counted.
- A difference is the candidate less the baseline. The verdict is about the candidate, and rests on the p-value after
  Holm's correction for everything that was compared at once.
- "Not distinguishable" is no "equal": it comes with the number of items that would tell the difference that was seen,
  and the smallest difference that so many items would tell, at the level that Holm's correction asks of the smallest
  p-value. "Not worse than a margin" is a test of its own.
- Where nothing can be told, because a class is all of one group, there is no interval and no p-value: not
  distinguishable, and the caveat says why.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from scipy import special

from discern.evaluation import metrics, metrics_weighted
from discern.evaluation.comparisons_margin import paired_limits
from discern.evaluation.statistics import (
    FEW_GROUPS,
    LEVEL,
    ROUNDING,
    Rows,
    bisected,
    caveats_of,
    counted,
    groups_unknown,
    joined,
    normal_quantile,
    nothing_to_measure,
    proportion,
    quantile,
    rows_of,
    sums_by_group,
)
from discern.evaluation.statistics_bootstrap import DRAWS, drawn
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from discern.evaluation.statistics_bootstrap import Statistic

    Floats = NDArray[np.float64]

Verdict = Literal["better", "worse", "not distinguishable"]

_MOST_ITEMS = 1e9
_LEAST_P = 1e-12
_ALIKE = "both give these items the same figure: no interval"
POWER = 0.8
_EXACT_BELOW = 25
"""McNemar's test is exact below so many items (groups) on which the two differ, as is usual."""


class Comparison(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measure of two detectors on the same items, and what can be said of the difference.

    `items_needed` is how many items of the same make-up would tell the difference that was seen, with the probability
    0.8, and `detectable` the smallest difference that the items there are would tell; both only where the verdict is
    "not distinguishable".
    """

    measure: str
    baseline: Estimate
    candidate: Estimate
    difference: Estimate
    p_value: float | None = None
    p_adjusted: float | None = None
    verdict: Verdict | None = None
    higher_is_better: bool = True
    items: int = 0
    items_needed: int | None = None
    detectable: float | None = None


def _untold(measure: str, nothing: Estimate, *, higher_is_better: bool = True) -> Comparison:
    return Comparison(measure, nothing, nothing, nothing, higher_is_better=higher_is_better)


def shared_rows(
    labels: ArrayLike, baseline: ArrayLike, candidate: ArrayLike, groups: ArrayLike | None
) -> tuple[Rows, Rows]:
    """Return the rows of both, those left out where either has no score."""
    first, second = np.array(baseline, np.float64), np.array(candidate, np.float64)
    missing = np.isnan(first) | np.isnan(second)
    first[missing] = second[missing] = np.nan
    return rows_of(labels, first, groups), rows_of(labels, second, groups)


def compare_areas(
    labels: ArrayLike,
    baseline: ArrayLike,
    candidate: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = LEVEL,
) -> Comparison:
    """Compare two areas under the ROC curve by DeLong's paired test, in groups with Obuchowski's variance."""
    first, second = shared_rows(labels, baseline, candidate, groups)
    nothing = nothing_to_measure(first)
    if nothing or first.group_count < 2:
        return _untold("area_under_roc", nothing or Estimate(None, caveat="all items are of one group"))
    items = len(first.labels)
    each = [metrics.area_under_roc(rows.labels, rows.scores, rows.groups, level=level) for rows in (first, second)]
    apart = metrics.area_of(metrics.placements(second) - metrics.placements(first), first)
    error = math.sqrt(apart.variance)
    if groups_unknown(first):
        return _unvarying("area_under_roc", each, apart.value, first)
    if error <= ROUNDING:
        if abs(apart.value) <= ROUNDING:
            return _unvarying("area_under_roc", each, 0.0, first, _ALIKE, p_value=1.0)
        return _areas_without_variance(each, apart.value, first, second, level)
    half = quantile(level, apart.degrees) * error
    return Comparison(
        "area_under_roc",
        each[0],
        each[1],
        Estimate(
            apart.value,
            max(apart.value - half, -1.0),
            min(apart.value + half, 1.0),
            level=level,
            method="Obuchowski, paired" if first.clustered else "DeLong, paired",
            caveat=caveats_of(first),
        ),
        p_value=float(2 * special.stdtr(apart.degrees, -abs(apart.value) / error)),
        items=items,
        items_needed=_items_needed(apart.value, error, items, level),
        detectable=_away(level) * error,
    )


def _unvarying(
    measure: str,
    each: Sequence[Estimate],
    value: float,
    rows: Rows,
    why: str | None = None,
    *,
    p_value: float | None = None,
    higher_is_better: bool = True,
) -> Comparison:
    """Return a difference of which nobody knows how far off it is."""
    caveat = joined(caveats_of(rows), why)
    return Comparison(
        measure,
        each[0],
        each[1],
        Estimate(value, level=each[0].level, caveat=caveat),
        p_value=p_value,
        higher_is_better=higher_is_better,
        items=len(rows.labels),
    )


def _areas_without_variance(
    each: Sequence[Estimate], value: float, first: Rows, second: Rows, level: float
) -> Comparison:
    """Compare areas that lie apart by the same for every item, such as 1 and 0, or 1 and a half by equal scores.

    The limits of the two areas are combined by squares and added (Zou and Donner, Statistics in Medicine 27, 2008), as
    if they were independent, and the p-value is that of the widest interval that leaves out zero.
    """
    areas = [metrics.area_of(metrics.placements(rows), rows) for rows in (first, second)]

    def limits(at: float) -> tuple[float, float]:
        ends = [metrics.area_limits(area, rows, at) for area, rows in zip(areas, (first, second), strict=True)]
        below = math.hypot(areas[1].value - ends[1][0], ends[0][1] - areas[0].value)
        above = math.hypot(ends[1][1] - areas[1].value, areas[0].value - ends[0][0])
        return max(value - below, -1.0), min(value + above, 1.0)

    def beyond(p_value: float) -> float:
        low, high = limits(1 - p_value)
        return -1.0 if low > 0 or high < 0 else 1.0

    low, high = limits(level)
    caveat = joined(caveats_of(first), "the difference is the same for every item")
    return Comparison(
        "area_under_roc",
        each[0],
        each[1],
        Estimate(value, low, high, level=level, method="Newcombe, square and add", caveat=caveat),
        p_value=bisected(beyond, _LEAST_P, 1.0) if beyond(_LEAST_P) > 0 else _LEAST_P,
        items=len(first.labels),
    )


def compare_by_bootstrap(
    measure: str,
    labels: ArrayLike,
    baseline: ArrayLike,
    candidate: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    statistic: Callable[[Rows], Statistic] = metrics_weighted.average_precision,
    higher_is_better: bool = True,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Comparison:
    """Compare any figure by a paired bootstrap over groups: both are computed on the same draws.

    The p-value is that of the difference over the standard deviation of its draws, by Student's t with the degrees of
    freedom of the rarer class's groups (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 16.4, in
    its normal form); unlike one counted from the draws it can be smaller than one over their number.
    """
    first, second = shared_rows(labels, baseline, candidate, groups)
    nothing = nothing_to_measure(first)
    if nothing:
        return _untold(measure, nothing, higher_is_better=higher_is_better)
    of_first, of_second = statistic(first), statistic(second)

    def both(weights: Floats) -> Floats:
        return np.stack([of_first(weights), of_second(weights)], axis=1)

    values = both(np.ones((1, first.group_count)))[0]
    if np.isnan(values).any():
        return _untold(measure, Estimate(None, caveat="the data do not allow this figure"))
    plain = [Estimate(float(value), level=level) for value in values]
    value = float(values[1] - values[0])
    if groups_unknown(first):
        return _unvarying(measure, plain, value, first, higher_is_better=higher_is_better)
    found = drawn(both, first.group_count, len(first.labels), seed=seed, draws=draws)
    found = found[~np.isnan(found).any(axis=1)]
    if len(found) < draws / 2:
        return _untold(measure, Estimate(None, caveat="most resamples miss a class"))
    name = f"paired {'cluster ' if first.clustered else ''}bootstrap, {draws} draws, seed {seed}"
    made = _on_draws(measure, plain, value, found, first, name)
    return msgspec.structs.replace(made, higher_is_better=higher_is_better)


def _on_draws(
    measure: str, plain: Sequence[Estimate], value: float, found: Floats, rows: Rows, name: str
) -> Comparison:
    """Return a difference with the interval and the p-value that paired draws, float64 [draws, 2], give it."""
    level = plain[0].level
    apart = found[:, 1] - found[:, 0]
    error = float(apart.std(ddof=1))
    if error <= ROUNDING:
        same = abs(value) <= ROUNDING
        why = _ALIKE if same else "the resamples do not vary: no interval"
        return _unvarying(measure, plain, value, rows, why, p_value=1.0 if same else None)
    degrees = min(rows.groups_with(True), rows.groups_with(False)) - 1
    half = quantile(level, max(degrees, 1)) * error
    ends = np.quantile(found, [(1 - level) / 2, 0.5 + level / 2], axis=0)
    each = [
        Estimate(one.value, float(low), float(high), level=level, method=f"percentile, {name}")
        if high - low > ROUNDING
        else one
        for one, low, high in zip(plain, *ends, strict=True)
    ]
    return Comparison(
        measure,
        each[0],
        each[1],
        Estimate(value, value - half, value + half, level=level, method=name, caveat=caveats_of(rows)),
        p_value=float(2 * special.stdtr(max(degrees, 1), -abs(value) / error)),
        items=len(rows.labels),
        items_needed=_items_needed(value, error, len(rows.labels), level),
        detectable=_away(level) * error,
    )


def mcnemar(differences: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Return the two-sided p-value that baseline and candidate are right equally often.

    `differences` [n] is 1 where only the candidate is right, -1 where only the baseline is, 0 elsewhere. McNemar's
    test (Psychometrika 12, 1947); in groups the sums of groups take the place of items (Obuchowski, Statistics in
    Medicine 17, 1998). With fewer than 25 items (groups) that differ it is exact, and rejects less often than it may:
    under the hypothesis every sum may as well have the other sign, and the distribution of their total is counted out.
    """
    values = np.asarray(differences, np.int64)
    if groups is not None:
        numbers, position = np.unique(np.asarray(groups), return_inverse=True)
        values = sums_by_group(values, position, len(numbers)).astype(np.int64)
    sums = np.abs(values[values != 0])
    if not len(sums):
        return 1.0
    total = abs(int(values.sum()))
    if len(sums) >= _EXACT_BELOW:
        return float(special.chdtrc(1, total**2 / float(np.sum(sums**2))))
    chance = np.ones(1)
    for size in sums:
        chance = (np.pad(chance, (0, 2 * size)) + np.pad(chance, (2 * size, 0))) / 2
    reach = len(chance) // 2
    away = np.abs(np.arange(-reach, reach + 1)) >= total
    return min(1.0, float(chance[away].sum()))


def compare_decisions(
    labels: ArrayLike,
    baseline: ArrayLike,
    candidate: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    measure: str = "accuracy",
    level: float = LEVEL,
) -> Comparison:
    """Compare how often two are right, by McNemar's test; `baseline` and `candidate` [n] say whether each raised it."""
    label = np.asarray(labels, np.bool_)
    right = [np.asarray(raised, np.bool_) == label for raised in (baseline, candidate)]
    rows = rows_of(label, np.zeros(len(label)), groups)
    if not len(label):
        return _untold(measure, Estimate(None, caveat="no items"))
    apart = right[1].astype(np.int64) - right[0].astype(np.int64)
    value = float(apart.mean())
    terms = sums_by_group(apart - value, rows.groups, rows.group_count) / len(label)
    low, high = paired_limits(apart, groups, level=level)
    spread = math.sqrt(float(np.sum(terms**2)))
    error = spread if spread > ROUNDING else 0.0
    few = (
        f"only {counted(rows.group_count, *(('group', 'groups') if rows.clustered else ('item', 'items')))}: the "
        f"interval is unreliable"
        if rows.group_count < FEW_GROUPS
        else None
    )
    method = "Tango, clustered" if rows.clustered else "Tango"
    return Comparison(
        measure,
        proportion(right[0], groups, level=level),
        proportion(right[1], groups, level=level),
        Estimate(value, low, high, level=level, method=method, caveat=few),
        p_value=mcnemar(apart, groups),
        items=len(label),
        items_needed=_items_needed(value, error, len(label), level),
        detectable=_away(level) * error or None,
    )


def _items_needed(value: float, error: float, items: int, level: float) -> int | None:
    """Return how many items would tell the difference, for its variance falls with their number.

    None where there is none, or one so small (rounding, say) that nobody has the items.
    """
    if not (value and error):
        return None
    needed = items * (_away(level) * error / value) ** 2
    return math.ceil(needed) if needed <= _MOST_ITEMS else None


def _away(level: float) -> float:
    """Return how many standard errors a difference has to be away from zero to be told with the power."""
    return normal_quantile(level) + float(special.ndtri(POWER))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for one another (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p_value) for p_value in adjusted]


def with_verdicts(comparisons: Sequence[Comparison], *, level: float = LEVEL) -> tuple[Comparison, ...]:
    """Return the comparisons with their p-values corrected for one another, and what they say."""
    p_values = [one.p_value for one in comparisons if one.p_value is not None]
    adjusted = iter(holm(p_values))
    # To be told among so many a difference has to be further away from zero than one alone.
    further = _away(1 - (1 - level) / max(len(p_values), 1)) / _away(level)
    return tuple(_judged(one, None if one.p_value is None else next(adjusted), level, further) for one in comparisons)


def _judged(comparison: Comparison, p_adjusted: float | None, level: float, further: float) -> Comparison:
    if comparison.difference.value is None:
        return msgspec.structs.replace(comparison, items_needed=None, detectable=None)
    if p_adjusted is None:
        return msgspec.structs.replace(comparison, verdict="not distinguishable", items_needed=None, detectable=None)
    if p_adjusted >= 1 - level:
        needed, detectable = comparison.items_needed, comparison.detectable
        return msgspec.structs.replace(
            comparison,
            p_adjusted=p_adjusted,
            verdict="not distinguishable",
            items_needed=None if needed is None else math.ceil(needed * further**2),
            detectable=None if detectable is None else detectable * further,
        )
    better = (comparison.difference.value > 0) == comparison.higher_is_better
    return msgspec.structs.replace(
        comparison,
        p_adjusted=p_adjusted,
        verdict="better" if better else "worse",
        items_needed=None,
        detectable=None,
    )
