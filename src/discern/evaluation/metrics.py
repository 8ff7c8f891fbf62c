"""How well scores tell the classes apart, and what the shipped thresholds make of them, each with an interval.

- Labels are 1 for what the detector looks for, scores rise with the suspicion, groups say what is not independent.
- A row without a score (NaN) is left out, and the caveat counts it.
- With one class, or too few negatives to know a false positive rate, there is no figure; with fewer than `FEW_GROUPS`
  groups of a class there is one, with a caveat, and with a single one no interval.
- Where no error was seen, the interval says how many there may be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from scipy.stats import rankdata

from discern.core.errors import CallerError
from discern.evaluation import metrics_weighted as weighted
from discern.evaluation.statistics import (
    FEW_GROUPS,
    LEVEL,
    ROUNDING,
    Rows,
    caveats_of,
    counted,
    degrees_of_freedom,
    groups_unknown,
    joined,
    logit_limits,
    nothing_to_measure,
    proportion,
    quantile,
    rows_of,
    separated_limits,
    share_limits,
    sums_by_group,
)
from discern.evaluation.statistics_bootstrap import DRAWS, by_bootstrap, by_jackknife
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from discern.evaluation.statistics_bootstrap import Statistic

    Floats = NDArray[np.float64]

_FALSE_POSITIVES_TO_KNOW = 10
"""A false positive rate is known from about so many false positives."""


class ClassRates(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of the `items` of one class: shares that were cleared, sent to review and flagged.

    `undecided` counts the items without a score, which are in no share.
    """

    label: int
    items: int
    clear: Estimate
    review: Estimate
    flag: Estimate
    undecided: int = 0


class OperatingPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the shipped thresholds do: rates of each class, and the share of positives among what was flagged."""

    negative: ClassRates
    positive: ClassRates
    flag_precision: Estimate


class Subgroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a subgroup table. `area_under_roc` may be against a class of the whole dataset; its caveat says."""

    name: str
    items: int
    positives: int
    negatives: int
    groups: int
    area_under_roc: Estimate
    flagged_positives: Estimate
    flagged_negatives: Estimate
    caveat: str | None = None


def placements(rows: Rows) -> Floats:
    """Return for each row the share of the other class that it stands right to, ties counting one half, float64 [n].

    The structural components of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988), by midranks as in Sun and Xu
    (IEEE Signal Processing Letters 21, 2014).
    """
    values = np.empty(len(rows.labels))
    among_all = rankdata(rows.scores)
    for label, others in ((True, rows.negatives), (False, rows.positives)):
        own = rows.labels == label
        share = (among_all[own] - rankdata(rows.scores[own])) / others
        values[own] = share if label else 1 - share
    return values


class Area(NamedTuple):
    """A mean of placements, the variance of its estimate and the degrees of freedom of that variance."""

    value: float
    variance: float
    degrees: float


def area_of(values: Floats, rows: Rows) -> Area:
    """Return the area under the ROC curve from the placements, float64 [n].

    Rows that stand alone have DeLong's variance; in groups Obuchowski's (Biometrics 53, 1997), which is DeLong's where
    every group is one row. Of the difference of two detectors' placements it gives the difference of their areas.
    """
    area = float(values[rows.labels].mean())
    sums, counts = [], []
    for label, size in ((True, rows.positives), (False, rows.negatives)):
        own = np.where(rows.labels == label, values - area, 0.0) / size
        sums.append(sums_by_group(own, rows.groups, rows.group_count))
        counts.append(rows.groups_with(label))
    squares = [float(np.sum(own**2)) * count / max(count - 1, 1) for own, count in zip(sums, counts, strict=True)]
    together = 2 * float(np.sum(sums[0] * sums[1])) * rows.group_count / (rows.group_count - 1)
    # The three are estimated apart, and their sum may fall below what no pair of classes could give.
    return Area(area, max(sum(squares) + together, 0.0), degrees_of_freedom(sums[0] + sums[1]))


def area_under_roc(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None, *, level: float = LEVEL
) -> Estimate:
    """Return the area under the ROC curve with DeLong's interval on the scale of log odds; in groups Obuchowski's.

    Its quantile is Student's, with the degrees of freedom that the variance has: with few rows of a class, or an area
    near 1, a handful of them make up the variance. Where the classes do not overlap the variance is zero, and the
    interval is Newcombe's (see `separated_limits`).
    """
    rows = rows_of(labels, scores, groups)
    nothing = nothing_to_measure(rows)
    if nothing or rows.group_count < 2:
        return nothing or Estimate(None, level=level, caveat="all items are of one group")
    area = area_of(placements(rows), rows)
    if groups_unknown(rows):
        return Estimate(area.value, level=level, caveat=caveats_of(rows))
    limits = area_limits(area, rows, level)
    if area.value in {0.0, 1.0}:
        caveat = "the scores of the classes do not overlap"
        return Estimate(area.value, *limits, level=level, method="Newcombe", caveat=joined(caveats_of(rows), caveat))
    if limits[0] == limits[1]:
        return Estimate(area.value, level=level, caveat=joined(caveats_of(rows), "the scores do not vary: no interval"))
    low, high = limits
    method = "Obuchowski, logit" if rows.clustered else "DeLong, logit"
    misplaced = min(rows.groups_with(True), rows.groups_with(False)) * min(area.value, 1 - area.value)
    few = "an area so near its end rests on a few items: the interval may be too narrow" if misplaced < 2 else None
    return Estimate(area.value, low, high, level=level, method=method, caveat=joined(caveats_of(rows), few))


