"""Whether labels contradict scores, looked at as often as one likes. Pure.

- A release whose scores are right, up to a factor on the odds, is said to have a gap with at most the chance that was
  asked for, over all its life and all looks together.
- A gap that begins after years of none is found about as soon as one that was there from the start.
- Which verdicts are labelled may depend on their scores and decisions, not on what is true of them beyond these.

The evidence is an e-process: the likelihood of the labels if the log odds of being positive were shifted by one of a
few amounts, over their likelihood at the nearest shift that counts as none, averaged over the amounts, over whether all
decisions or one of them is off, and over the windows at which it may have begun. While there is no gap it is expected
to stay at 1, so it ever reaches 1 / chance with at most that chance (Ville 1939; Ramdas, Grunwald, Vovk, Shafer,
"Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38, 2023; for the windows: Shin,
Ramdas, Rinaldo, "E-detectors", New England Journal of Statistics in Data Science 2, 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from discern.core.verdict import Decision
from discern.monitoring.quality.types import GAP_MEASURES, Gap, GapMeasure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

SHIFTS = (0.25, 0.5, 1.0, 2.0)
"""By how much the log odds are shifted beyond what is tolerated, upward and downward."""

LOOKED_AT: dict[GapMeasure, tuple[Decision, ...]] = {
    "precision": ("flag",),
    "true_positive_rate": ("clear", "review"),
    "positive_rate": ("clear", "review", "flag"),
}
"""The decisions whose verdicts tell of a gap in a measure."""

# A score of 0 or 1 would be contradicted for ever by one label.
_LEAST = 1e-4
_MOST_EVIDENCE = 1e12


class Item(NamedTuple):
    """A labelled verdict, and the window it is in: its start, and how manieth it is of the release's life, from 1."""

    window: datetime
    number: int
    decision: Decision
    score: float
    positive: bool


def gaps(
    items: Sequence[Item], *, odds: float, doubts: Mapping[GapMeasure, float], false_alarms: float
) -> tuple[Gap, ...]:
    """Return what labels say against scores in each measure; `items` in the order in which they count, by windows.

    `odds` is the factor on the odds that is no gap, and `doubts` has the standard deviations of the log odds by which
    the bundle's calibration may be off anyway. The chance `false_alarms` is that of all measures together.
    """
    needed = len(GAP_MEASURES) / false_alarms
    return tuple(
        _gap(
            measure,
            [item for item in items if item.decision in LOOKED_AT[measure]],
            math.log(odds) + 2 * doubts.get(measure, 0.0),
            needed,
        )
        for measure in GAP_MEASURES
    )


def _gap(measure: GapMeasure, items: Sequence[Item], tolerated: float, needed: float) -> Gap:
    scores = np.array([one.score for one in items], np.float64)
    positive = np.array([one.positive for one in items], np.bool_)
    parts = np.array([[item.decision == one for one in LOOKED_AT[measure]] for item in items], np.float64)
    numbers = np.array([item.number for item in items], np.int64)
    parts = parts.reshape(len(items), len(LOOKED_AT[measure]))
    up, down = evidence(scores, positive, tolerated, parts, numbers)
    course = np.exp(np.minimum(np.logaddexp(up, down) - math.log(2), math.log(_MOST_EVIDENCE)))
    reached = np.flatnonzero(course >= needed)
    return Gap(
        measure=measure,
        labels=len(items),
        evidence=float(course.max(initial=1.0)),
        needed=needed,
        is_alarm=len(reached) > 0,
        tolerated=math.exp(tolerated),
        more_positive=bool(up[reached[0]] > down[reached[0]]) if len(reached) else None,
        since=items[int(reached[0])].window if len(reached) else None,
    )


def evidence(
    scores: Floats, positive: Flags, tolerated: float, parts: Floats, numbers: Integers
) -> tuple[Floats, Floats]:
    """Return the log of the evidence after each label that there are more positives, and that there are fewer.

    `parts` float64 [n, parts] has 1 where a label is of a part, else 0: a gap in one of them alone shows too. `numbers`
    int64 [n], which never fall, are those of the windows that labels are in.
    """
    everything = np.ones((len(scores), 1))
    looks = everything if parts.shape[1] < 2 else np.concatenate([everything, parts], axis=1)
    more = _towards(scores, positive, tolerated, looks, numbers)
    fewer = _towards(1 - scores, ~positive, tolerated, looks, numbers)
    return more, fewer


def _towards(scores: Floats, positive: Flags, tolerated: float, looks: Floats, numbers: Integers) -> Floats:
    if not len(scores):
        return np.zeros(0)
    # The least score only makes positives less of a surprise, and so the evidence weaker.
    log_odds = _log_odds(np.clip(scores, _LEAST, 1.0)) + tolerated
    shifted = log_odds[:, None] + np.array(SHIFTS)
    gain = np.where(positive[:, None], np.array(SHIFTS), 0.0)
    # log(1 + e^x) of both: what the likelihoods of either label share.
    ratios = gain - np.logaddexp(0.0, shifted) + np.logaddexp(0.0, log_odds)[:, None]
    ways = np.concatenate([ratios * look[:, None] for look in looks.T], axis=1)
    begun = _begun_at_any_window(np.cumsum(ways, axis=0), ways, numbers)
    mean: Floats = np.logaddexp.reduce(begun, axis=1) - math.log(ways.shape[1])
    return mean


def _begun_at_any_window(course: Floats, ways: Floats, numbers: Integers) -> Floats:
    """Return the log of the evidence averaged over the windows at which it may begin, float64 [n, ways].

    The window `number` has the weight 1 / (number (number + 1)): all there ever may be have 1 together, whenever one
    looks and however far back. What begins later counts 1 until it does.
    """
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    there = numbers[first].astype(np.float64)
    before = course[first] - ways[first]
    started = np.logaddexp.accumulate(-before - np.log(there * (there + 1))[:, None], axis=0)
    window = np.searchsorted(first, np.arange(len(numbers)), side="right") - 1
    later = -np.log(numbers + 1.0)[:, None]
    found: Floats = np.logaddexp(course + started[window], later)
    return found


def _log_odds(scores: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        # As sure as a score can be, which one label more or less does not contradict for ever.
        found: Floats = np.minimum(np.log(scores) - np.log1p(-scores), 700.0)
    return found
