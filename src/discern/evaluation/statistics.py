"""Intervals of shares, rates and areas, for rows that stand alone and for rows in groups.

- Rows of one group are not independent: variances are sums over groups, and an interval knows how many groups it has.
- An interval lies inside the range of its figure, and has a width even where no error was seen.
- A figure that the data do not allow is an `Estimate` without a value; one that they barely allow has a caveat.
- Where a class is all of one group, nothing is known of how groups differ, and no interval pretends to.
- Sources of the formulas stand with the functions; `tests/evaluation` simulates what each interval covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

LEVEL = 0.95
FEW_GROUPS = 30
"""Below this many groups (rows, where each stands alone) of a class, intervals are known to be unreliable."""

FEW_HITS = 5
ROUNDING = 1e-9
"""A standard error below this share of its figure, which is at most 1, is what is left of rounding."""

_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that have a score: `labels` bool [n], `scores` float64 [n], `groups` int64 [n] numbered from 0.

    `group_count` counts the groups, `without_score` the rows that were left out because their score is NaN.
    """

    labels: Flags
    scores: Floats
    groups: Integers
    group_count: int
    without_score: int = 0

    @property
    def positives(self) -> int:
        """How many rows are of the positive class."""
        return int(np.count_nonzero(self.labels))

    @property
    def negatives(self) -> int:
        """How many rows are of the negative class."""
        return len(self.labels) - self.positives

    @property
    def clustered(self) -> bool:
        """Whether a group has more than one row."""
        return self.group_count < len(self.labels)

    def groups_with(self, label: bool) -> int:
        """Return how many groups have a row of the class."""
        return len(np.unique(self.groups[self.labels == label]))