def area_limits(area: Area, rows: Rows, level: float) -> tuple[float, float]:
    """Return the limits of an area (see `area_under_roc`): the area itself, twice, where its scores do not vary."""
    if area.value in {0.0, 1.0}:
        return separated_limits(area.value, rows.groups_with(True), rows.groups_with(False), level)
    error = math.sqrt(area.variance)
    if error <= ROUNDING:
        return area.value, area.value
    return logit_limits(area.value, error, quantile(level, area.degrees))


def resampled(
    rows: Rows,
    statistic: Statistic,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    caveat: str | None = None,
) -> Estimate:
    """Return a figure of both classes with its bootstrap interval and what makes it doubtful."""
    nothing = nothing_to_measure(rows)
    if nothing:
        return nothing
    count = len(rows.labels)
    if groups_unknown(rows):
        value = float(statistic(np.ones((1, rows.group_count)))[0])
        return Estimate(value, level=level, caveat=joined(caveats_of(rows), caveat))
    found = by_bootstrap(statistic, rows.group_count, count, seed=seed, draws=draws, level=level, method="percentile")
    return msgspec.structs.replace(found, caveat=joined(caveats_of(rows), caveat, found.caveat))


def average_precision(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None, *, level: float = LEVEL
) -> Estimate:
    """Return the area under the precision-recall curve by steps. It depends on the share of positives."""
    rows = rows_of(labels, scores, groups)
    nothing = nothing_to_measure(rows)
    if nothing:
        return nothing
    found = by_jackknife(weighted.average_precision(rows), rows.group_count, len(rows.labels), level=level)
    if groups_unknown(rows):
        return Estimate(found.value, level=level, caveat=caveats_of(rows))
    return msgspec.structs.replace(found, caveat=joined(caveats_of(rows), found.caveat))


