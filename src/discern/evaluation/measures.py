"""The one place where the run asks for figures: arrays in, estimates and tables out.

- A figure that the data do not allow is an estimate without a value and a caveat that says why.
- Rows of one group count as one observation, wherever an interval is made.
- Resampling draws from `PCG64(seed)`; nothing here depends on the machine.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm, rankdata
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from discern.evaluation.types import Estimate
from discern.evaluation.types_result import Bar, Bin, Compared, Finding, Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
_RESAMPLES = 1000
_FEWER_RESAMPLES = 200
_MANY_ROWS = 50_000
_FEW_GROUPS = 20
_POINTS = 200
_BINS = 15
_BARS = 20
_POWER = 0.8
_FALSE_POSITIVE_RATES = {"tpr_at_fpr_1_percent": 0.01, "tpr_at_fpr_0_1_percent": 0.001}
_SURE_FALSE_POSITIVES = 10


@dataclass(frozen=True, slots=True)
class Marked:
    """Labels (0 or 1), scores and groups of n rows that all have a score."""

    labels: NDArray[np.int8]
    scores: NDArray[np.float64]
    groups: NDArray[np.int64]

    @property
    def positives(self) -> int:
        """How many are positive."""
        return int(self.labels.sum())

    @property
    def negatives(self) -> int:
        """How many are negative."""
        return len(self.labels) - self.positives

    @property
    def lacks(self) -> str | None:
        """Why nothing can be told apart here, or None."""
        if not len(self.labels):
            return "There are no items."
        if not self.positives:
            return "There are no positive items."
        return None if self.negatives else "There are no negative items."

    def where(self, rows: NDArray[np.bool_]) -> Marked:
        """Return some of the rows."""
        return Marked(self.labels[rows], self.scores[rows], self.groups[rows])


def metrics(marked: Marked, seed: int) -> dict[str, Estimate]:
    """Return the figures of one detector on one dataset, by name, in the order in which they are shown."""
    names = ("average_precision", "eer", *_FALSE_POSITIVE_RATES, "ece")
    lacks = marked.lacks
    if lacks is not None:
        return {name: Estimate(None, caveat=lacks) for name in ("auc", *names)}
    ranked = _Ranked(marked)
    found = ranked.figures(np.ones(len(marked.labels)))
    drawn = _resampled(ranked, marked.groups, seed)
    method = f"cluster bootstrap, percentile, {len(drawn)} resamples"
    estimates = {"auc": auc(marked)}
    for place, name in enumerate(names):
        low, high = np.quantile(drawn[:, place], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        estimates[name] = _with_caveat(name, Estimate(float(found[place]), low, high, LEVEL, method), marked)
    return estimates


def auc(marked: Marked) -> Estimate:
    """Return the area under the ROC curve with an interval on the logit scale.

    The variance is that of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988) with its components summed by group
    as in Obuchowski (Biometrics 53, 1997); with a row a group the two are the same but for G / (G - 1).
    """
    if marked.lacks is not None:
        return Estimate(None, caveat=marked.lacks)
    value, influence = _area(marked)
    variance = _clustered(influence, marked.groups)
    if not 0 < value < 1 or variance <= 0:
        return Estimate(
            value, caveat="Every positive item is on the same side of every negative one: there is no interval."
        )
    spread = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(variance) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + side * spread))) for side in (-1, 1))
    return Estimate(value, low, high, LEVEL, "DeLong by groups, logit", _few(marked))


def share(hits: NDArray[np.bool_], groups: NDArray[np.int64]) -> Estimate:
    """Return how many of the rows are hits, as a share with Wilson's interval.

    Where groups have several rows, the interval is that of as many rows as would be as sure: n is divided by the
    design effect (Korn and Graubard, 1998), which never makes it larger.
    """
    rows = len(hits)
    if not rows:
        return Estimate(None, caveat="There are no items.")
    value = float(hits.mean())
    sure = float(rows)
    variance = _clustered((hits - value) / rows, groups)
    if variance > 0:
        sure = min(sure, value * (1 - value) / variance)
    elif len(np.unique(groups)) < rows:
        sure = float(len(np.unique(groups)))
    low, high = proportion_confint(value * sure, sure, alpha=1 - LEVEL, method="wilson")
    method = "Wilson" if sure == rows else "Wilson by groups"
    return Estimate(value, min(float(low), value), max(float(high), value), LEVEL, method)


def roc(marked: Marked) -> tuple[Point, ...]:
    """Return the ROC curve: false-positive rate, true-positive rate; a few hundred points at most."""
    if marked.lacks is not None:
        return ()
    ranked = _Ranked(marked)
    rates = ranked.false / marked.negatives, ranked.true / marked.positives
    chosen = _thinned(np.concatenate([[0.0], rates[0] + rates[1]]))
    x, y = np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])
    scores = [None, *ranked.thresholds.tolist()]
    return tuple(Point(float(x[place]), float(y[place]), scores[place]) for place in chosen)


def precision_recall(marked: Marked) -> tuple[Point, ...]:
    """Return recall and precision; a few hundred points at most."""
    if marked.lacks is not None:
        return ()
    ranked = _Ranked(marked)
    recall, precision = ranked.true / marked.positives, ranked.true / (ranked.true + ranked.false)
    chosen = _thinned(recall)
    return tuple(
        Point(float(recall[place]), float(precision[place]), float(ranked.thresholds[place])) for place in chosen
    )


def reliability(marked: Marked) -> tuple[Bin, ...]:
    """Return bins of equal width: the mean score in each, and the share of positives."""
    places = _bins(marked.scores, _BINS)
    bins = []
    for place in range(_BINS):
        inside = places == place
        found = int(inside.sum())
        mean = float(marked.scores[inside].mean()) if found else None
        positive = share(marked.labels[inside] == 1, marked.groups[inside])
        bins.append(Bin(place / _BINS, (place + 1) / _BINS, found, mean, positive))
    return tuple(bins)


def histogram(marked: Marked) -> tuple[Bar, ...]:
    """Return how many items of each class have a score in each twentieth."""
    places = _bins(marked.scores, _BARS)
    counts = [np.bincount(places[marked.labels == label], minlength=_BARS) for label in (0, 1)]
    return tuple(
        Bar(place / _BARS, (place + 1) / _BARS, int(counts[0][place]), int(counts[1][place])) for place in range(_BARS)
    )


def compared(dataset: str, ours: Marked, theirs: Marked, flagged: Sequence[NDArray[np.bool_]]) -> list[Compared]:
    """Return the differences of two detectors on the same rows: their areas, and their errors when they flag.

    The areas are compared with the paired variance of DeLong by groups, the errors with McNemar's exact test.
    `flagged` says for each of the two which rows it flags.
    """
    if ours.lacks is not None:
        return [_incomparable(dataset, "auc", ours.lacks), _incomparable(dataset, "errors_at_flag", ours.lacks)]
    (area, influence), (other_area, other_influence) = _area(ours), _area(theirs)
    difference = area - other_area
    variance = _clustered(influence - other_influence, ours.groups)
    z = float(norm.ppf((1 + LEVEL) / 2))
    p = 1.0 if variance <= 0 else float(2 * norm.sf(abs(difference) / math.sqrt(variance)))
    spread = math.sqrt(max(variance, 0.0))
    estimate = Estimate(
        difference, difference - z * spread, difference + z * spread, LEVEL, "paired DeLong by groups", _few(ours)
    )
    wrong = [np.asarray(flags != (ours.labels == 1)) for flags in flagged]
    return [
        Compared(dataset, "auc", area, other_area, estimate, p, p, _finding(difference, p), _needed(ours, estimate)),
        _errors_compared(dataset, ours, wrong[0], wrong[1]),
    ]


def corrected(found: Sequence[Compared]) -> tuple[Compared, ...]:
    """Return the comparisons with Holm's correction over all of them, and what they then amount to."""
    tested = [one for one in found if one.p_alone is not None]
    if not tested:
        return tuple(found)
    corrections = iter(multipletests([one.p_alone for one in tested], method="holm")[1].tolist())
    results = []
    for one in found:
        if one.p_alone is None:
            results.append(one)
            continue
        p, value = float(next(corrections)), one.difference.value or 0.0
        gain = -value if one.figure == "errors_at_flag" else value
        finding = _finding(gain, p)
        needed = one.items_that_would_tell if finding == "not distinguishable" else None
        results.append(
            Compared(one.dataset, one.figure, one.ours, one.theirs, one.difference, one.p_alone, p, finding, needed)
        )
    return tuple(results)


