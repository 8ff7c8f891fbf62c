"""Scores of many rows as arrays: what a cascade gives before anything is put into objects.

- Decisions follow from score and thresholds as `thresholds.decide` has it, row by row, with the thresholds of the row's
  own band where there are bands; a degraded row is always `review`, and a row without a score has no decision.
- A row has a stage score for every stage up to the one that decided it, and for no other.
- The sums agree: the rows of a stage are the rows that the stage before left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.errors import InternalError
from discern.detectors.thresholds import bands_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.core.verdict import Decision, Thresholds
    from discern.detectors.manifest import Manifest
    from discern.detectors.thresholds import Applied

DECISIONS: tuple[Decision, ...] = ("clear", "review", "flag")
"""What the codes of `Scores.decision` stand for."""

UNDECIDED = -1
NOT_DEGRADED = -1
_REVIEW = 1


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector makes of n rows in s stages.

    `score` float64 [n] is calibrated, NaN where the first stage failed. `decided_by` int16 [n] is the position of the
    last stage that answered, 0 where none did. `degraded` int16 [n] is the position of the later stage that failed, -1
    where none did. `stage_scores` float64 [n, s] is NaN where a stage failed or was not reached. `faults` says per row,
    one line, why a stage failed on it. `stage_rows` and `stage_milliseconds` hold, per stage, how many rows reached it
    and how long it took for all of them. `applied` says which thresholds each row has where they depend on the row.
    """

    score: NDArray[np.float64]
    decided_by: NDArray[np.int16]
    degraded: NDArray[np.int16]
    stage_scores: NDArray[np.float64]
    faults: dict[int, str]
    stage_rows: tuple[int, ...]
    stage_milliseconds: tuple[float, ...]
    thresholds: Thresholds
    applied: Applied | None = None

    @property
    def decision(self) -> NDArray[np.int8]:
        """The decisions int8 [n], as positions in DECISIONS; -1 where there is no score. Made on every access."""
        rule = self.applied or self.thresholds
        codes = np.add(self.score >= rule.review_from, self.score >= rule.flag_from, dtype=np.int8)
        if self.faults:
            codes[self.degraded != NOT_DEGRADED] = _REVIEW
            codes[np.isnan(self.score)] = UNDECIDED
        return codes

    def shares(self) -> tuple[float, ...]:
        """Return per stage the milliseconds that each row which reached it took, rounded to a microsecond."""
        return tuple(
            round(milliseconds / rows, 3) if rows else 0.0
            for rows, milliseconds in zip(self.stage_rows, self.stage_milliseconds, strict=True)
        )


def thresholds_of(manifest: Manifest, records: NDArray[Any] | None) -> Thresholds | Applied:
    """Return the thresholds that apply to records [n, fields], or to inputs where they do not depend on them.

    Raises InternalError where records are needed and missing.
    """
    bands = bands_of(manifest)
    if bands is None:
        return manifest.decision.thresholds
    if records is None:
        raise InternalError(f"{manifest.name} decides by {len(bands.thresholds)} bands, and no records came.")
    return bands.applied(records)


def decisions_at(scores: NDArray[np.float64], rule: Thresholds | Applied) -> NDArray[np.int8]:
    """Return the decisions of scores [n] as positions in DECISIONS, -1 without a score."""
    codes = np.add(scores >= rule.review_from, scores >= rule.flag_from, dtype=np.int8)
    return np.where(np.isnan(scores), UNDECIDED, codes).astype(np.int8)