def equal_error_rate(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Estimate:
    """Return the rate at which false positives and false negatives are equally frequent.

    Where the classes do not overlap, no resample has an error. At a rate of e their n scores lie apart with at most the
    chance 2 (1 - e)^n, n being the groups of the rarer class: the threshold between them lies on one side or the other
    of the one where the rates meet, and there one of the two rates is e at least. The limit is where that is the chance
    left out.
    """
    rows = rows_of(labels, scores, groups)
    found = resampled(rows, weighted.equal_error_rate(rows), seed=seed, draws=draws, level=level)
    if found.value not in {0.0, 1.0} or groups_unknown(rows):
        return found
    units = min(rows.groups_with(True), rows.groups_with(False))
    most = 1 - ((1 - level) / 4) ** (1 / units)
    low, high = (1 - most, 1.0) if found.value else (0.0, most)
    caveat = joined(caveats_of(rows), "the scores of the classes do not overlap")
    return Estimate(found.value, low, high, level=level, method=f"chance of no overlap in {units}", caveat=caveat)


def true_positive_rate_at(
    false_positive_rate: float,
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Estimate:
    """Return the largest true positive rate whose false positive rate on these items is no larger than asked for.

    The interval counts that the threshold comes from the same items; where no resample misses a positive, or
    finds one, it is the exact one of so many groups of positives. With fewer negatives than one false positive needs
    there is no figure.
    """
    rows = rows_of(labels, scores, groups)
    allowed = rows.negatives * false_positive_rate
    if rows.positives and allowed < 1 - 1e-9:
        least = math.ceil(1 / false_positive_rate - 1e-9)
        have = counted(rows.negatives, "negative cannot", "negatives cannot")
        return Estimate(
            None,
            level=level,
            caveat=f"{have} tell a false positive rate of {false_positive_rate:g}: it needs {least} at least, "
            f"{_FALSE_POSITIVES_TO_KNOW * least} to be known",
        )
    few = (
        f"the threshold rests on {counted(math.floor(allowed + 1e-9), 'false positive', 'false positives')}: the true "
        f"false positive rate may be another, and the interval too narrow"
        if allowed < _FALSE_POSITIVES_TO_KNOW
        else None
    )
    statistic = weighted.true_positive_rate_at(rows, false_positive_rate)
    found = resampled(rows, statistic, seed=seed, draws=draws, level=level, caveat=few)
    if found.value not in {0.0, 1.0} or found.low is not None or groups_unknown(rows):
        return found
    low, high, method = share_limits(found.value, rows.groups_with(True), level)
    return Estimate(found.value, low, high, level=level, method=method, caveat=joined(caveats_of(rows), few))


def operating_point(
    labels: ArrayLike, decision: ArrayLike, groups: ArrayLike | None = None, *, level: float = LEVEL
) -> OperatingPoint:
    """Return what decisions (0 clear, 1 review, 2 flag, -1 none) were made of each class."""
    label, made = np.asarray(labels), np.asarray(decision)
    group = np.arange(len(label)) if groups is None else np.asarray(groups)

    def share(among: NDArray[np.bool_], hit: NDArray[np.bool_]) -> Estimate:
        return proportion(hit[among], group[among], level=level)

    def rates(of: int) -> ClassRates:
        decided = (label == of) & (made >= 0)
        clear, review, flag = (share(decided, made == code) for code in range(3))
        undecided = int(np.count_nonzero((label == of) & (made < 0)))
        return ClassRates(of, int(np.count_nonzero(label == of)), clear, review, flag, undecided)

    return OperatingPoint(rates(0), rates(1), share(made == 2, label == 1))


def subgroup_table(
    labels: ArrayLike,
    scores: ArrayLike,
    decision: ArrayLike,
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = LEVEL,
) -> tuple[Subgroup, ...]:
    """Return one line for each value of a subgroup, by name.

    A subgroup of one class only, such as a manipulation, is measured against the other class of the whole dataset.
    """
    label, score, made = np.asarray(labels), np.asarray(scores, np.float64), np.asarray(decision)
    names = np.asarray([str(value) for value in np.asarray(values, dtype=object)], dtype=object)
    group = np.arange(len(label)) if groups is None else np.asarray(groups)
    lines = []
    for name in sorted(set(names)):
        inside = names == name
        own = [int(np.count_nonzero(inside & (label == of))) for of in (0, 1)]
        against, note = inside, None
        if 0 in own:
            missing = own.index(0)
            against = inside | (label == missing)
            note = f"against the {('negatives', 'positives')[missing]} of the whole dataset"
        area = area_under_roc(label[against], score[against], group[against], level=level)
        decided = inside & (made >= 0)
        flagged = [
            proportion(made[decided & (label == of)] == 2, group[decided & (label == of)], level=level) for of in (1, 0)
        ]
        units = len(np.unique(group[inside]))
        few = (
            f"only {counted(units, 'group', 'groups')}"
            if units < len(label[inside])
            else f"only {len(label[inside])} items"
        )
        lines.append(
            Subgroup(
                name=name,
                items=int(np.count_nonzero(inside)),
                positives=own[1],
                negatives=own[0],
                groups=units,
                area_under_roc=msgspec.structs.replace(area, caveat=joined(area.caveat, note)),
                flagged_positives=flagged[0],
                flagged_negatives=flagged[1],
                caveat=few if units < FEW_GROUPS else None,
            )
        )
    return tuple(lines)


def pooled(
    labels: ArrayLike, scores: ArrayLike, videos: ArrayLike, *, pool: Literal["mean", "max", "top_mean"], top: int = 1
) -> tuple[NDArray[np.int8], Floats, NDArray[np.int64]]:
    """Return label and score of each video, in the order of `numpy.unique(videos)`, and how many frames had a score.

    `top_mean` is the mean of the `top` highest scores. Frames without a score are left out; a video without any has
    none. Raises CallerError where frames of one video are labelled otherwise.
    """
    label, score = np.asarray(labels, np.int8), np.asarray(scores, np.float64)
    names, position = np.unique(np.asarray(videos), return_inverse=True)
    ones = sums_by_group(label, position, len(names))
    frames = np.bincount(position, minlength=len(names))
    torn = names[(ones > 0) & (ones < frames)]
    if len(torn):
        raise CallerError(
            f"frames of one video are labelled otherwise, in {len(torn)} of {len(names)} videos.",
            mend="Give all frames of a video its label, or measure frames.",
            videos=[str(name) for name in torn[:5]],
        )
    order = np.lexsort((-score, position))
    order = order[~np.isnan(score[order])]
    used = np.bincount(position[order], minlength=len(names))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(used) - used, used)
    most = {"mean": len(label), "max": 1, "top_mean": top}[pool]
    kept = order[rank < most]
    counts = np.bincount(position[kept], minlength=len(names))
    sums = sums_by_group(score[kept], position[kept], len(names))
    means = np.divide(sums, counts, out=np.full(len(names), np.nan), where=counts > 0)
    return (ones > 0).astype(np.int8), means, used.astype(np.int64)
