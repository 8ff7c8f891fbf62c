"""What a cascade decides with its exits on, told from the scores of all its stages.

- The same as a run with exits on gives: a row's score at a stage does not depend on the other rows.
- A stage that fails on a row that would have left before it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from discern.detectors.scoring import DECISIONS, NOT_DEGRADED, UNDECIDED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What n rows come to with exits on: see `discern.detectors.scoring.Scores`."""

    score: NDArray[np.float64]
    decided_by: NDArray[np.int16]
    decision: NDArray[np.int8]
    degraded: NDArray[np.int16]


def with_exits(stage_scores: NDArray[np.float64], manifest: Manifest) -> Outcome:
    """Return what rows whose stages gave `stage_scores` [n, s] come to; NaN is where a stage failed."""
    count = len(stage_scores)
    score = stage_scores[:, 0].copy()
    decided_by = np.zeros(count, np.int16)
    degraded = np.full(count, NOT_DEGRADED, np.int16)
    travelling = ~np.isnan(score)
    for position, stage in enumerate(manifest.stages):
        column = stage_scores[:, position]
        if position:
            failed = travelling & np.isnan(column)
            degraded[failed] = position
            travelling = travelling & ~failed
            score[travelling] = column[travelling]
            decided_by[travelling] = position
        if stage.exits is not None:
            travelling = travelling & (column >= stage.exits.clear_below) & (column < stage.exits.flag_above)
    rule = manifest.decision
    decision = np.add(score >= rule.review_from, score >= rule.flag_from, dtype=np.int8)
    decision[degraded != NOT_DEGRADED] = DECISIONS.index("review")
    decision[np.isnan(score)] = UNDECIDED
    return Outcome(score, decided_by, decision, degraded)
