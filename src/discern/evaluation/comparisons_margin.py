"""Whether a candidate is not worse than a baseline by more than a margin, at one operating point.

- The hypothesis is that it is worse by the margin or more: few items, or none of a class, never pass.
- Two that never differ still have an interval, so that ten equal items prove little.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.evaluation.statistics import (
    FEW_GROUPS,
    LEVEL,
    counted,
    degrees_of_freedom,
    joined,
    normal_quantile,
    quantile,
    rows_of,
    sums_by_group,
)
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_HALVINGS = 50


class Margin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the candidate does worse than the baseline, against a margin.

    `misses` and `false_alarms` are the differences of the two rates, candidate less baseline, and `balanced` half their
    sum; their intervals are two-sided at 90 % for one-sided tests at 5 %. `not_worse` is whether the upper limit of
    `balanced` is below the margin, `equivalent` whether the whole interval is within the margin on both sides.
    """

    margin: float
    misses: Estimate
    false_alarms: Estimate
    balanced: Estimate
    not_worse: bool
    equivalent: bool


def tango_limits(more: float, less: float, total: float, critical: float) -> tuple[float, float]:
    """Return the limits of the difference (more - less) / total of paired shares.

    Tango's score interval (Statistics in Medicine 17, 1998): the differences that a score test with the variance under
    that very difference does not reject. `more` and `less` count the pairs that differ either way, out of `total`; none
    need be whole.
    """

    def score(difference: float) -> float:
        b = -more - less + (2 * total - more + less) * difference
        c = -less * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 8 * total * c, 0.0)) - b) / (4 * total)
        variance = total * (2 * share + difference * (1 - difference))
        return (more - less - total * difference) / math.sqrt(variance) if variance > 0 else 0.0

    observed = (more - less) / total
    limits = []
    for end, sign in ((-1.0, 1.0), (1.0, -1.0)):
        inside, outside = observed, end
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            if sign * score(middle) < critical:
                inside = middle
            else:
                outside = middle
        limits.append((inside + outside) / 2)
    return limits[0], limits[1]


def paired_limits(
    differences: ArrayLike, groups: ArrayLike | None = None, *, level: float = LEVEL
) -> tuple[float, float]:
    """Return limits of the mean of paired differences of 1, 0 and -1.

    Tango's; in groups the counts are divided by the design effect (Rao and Scott, Biometrics 48, 1992) and by what its
    own estimation costs. Where no pair differs, or all differ alike, a group counts as one pair.
    """
    value = np.asarray(differences, np.int64)
    rows = rows_of(np.zeros(len(value)), np.zeros(len(value)), groups)
    total, count, mean = len(value), rows.group_count, float(value.mean())
    shrink = 1.0
    if rows.clustered:
        terms = sums_by_group(value - mean, rows.groups, count) / total
        alone = float(np.mean((value - mean) ** 2)) / total
        shrink = count / total
        if alone and count > 1:
            wider = (quantile(level, degrees_of_freedom(terms)) / normal_quantile(level)) ** 2
            together = count / (count - 1) * float(np.sum(terms**2)) * wider
            shrink = min(1.0, alone / together) if together else 1.0
    more, less = (float(np.count_nonzero(value == sign)) for sign in (1, -1))
    return tango_limits(more * shrink, less * shrink, total * shrink, normal_quantile(level))


def _rate(worse: NDArray[np.int64], groups: NDArray[np.int64] | None, level: float, what: str) -> Estimate:
    if not len(worse):
        return Estimate(None, level=level, caveat=f"no {what} items")
    low, high = paired_limits(worse, groups, level=level)
    units = len(worse) if groups is None else len(np.unique(groups))
    few = f"only {counted(units, f'{what} item or group', f'{what} items or groups')}" if units < FEW_GROUPS else None
    return Estimate(float(worse.mean()), low, high, level=level, method="Tango", caveat=few)


def not_worse_by(
    margin: float,
    labels: ArrayLike,
    baseline: ArrayLike,
    candidate: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    significance: float = 0.05,
) -> Margin:
    """Test that the candidate's balanced error rate is less than `margin` above the baseline's.

    `baseline` and `candidate` bool [n] say for the same items whether each raised it (its score reached the threshold).
    The limits of the two rates are combined by squares and added (Zou and Donner, Statistics in Medicine 27, 2008). In
    groups that hold both classes this takes the classes as independent.
    """
    if margin <= 0:
        raise ValueError("a margin is above 0")
    label = np.asarray(labels, np.bool_)
    group = None if groups is None else np.asarray(groups, np.int64)
    raised = [np.asarray(one, np.int64) for one in (baseline, candidate)]
    if not label.shape == raised[0].shape == raised[1].shape:
        raise ValueError("baseline and candidate are of the same items")
    level = 1 - 2 * significance
    rates = [
        _rate(
            sign * (raised[1] - raised[0])[label == of],
            None if group is None else group[label == of],
            level,
            what,
        )
        for of, sign, what in ((True, -1, "positive"), (False, 1, "negative"))
    ]
    balanced = _half_sum(rates[0], rates[1])
    low, high = balanced.low, balanced.high
    return Margin(
        margin,
        rates[0],
        rates[1],
        balanced,
        not_worse=high is not None and high < margin,
        equivalent=low is not None and high is not None and -margin < low and high < margin,
    )


def _half_sum(first: Estimate, second: Estimate) -> Estimate:
    caveat = joined(first.caveat, second.caveat)
    parts = [(e.value, e.low, e.high) for e in (first, second)]
    values, below, above = [], 0.0, 0.0
    for value, low, high in parts:
        if value is None or low is None or high is None:
            return Estimate(None, level=first.level, caveat=caveat)
        values.append(value)
        below += (value - low) ** 2
        above += (high - value) ** 2
    value = (values[0] + values[1]) / 2
    return Estimate(
        value,
        value - math.sqrt(below) / 2,
        value + math.sqrt(above) / 2,
        level=first.level,
        method="Tango, square and add",
        caveat=caveat,
    )