class _Ranked:
    """Rows in falling order of score. Places of equal score are one step: `true` and `false` are counts up to it."""

    def __init__(self, marked: Marked) -> None:
        self._order = np.argsort(-marked.scores, kind="stable")
        scores = marked.scores[self._order]
        self._ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        self._positive = marked.labels[self._order].astype(np.float64)
        self._bins = _bins(scores, _BINS)
        self._scores = scores
        self.thresholds = scores[self._ends]
        self.true = np.cumsum(self._positive)[self._ends]
        self.false = np.cumsum(1 - self._positive)[self._ends]

    def figures(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return average precision, EER, TPR at each fixed FPR, and ECE, with a weight for each row as it was given."""
        weight = weights[self._order]
        true = np.concatenate([[0.0], np.cumsum(weight * self._positive)[self._ends]])
        false = np.concatenate([[0.0], np.cumsum(weight * (1 - self._positive))[self._ends]])
        positives, negatives = true[-1], false[-1]
        if not (positives and negatives):
            return np.full(3 + len(_FALSE_POSITIVE_RATES), np.nan)
        seen = np.maximum(true + false, 1.0)
        precision = float(np.sum(np.diff(true) * (true / seen)[1:]) / positives)
        x, missed = false / negatives, 1 - true / positives
        eer = float(np.interp(0.0, x - missed, x))
        at = [
            true[np.searchsorted(false, rate * negatives, side="right") - 1] / positives
            for rate in _FALSE_POSITIVE_RATES.values()
        ]
        return np.array([precision, eer, *at, self._calibration_error(weight)])

    def _calibration_error(self, weight: NDArray[np.float64]) -> float:
        """Return the expected calibration error: Naeini et al., AAAI 2015, with bins of equal width."""
        scores = np.bincount(self._bins, weight * self._scores, _BINS)
        positives = np.bincount(self._bins, weight * self._positive, _BINS)
        return float(np.abs(scores - positives).sum() / weight.sum())


def _resampled(ranked: _Ranked, groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return the figures of datasets whose groups are drawn with replacement; draws without both classes are left."""
    generator = np.random.Generator(np.random.PCG64(seed))
    _, numbers = np.unique(groups, return_inverse=True)
    many = int(numbers.max()) + 1
    rounds = _RESAMPLES if len(groups) <= _MANY_ROWS else _FEWER_RESAMPLES
    drawn = []
    for _ in range(rounds):
        counts = np.bincount(generator.integers(0, many, many), minlength=many).astype(np.float64)
        figures = ranked.figures(counts[numbers])
        if not np.isnan(figures).any():
            drawn.append(figures)
    return np.array(drawn) if drawn else np.full((1, 3 + len(_FALSE_POSITIVE_RATES)), np.nan)


def _area(marked: Marked) -> tuple[float, NDArray[np.float64]]:
    """Return the area under the ROC curve and what each row adds to its error."""
    positive = marked.labels == 1
    high, low = marked.scores[positive], marked.scores[~positive]
    joint = rankdata(np.concatenate([high, low]))
    above = (joint[: len(high)] - rankdata(high)) / len(low)
    below = 1.0 - (joint[len(high) :] - rankdata(low)) / len(high)
    value = float(above.mean())
    influence = np.empty(len(marked.labels))
    influence[positive] = (above - value) / len(high)
    influence[~positive] = (below - value) / len(low)
    return value, influence


def _clustered(influence: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return the variance of a mean whose rows have these influences, where the groups are independent."""
    _, numbers = np.unique(groups, return_inverse=True)
    sums = np.bincount(numbers, influence)
    many = len(sums)
    return float(np.sum(sums**2) * many / (many - 1)) if many > 1 else 0.0


def _with_caveat(name: str, estimate: Estimate, marked: Marked) -> Estimate:
    caveat = _few(marked)
    if name in _FALSE_POSITIVE_RATES:
        expected = _FALSE_POSITIVE_RATES[name] * marked.negatives
        needed = round(1 / _FALSE_POSITIVE_RATES[name])
        if expected < 1:
            return Estimate(
                None, caveat=f"{marked.negatives:,} negative items cannot show this rate; it takes {needed:,}."
            )
        if expected < _SURE_FALSE_POSITIVES:
            caveat = f"It hangs on {math.floor(expected)} of {marked.negatives:,} negative items."
    if name == "ece":
        caveat = caveat or "Never below zero, so it is too high where items are few."
    return Estimate(estimate.value, _finite(estimate.low), _finite(estimate.high), LEVEL, estimate.method, caveat)


def _few(marked: Marked) -> str | None:
    groups = min(len(np.unique(marked.groups[marked.labels == label])) for label in (0, 1))
    if groups >= _FEW_GROUPS:
        return None
    return f"A class has {groups} independent group{'' if groups == 1 else 's'} only: the interval may be too narrow."


def _errors_compared(dataset: str, marked: Marked, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Compared:
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    both = int((ours & theirs).sum())
    table: list[list[Any]] = [[both, only_ours], [only_theirs, len(ours) - both - only_ours - only_theirs]]
    p = float(mcnemar(table, exact=True).pvalue)
    rates = float(ours.mean()), float(theirs.mean())
    difference = rates[0] - rates[1]
    spread = math.sqrt(max(_clustered((ours.astype(float) - theirs - difference) / len(ours), marked.groups), 0.0))
    z = float(norm.ppf((1 + LEVEL) / 2))
    grouped = len(np.unique(marked.groups)) < len(ours)
    if grouped:  # McNemar's test takes every row for independent
        p = 1.0 if not spread else float(2 * norm.sf(abs(difference) / spread))
    method = "Wald by groups" if grouped else "McNemar exact, Wald interval"
    estimate = Estimate(difference, difference - z * spread, difference + z * spread, LEVEL, method)
    needed = _needed(marked, estimate)
    return Compared(dataset, "errors_at_flag", *rates, estimate, p, p, _finding(-difference, p), needed)


def _incomparable(dataset: str, figure: str, why: str) -> Compared:
    return Compared(dataset, figure, None, None, Estimate(None, caveat=why), None, None, "not distinguishable")


def _finding(gain: float, p: float) -> Finding:
    if p >= 1 - LEVEL:
        return "not distinguishable"
    return "better" if gain > 0 else "worse"


def _needed(marked: Marked, difference: Estimate) -> int | None:
    """Return how many items would show a difference of this size in four of five tries, as likely as not a guess."""
    value, high = difference.value, difference.high
    if not value or high is None:
        return None
    spread = (high - value) / float(norm.ppf((1 + LEVEL) / 2))
    times = ((float(norm.ppf((1 + LEVEL) / 2)) + float(norm.ppf(_POWER))) * spread / value) ** 2
    return math.ceil(len(marked.labels) * times)


def _bins(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    return np.minimum((scores * count).astype(np.intp), count - 1)


def _thinned(along: NDArray[np.float64]) -> list[int]:
    """Return places of a growing column, evenly spaced in what it grows by, its ends among them."""
    wanted = np.linspace(along[0], along[-1], _POINTS)
    last = len(along) - 1
    places = np.minimum(np.searchsorted(along, wanted), last)
    return sorted({0, last, *(int(place) for place in places)})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
