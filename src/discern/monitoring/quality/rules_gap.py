"""Whether labels contradict scores, looked at as often as one likes. Pure.

- A release whose scores are right, up to a factor on the odds, is said to have a gap with at most the chance that was
  asked for, over all its life and all looks together.
- Which verdicts are labelled may depend on their scores and decisions, not on what is true of them beyond these.

The evidence is an e-process: the likelihood of the labels if the log odds of being positive were shifted by one of a
few amounts, over their likelihood at the nearest shift that counts as none, averaged over the amounts and over whether
all decisions or one of them is off. While there is
no gap it is expected to stay at 1, so it ever reaches 1 / chance with at most that chance (Ville 1939; Ramdas,
Grunwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38, 2023).
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

    Floats = NDArray[np.float64]

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
    """A labelled verdict, and the start of the window it is in."""

    window: datetime
    decision: Decision
    score: float
    positive: bool


def gaps(
    items: Sequence[Item], *, odds: float, doubts: Mapping[GapMeasure, float], false_alarms: float
) -> tuple[Gap, ...]:
    """Return what labels say against scores in each measure; `items` in the order in which they count.

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
    up, down = evidence(scores, positive, tolerated, parts.reshape(len(items), len(LOOKED_AT[measure])))
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


def evidence(scores: Floats, positive: NDArray[np.bool_], tolerated: float, parts: Floats) -> tuple[Floats, Floats]:
    """Return the log of the evidence after each label that there are more positives, and that there are fewer.

    `parts` float64 [n, parts] has 1 where a label is of a part, else 0: a gap in one of them alone shows too.
    """
    everything = np.ones((len(scores), 1))
    looks = everything if parts.shape[1] < 2 else np.concatenate([everything, parts], axis=1)
    more = _towards(scores, positive, tolerated, looks)
    fewer = _towards(1 - scores, ~positive, tolerated, looks)
    return more, fewer


def _towards(scores: Floats, positive: NDArray[np.bool_], tolerated: float, looks: Floats) -> Floats:
    # The least score only makes positives less of a surprise, and so the evidence weaker.
    log_odds = _log_odds(np.clip(scores, _LEAST, 1.0)) + tolerated
    shifted = log_odds[:, None] + np.array(SHIFTS)
    gain = np.where(positive[:, None], np.array(SHIFTS), 0.0)
    # log(1 + e^x) of both: what the likelihoods of either label share.
    ratios = gain - np.logaddexp(0.0, shifted) + np.logaddexp(0.0, log_odds)[:, None]
    courses = [np.cumsum(ratios * look[:, None], axis=0) for look in looks.T]
    mean: Floats = np.logaddexp.reduce(np.concatenate(courses, axis=1), axis=1) - math.log(len(SHIFTS) * len(courses))
    return mean


def _log_odds(scores: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        # As sure as a score can be, which one label more or less does not contradict for ever.
        found: Floats = np.minimum(np.log(scores) - np.log1p(-scores), 700.0)
    return found
