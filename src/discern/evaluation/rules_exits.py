"""What a cascade decides with its exits on, told from the scores of all its stages.

- The same as a run with exits on gives: a row's score at a stage does not depend on the other rows.
- A stage that fails on a row that would have left before it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from discern.detectors.scoring import DECISIONS, NOT_DEGRADED, decisions_at, thresholds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What n rows come to with exits on: see `discern.detectors.scoring.Scores`.

    `alone` is what the last stage by itself would decide, at the same thresholds.
    """

    score: NDArray[np.float64]
    decided_by: NDArray[np.int16]
    decision: NDArray[np.int8]
    alone: NDArray[np.int8]
    degraded: NDArray[np.int16]


def with_exits(
    stage_scores: NDArray[np.float64], manifest: Manifest, records: NDArray[np.float32] | None = None
) -> Outcome:
    """Return what rows whose stages gave `stage_scores` [n, s] come to; NaN is where a stage failed.

    `records` [n, fields] are needed where the thresholds depend on the record.
    Raises InternalError where they are needed and missing.
    """
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
    rule = thresholds_of(manifest, records)
    decision = decisions_at(score, rule)
    decision[degraded != NOT_DEGRADED] = DECISIONS.index("review")
    return Outcome(score, decided_by, decision, decisions_at(stage_scores[:, -1], rule), degraded)


def deciding_stage(decided_by: str, manifest: Manifest) -> str:
    """Return the stage that `decided_by` of an assessment names, or whose scores the measure that it names is of."""
    names = [stage.name for stage in manifest.stages]
    if decided_by in names or manifest.stream is None:
        return decided_by
    event = decided_by.partition(".")[0]
    of = next((one.of for one in manifest.stream.events if one.name == event), manifest.stream.of)
    return names[-1] if of is None else of
