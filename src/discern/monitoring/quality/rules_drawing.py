"""Measures of a window from how many of each decision are positive, in many draws at once. Pure.

- Draws come from a fixed seed, so that the same counts always give the same interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from discern.core.verdict import Decision
from discern.monitoring.quality.types import MEASURES, Figure, Kind, Measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.95
DRAWS = 4000
SEED = 7
DECISIONS: tuple[Decision, ...] = ("clear", "review", "flag")
NEEDS: dict[Measure, tuple[Decision, ...]] = {
    "precision": ("flag",),
    "true_positive_rate": DECISIONS,
    "false_positive_rate": DECISIONS,
    "positive_rate": DECISIONS,
    "review_precision": ("review", "flag"),
    "review_true_positive_rate": DECISIONS,
    "review_false_positive_rate": DECISIONS,
}
"""The decisions whose verdicts a measure counts."""


def measures_of(verdicts: Mapping[Decision, int], positives: Mapping[Decision, Floats]) -> dict[Measure, Floats]:
    """Return each measure in each draw, NaN where there is nothing to divide by.

    `verdicts` counts those of each decision, `positives` has how many of these are positive, float64 [draws].
    """
    negatives = {one: verdicts[one] - positives[one] for one in DECISIONS}
    all_positive, all_negative = (side["clear"] + side["review"] + side["flag"] for side in (positives, negatives))
    found: dict[Measure, Floats] = {
        "precision": _share(positives["flag"], verdicts["flag"]),
        "true_positive_rate": _share(positives["flag"], all_positive),
        "false_positive_rate": _share(negatives["flag"], all_negative),
        "positive_rate": _share(all_positive, sum(verdicts[one] for one in DECISIONS)),
    }
    caught, false = (side["flag"] + side["review"] for side in (positives, negatives))
    found["review_precision"] = _share(caught, verdicts["flag"] + verdicts["review"])
    found["review_true_positive_rate"] = _share(caught, all_positive)
    found["review_false_positive_rate"] = _share(false, all_negative)
    return found


def figure(measure: Measure, kind: Kind, value: float, draws: Floats) -> Figure:
    """Return a measure with the interval that its draws span; without a value where one draw in twenty has none."""
    there = draws[~np.isnan(draws)]
    if np.isnan(value) or len(there) < LEVEL * len(draws):
        return Figure(measure, kind, why="too few verdicts that it could be a share of")
    outside = (1 - LEVEL) / 2
    # Of values that occur, so that the interval holds what it says where there are few.
    low, high = np.quantile(there, (outside, 1 - outside), method="inverted_cdf")
    return Figure(measure, kind, value, min(float(low), value), max(float(high), value))


def figures_of(
    kind: Kind, verdicts: Mapping[Decision, int], middle: Mapping[Decision, float], drawn: Mapping[Decision, Floats]
) -> tuple[Figure, ...]:
    """Return every measure: `middle` has the positives of each decision, `drawn` the same in draws."""
    values = measures_of(verdicts, {one: np.array([middle[one]]) for one in DECISIONS})
    draws = measures_of(verdicts, drawn)
    return tuple(figure(one, kind, float(values[one][0]), draws[one]) for one in MEASURES)


def _share(above: Floats, below: Floats | float) -> Floats:
    divisor = np.broadcast_to(np.asarray(below, np.float64), above.shape)
    found: Floats = np.divide(above, divisor, out=np.full(above.shape, np.nan), where=divisor > 0)
    return found