def rows_of(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Rows:
    """Return the rows that have a score, their groups numbered anew; without `groups` each row is one of its own.

    Raises ValueError where the columns differ in length, a label is neither 0 nor 1, or a score is infinite.
    """
    label, score = np.asarray(labels), np.asarray(scores, np.float64)
    group = np.arange(len(label)) if groups is None else np.asarray(groups)
    if not label.shape == score.shape == group.shape or label.ndim != 1:
        raise ValueError(f"columns of other lengths: {label.shape}, {score.shape}, {group.shape}")
    if not np.isin(label, (0, 1)).all():
        raise ValueError("a label is 0 or 1")
    if np.isinf(score).any():
        raise ValueError("a score is infinite")
    there = ~np.isnan(score)
    numbers, renumbered = np.unique(group[there], return_inverse=True)
    return Rows(
        labels=label[there].astype(np.bool_),
        scores=score[there],
        groups=renumbered.astype(np.int64),
        group_count=len(numbers),
        without_score=int(np.count_nonzero(~there)),
    )


def joined(*caveats: str | None) -> str | None:
    """Return the caveats that there are as one, or None."""
    there = [caveat for caveat in caveats if caveat]
    return "; ".join(there) or None


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"


def caveats_of(rows: Rows) -> str | None:
    """Return what makes figures of both classes doubtful, or None."""
    found = []
    if rows.without_score:
        found.append(f"{counted(rows.without_score, 'row has', 'rows have')} no score and left out")
    for label, name in ((True, "positive"), (False, "negative")):
        groups = rows.groups_with(label)
        if groups == 1:
            found.append(f"all {name} items are of one group: no interval")
        elif groups < FEW_GROUPS:
            found.append(
                f"only {counted(groups, 'group', 'groups')} with {name} items: the interval is unreliable"
                if rows.clustered
                else f"only {counted(groups, f'{name} item', f'{name} items')}: the interval is unreliable"
            )
    return joined(*found)


def groups_unknown(rows: Rows) -> bool:
    """Tell whether a class is all of one group, so that what another group would give cannot be told."""
    return min(rows.groups_with(label) for label in (True, False)) < 2


def nothing_to_measure(rows: Rows, least: int = 2) -> Estimate | None:
    """Return an estimate without a value where a class has fewer than `least` rows, else None."""
    if rows.positives >= least and rows.negatives >= least:
        return None
    scored = (
        f"{counted(rows.positives, 'positive', 'positives')} and {counted(rows.negatives, 'negative', 'negatives')}"
    )
    left_out = f" ({counted(rows.without_score, 'row', 'rows')} without a score)" if rows.without_score else ""
    return Estimate(None, caveat=f"needs at least {least} items of each class with a score, has {scored}{left_out}")


def normal_quantile(level: float) -> float:
    """Return what a standard normal stays within, on both sides, with the probability `level`."""
    return float(special.ndtri(0.5 + level / 2))


def quantile(level: float, degrees: float) -> float:
    """Return the two-sided quantile of Student's t with so many degrees of freedom."""
    return float(special.stdtrit(degrees, 0.5 + level / 2))


def degrees_of_freedom(terms: Floats) -> float:
    """Return how many degrees of freedom the sum of squares of independent terms has, from 1 up.

    Satterthwaite's (Biometrics Bulletin 2, 1946), 2 E(V)^2 / Var(V), with the variance of the sum taken from the fourth
    powers: about as many as there are terms where they are normal, far fewer where a handful make up the sum.
    """
    squares = terms**2
    total = float(np.sum(squares))
    variance = float(np.sum(squares**2)) - total**2 / len(terms)
    return max(2 * total**2 / variance, 1.0) if variance > 0 else float(max(len(terms) - 1, 1))


def sums_by_group(values: ArrayLike, groups: Integers, group_count: int) -> Floats:
    """Return the sum of the values of each group, in the order of the rows."""
    return np.bincount(groups, weights=np.asarray(values, np.float64), minlength=group_count).astype(np.float64)


def proportion(hits: ArrayLike, groups: ArrayLike | None = None, *, level: float = LEVEL) -> Estimate:
    """Return the share of rows that are hits, with its interval.

    Wilson's score interval (JASA 22, 1927); with fewer than 5 hits or misses the exact one (Clopper and Pearson,
    Biometrika 26, 1934), which covers more than it says. In groups both take the effective number of rows, the number
    divided by the design effect (Rao and Scott, Biometrics 48, 1992), less what its own estimation costs (Korn and
    Graubard, Survey Methodology 24, 1998, with the degrees of freedom of `degrees_of_freedom`). Where every row is a
    hit, or none, a group counts as one row.
    """
    hit = np.asarray(hits, np.bool_)
    rows = rows_of(hit, np.zeros(len(hit)), groups)
    total = len(hit)
    if not total:
        return Estimate(None, level=level, caveat="no items")
    share = int(np.count_nonzero(hit)) / total
    effective = effective_rows(hit, rows, level) if rows.clustered else float(total)
    low, high, method = share_limits(share, effective, level)
    few = rows.clustered and rows.group_count < FEW_GROUPS
    return Estimate(
        share,
        low,
        high,
        level=level,
        method=f"{method}, clustered" if rows.clustered else method,
        caveat=f"only {counted(rows.group_count, 'group', 'groups')}: the interval is unreliable" if few else None,
    )


def effective_rows(hit: Flags, rows: Rows, level: float = LEVEL) -> float:
    """Return how many independent rows the rows in groups are worth, never more than there are (see `proportion`)."""
    total, count = len(hit), rows.group_count
    share = float(hit.mean())
    if share in {0.0, 1.0} or count < 2:
        return float(count)
    terms = sums_by_group(hit - share, rows.groups, count) / total
    variance = count / (count - 1) * float(np.sum(terms**2))
    wider = (quantile(level, degrees_of_freedom(terms)) / normal_quantile(level)) ** 2
    return min(float(total), share * (1 - share) / (variance * wider)) if variance else float(total)


def share_limits(share: float, total: float, level: float = LEVEL) -> tuple[float, float, str]:
    """Return the limits of a share of `total` rows, which need not be a whole number, and the name of the method."""
    hits, misses = share * total, (1 - share) * total
    # A hair less, for (1 - 395 / 400) * 400 is a little less than 5.
    if min(hits, misses) < FEW_HITS - 1e-6:
        outside = (1 - level) / 2
        low = float(special.betaincinv(hits, misses + 1, outside)) if hits > 0 else 0.0
        high = float(special.betaincinv(hits + 1, misses, 1 - outside)) if misses > 0 else 1.0
        return low, high, "Clopper-Pearson"
    squared = normal_quantile(level) ** 2
    centre = (hits + squared / 2) / (total + squared)
    half = math.sqrt(squared * (share * (1 - share) * total + squared / 4)) / (total + squared)
    return max(centre - half, 0.0), min(centre + half, 1.0), "Wilson"


def mean(values: ArrayLike, groups: ArrayLike | None = None, *, level: float = LEVEL) -> Estimate:
    """Return the mean of values with Student's interval, over the sums of groups and with `degrees_of_freedom`."""
    value = np.asarray(values, np.float64)
    if not len(value):
        return Estimate(None, level=level, caveat="no items")
    rows = rows_of(np.zeros(len(value)), value, groups)
    if rows.without_score:
        raise ValueError("a value is missing")
    centre, count = float(value.mean()), rows.group_count
    if count < 2:
        return Estimate(centre, level=level, caveat="one group: no interval")
    terms = sums_by_group(value - centre, rows.groups, count) / len(value)
    half = quantile(level, degrees_of_freedom(terms)) * math.sqrt(count / (count - 1) * float(np.sum(terms**2)))
    if half <= ROUNDING * abs(centre):
        return Estimate(centre, level=level, caveat="the values do not vary: no interval")
    few = f"only {counted(count, 'group', 'groups')}: the interval is unreliable" if count < FEW_GROUPS else None
    name = "Student, clustered" if rows.clustered else "Student"
    return Estimate(centre, centre - half, centre + half, level=level, method=name, caveat=few)


def logit_limits(value: float, error: float, critical: float) -> tuple[float, float]:
    """Return Wald limits on the scale of log odds for a value between 0 and 1 and its standard error."""
    centre = np.log(value / (1 - value))
    half = critical * error / (value * (1 - value))
    # Beyond 700 the exponential overflows, and the limit is 0 or 1 long before.
    low, high = 1 / (1 + np.exp(np.clip([-(centre - half), -(centre + half)], -700, 700)))
    return float(low), float(high)


def separated_limits(value: float, positives: int, negatives: int, level: float = LEVEL) -> tuple[float, float]:
    """Return limits of an area of exactly 0 or 1, where the estimated variance is zero.

    Newcombe's method 5 (Statistics in Medicine 25, 2006, part 2): a score interval, with the variance that an area
    between exponential distributions would have.
    """
    size = (positives + negatives) / 2 - 1

    def distance(area: float) -> float:
        spread = area * (1 - area) * (1 + size * ((1 - area) / (2 - area) + area / (1 + area)))
        return abs(value - area) - normal_quantile(level) * math.sqrt(spread / (positives * negatives))

    # Seen from 1 the distance is positive at 0 and changes its sign once on the way to 1; from 0 it is the mirror.
    edge = bisected(lambda x: distance(x if value else 1 - x), 0.0, 1 - 1e-9)
    return (edge, 1.0) if value else (0.0, 1 - edge)


def bisected(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function that is positive at `low` and not at `high` changes its sign."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def rate_of_events(counts: ArrayLike, exposures: ArrayLike, *, level: float = LEVEL) -> Estimate:
    """Return events for each unit of exposure, from the count and the exposure of each recording.

    Garwood's exact Poisson interval (Biometrika 28, 1936). Where recordings differ more than chance would have it,
    counts and exposures are divided by the dispersion (quasi-Poisson; McCullagh and Nelder, 1989, section 6.2).
    """
    count, exposure = np.asarray(counts, np.float64), np.asarray(exposures, np.float64)
    total, time = float(count.sum()), float(exposure.sum())
    if count.shape != exposure.shape or (exposure < 0).any() or (count < 0).any():
        raise ValueError("each recording has a count and an exposure, neither below zero")
    if time <= 0:
        return Estimate(None, level=level, caveat="nothing was recorded")
    there = exposure > 0
    dispersion = 1.0
    if total and np.count_nonzero(there) > 1:
        expected = total / time * exposure[there]
        apart = (count[there] - expected) / np.sqrt(expected)
        wider = (quantile(level, degrees_of_freedom(apart)) / normal_quantile(level)) ** 2
        dispersion = float(np.sum(apart**2)) / (np.count_nonzero(there) - 1)
        dispersion = max(1.0, dispersion * wider if dispersion > 1 else 1.0)
    outside = (1 - level) / 2
    events, span = total / dispersion, time / dispersion
    low = float(special.gammaincinv(events, outside)) / span if events else 0.0
    high = float(special.gammaincinv(events + 1, 1 - outside)) / span
    few = np.count_nonzero(there) < FEW_GROUPS and dispersion > 1
    return Estimate(
        total / time,
        low,
        high,
        level=level,
        method="Garwood" if dispersion == 1 else f"Garwood, dispersion {dispersion:.3g}",
        caveat=f"only {np.count_nonzero(there)} recordings: the interval is unreliable" if few else None,
    )
