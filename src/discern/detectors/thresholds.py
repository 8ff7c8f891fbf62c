"""From a calibrated score to a decision.

- A score below `review_from` is clear, from `flag_from` on flag, between them review.
- A higher score never gets a milder decision, at the same amount.
- What is not a score (NaN, below 0, above 1) gets no decision.
- With bands the thresholds follow from one field of the record alone, so that every row has its own whatever is with it
  in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.inputs.spec import RecordSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.core.verdict import Decision, Thresholds
    from discern.detectors.manifest import Manifest


def decide(score: float, thresholds: Thresholds) -> Decision:
    """Return the decision for a calibrated score in [0, 1]. Raises ValueError for anything else, NaN included."""
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"{score} is not a score in [0, 1]")
    if score >= thresholds.flag_from:
        return "flag"
    return "clear" if score < thresholds.review_from else "review"


@dataclass(frozen=True, slots=True)
class Applied:
    """The thresholds of n rows: row i has those at `band[i]`, int64 [n], of `thresholds`."""

    thresholds: tuple[Thresholds, ...]
    band: NDArray[np.int64]

    def of(self, row: int) -> Thresholds:
        """Return the thresholds of one row."""
        return self.thresholds[int(self.band[row])]

    @property
    def review_from(self) -> NDArray[np.float64]:
        """Where review begins for each row, [n]."""
        return np.array([one.review_from for one in self.thresholds])[self.band]

    @property
    def flag_from(self) -> NDArray[np.float64]:
        """Where flag begins for each row, [n]."""
        return np.array([one.flag_from for one in self.thresholds])[self.band]


class ThresholdBands:
    """Which thresholds apply to which record: those of the last band that begins at its value or below it.

    Below the first band the thresholds are the rule's own. Values are compared as the float32 that the model is given,
    so that a value at which a band begins is in it.
    """

    def __init__(self, position: int, starts: tuple[float, ...], thresholds: tuple[Thresholds, ...]) -> None:
        self._position = position
        self._starts = np.array(starts, np.float32)
        self.thresholds = thresholds

    def applied(self, rows: NDArray[Any]) -> Applied:
        """Return the thresholds of rows, float32 [n, fields]."""
        band = np.searchsorted(self._starts, rows[:, self._position].astype(np.float32), side="right")
        return Applied(self.thresholds, band.astype(np.int64))


def bands_of(manifest: Manifest) -> ThresholdBands | None:
    """Return the bands of a manifest, None where the same thresholds apply to every input."""
    rule, spec = manifest.decision, manifest.input
    if rule.bands is None or not isinstance(spec, RecordSpec):
        return None
    position = [field.name for field in spec.fields].index(rule.bands.field)
    steps = rule.bands.steps
    return ThresholdBands(
        position, tuple(step.from_ for step in steps), (rule.thresholds, *(step.thresholds for step in steps))
    )
