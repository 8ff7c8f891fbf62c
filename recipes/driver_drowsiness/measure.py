"""Figures with their 95 % intervals.

- An interval of what is measured several times on one picture, or on several pictures of one person, comes from
  drawing pictures or persons, never single measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest, rankdata

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share(successes: int, count: int) -> Estimate:
    """A share with Wilson's interval (1927)."""
    interval = binomtest(successes, count).proportion_ci(method="wilson")
    return Estimate(successes / count, float(interval.low), float(interval.high))


def area(score: Floats, positive: Flags) -> float:
    """Area under the ROC curve by mid-ranks."""
    ranks = rankdata(score)
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


def clustered(
    figure: Callable[[NDArray[np.intp]], float], clusters: Sequence[str] | NDArray[np.int64], *, seed: int
) -> Estimate:
    """A figure of rows, given by their positions, with the percentile interval of drawing whole clusters."""
    names, member_of = np.unique(np.asarray(clusters), return_inverse=True)
    members = [np.flatnonzero(member_of == cluster) for cluster in range(len(names))]
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(DRAWS):
        rows = np.concatenate([members[cluster] for cluster in generator.integers(len(names), size=len(names))])
        draws.append(figure(rows))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Estimate(figure(np.arange(len(member_of))), float(low), float(high))


def area_clustered(score: Floats, positive: Flags, clusters: Sequence[str], *, seed: int) -> Estimate:
    """Area under the ROC curve with an interval over clusters; a draw of one class alone is left out."""

    def figure(rows: NDArray[np.intp]) -> float:
        chosen = positive[rows]
        return area(score[rows], chosen) if 0 < chosen.sum() < len(rows) else float("nan")

    return clustered(figure, clusters, seed=seed)
