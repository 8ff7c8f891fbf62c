"""The nouns of quality."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from discern.monitoring.types import Metric

Measure = Literal[
    "precision",
    "true_positive_rate",
    "false_positive_rate",
    "positive_rate",
    "review_precision",
    "review_true_positive_rate",
    "review_false_positive_rate",
]
"""What is measured at the thresholds of the bundle. Those named `review_` count `review` as found, as `flag` is."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
Kind = Literal["estimated", "realised"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GapMeasure = Literal["precision", "true_positive_rate", "positive_rate"]
"""What a gap is looked for in: what was flagged, what was not, and all of it."""
GAP_MEASURES: tuple[GapMeasure, ...] = get_args(GapMeasure)

METRICS = (
    Metric(
        "discern_quality",
        "gauge",
        "Quality at the thresholds in the last window that has it: estimated from scores, or realised by labels.",
        ("workspace", "detector", "version", "measure", "kind"),
        of="quality",
    ),
    Metric(
        "discern_quality_low",
        "gauge",
        "Lower end of the 95 % interval of discern_quality.",
        ("workspace", "detector", "version", "measure", "kind"),
        of="quality",
    ),
    Metric(
        "discern_quality_high",
        "gauge",
        "Upper end of the 95 % interval of discern_quality.",
        ("workspace", "detector", "version", "measure", "kind"),
        of="quality",
    ),
    Metric(
        "discern_quality_gap_alarm",
        "gauge",
        "1 where labels contradict scores by more than quality_gap_odds, else 0.",
        ("workspace", "detector", "version", "measure"),
        of="quality",
    ),
    Metric(
        "discern_labels_total",
        "counter",
        "Labels that verdicts were given, by class; `unknown` where nobody could tell.",
        ("workspace", "detector", "label"),
        of="quality",
    ),
)

_Utc = Annotated[datetime, msgspec.Meta(tz=True)]


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A measure of one window with its 95 % interval; without a value `why` says what is missing."""

    measure: Measure
    kind: Kind
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str | None = None


class QualityWindow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quality of one version in one window.

    `verdicts` counts those that figures are of: judged anew, by a stage of the bundle. `labels` is how many of them
    have one, `labels_come` the share of its labels that have come as far as delays tell, None where they do not.
    `is_closed`: the window is over. `is_mature`: enough of its labels have come for quality by labels to be taken.
    """

    start: _Utc
    end: _Utc
    verdicts: int
    is_closed: bool
    figures: tuple[Figure, ...]
    labels: int = 0
    labels_come: float | None = None
    is_mature: bool = False
    left_out: int = 0


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether labels contradict scores in one measure, over all mature windows together.

    `evidence` is the largest e-value so far: how many times better the labels are explained by a gap than without one.
    `is_alarm` where it has reached `needed`, first at the window `since`. `more_positive` says which way the labels
    are off, over `labels` of them; `tolerated` is the factor on the odds that is no gap.
    """

    measure: GapMeasure
    labels: int
    evidence: float
    needed: float
    is_alarm: bool
    tolerated: float
    more_positive: bool | None = None
    since: _Utc | None = None


class ReleaseQuality(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quality of one version, its windows oldest first."""

    detector: str
    version: str
    windows: tuple[QualityWindow, ...]
    gaps: tuple[Gap, ...] = ()
    caveats: tuple[str, ...] = ()


class QualityReport(msgspec.Struct, frozen=True):
    """The quality of a workspace's detectors."""

    workspace: str
    window_days: int
    releases: tuple[ReleaseQuality, ...]


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a release stands: the figures of the last windows that have them, and its gaps.

    `began` is the start of the first window that there ever was of it.
    """

    began: _Utc
    figures: tuple[Figure, ...]
    gaps: tuple[Gap, ...]
    caveats: tuple[str, ...]


class Release(NamedTuple):
    """A version of a detector in a workspace."""

    workspace: str
    detector: str
    version: str


class Group(NamedTuple):
    """Verdicts with one decision: how many, the sum of their scores, and the sum of score * (1 - score)."""

    verdicts: int
    scores: float
    variances: float

    def plus(self, other: Group) -> Group:
        """Return both together."""
        return Group(self.verdicts + other.verdicts, self.scores + other.scores, self.variances + other.variances)


NOTHING = Group(0, 0.0, 0.0)


class CalibrationDoubt(NamedTuple):
    """How far a calibration may be off: the covariance of intercept and slope, on the scale of log odds."""

    intercept: float
    slope: float
    both: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a bundle tells of its scores. `doubt` is None where it does not say on how much it was calibrated."""

    stages: frozenset[str]
    doubt: CalibrationDoubt | None
    pools_videos: bool


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """How quality is measured; see the settings."""

    window_days: int = 1
    days: int = 90
    label_share: float = 0.9
    gap_odds: float = 1.25
    false_alarms: float = 0.01
