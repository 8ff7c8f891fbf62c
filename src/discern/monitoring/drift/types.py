"""The nouns of drift.

- A subject is what is watched of a release: `score`, `decision`, `field:NAME`, `missing:NAME`, `image:NAME`,
  `embedding:NUMBER`, `labels`.
- What is kept has the names of these structs' fields in the database: a field that is added has a default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from discern.monitoring.types import Metric

Kind = Literal["number", "category"]
Source = Literal["bundle", "traffic"]
Span = Literal["hour", "day"]
Change = Literal["began", "ended", "silent"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The shares whose quantiles are told of a subject."""


class ReleaseKey(NamedTuple):
    """A release: what is watched by itself."""

    workspace: str
    detector: str
    version: str


class Edges(msgspec.Struct, frozen=True, array_like=True):
    """Where the values of a subject are counted.

    Of numbers edge i reaches from `lower[i]` to `upper[i]`, which are the same but for rounding; of categories `codes`,
    rising, are those that are counted by themselves.
    """

    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    codes: tuple[int, ...] = ()


class Moments(msgspec.Struct, frozen=True, array_like=True):
    """How many numbers there were, their mean, and the sum of squares of their distances to it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return (self.squares / (self.count - 1)) ** 0.5 if self.count > 1 else 0.0


class Sketch(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of the values of one subject, to be merged with others.

    `cells` were counted at the edges with the number `edges`; numbers without edges have none. `kll` is the sketch of
    numbers, empty for categories. `missing` counts values that were not there.
    """

    edges: int = 0
    cells: tuple[int, ...] = ()
    moments: Moments = Moments()
    kll: bytes = b""
    missing: int = 0


class Piece(msgspec.Struct, frozen=True):
    """What one process has seen of a release in some seconds: its verdicts, and a sketch for each subject."""

    verdicts: int
    at: datetime
    sketches: dict[str, Sketch]


class Reference(msgspec.Struct, frozen=True):
    """What a subject is compared with: `verdicts` of the bundle's own data, or of traffic from `since` to `until`.

    Of numbers no less than `least` lies up to each edge, and no more than `most` below it, as shares; of categories
    `cells` are the counts.
    """

    source: Source
    verdicts: int
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()
    cells: tuple[int, ...] = ()
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class Learning(msgspec.Struct, frozen=True):
    """A reference that is being learned: its edges first, then, in `windows` windows so far, what lies between them."""

    windows: int = 0
    cells: tuple[int, ...] = ()
    moments: Moments = Moments()
    quantiles: tuple[float, ...] = ()
    since: datetime | None = None


class Reading(msgspec.Struct, frozen=True):
    """What a window said of a subject.

    `distance` is the largest difference between two cumulative shares, of categories between two shares; `shift` that
    of the means, of categories of the share that moved most, in standard deviations of the reference, None where it has
    none. `shares` leaves out categories of fewer than five verdicts. `missing` is a share.
    """

    window: int
    verdicts: int
    distance: float
    p_value: float
    shift: float | None = None
    mean: float | None = None
    quantiles: tuple[float, ...] = ()
    shares: dict[str, float] = {}
    missing: float = 0.0


class Alarm(msgspec.Struct, frozen=True):
    """That a subject has moved: found `at`, in `window`; `since` is when it began, as far as windows can tell."""

    at: datetime
    since: datetime
    window: int


class Subject(msgspec.Struct, frozen=True):
    """A subject of a release, and how it stands.

    `edges_number` goes up whenever its edges change: what was counted at others is not counted here. `quiet` counts
    windows in a row, since the alarm began, that look like the reference.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    edges_number: int = 0
    edges: Edges = Edges()
    reference: Reference | None = None
    learning: Learning | None = None
    last: Reading | None = None
    alarm: Alarm | None = None
    quiet: int = 0


class Concept(msgspec.Struct, frozen=True):
    """What labels say: `labels` were looked at, of which the last `lately` differ from those before.

    `loss` is the mean of (score - label)^2, lately; `loss_before` before that, None where nothing differs.
    """

    labels: int
    lately: int
    loss: float
    loss_before: float | None = None
    since: datetime | None = None
    alarm: Alarm | None = None


class Release(msgspec.Struct, frozen=True):
    """A release that is watched. `windows` were closed; `began_at` is when the open one began."""

    windows: int
    began_at: datetime
    subjects: tuple[Subject, ...]
    verdicts: int = 0
    concept: Concept | None = None


class Window(msgspec.Struct, frozen=True):
    """Verdicts that are looked at together."""

    number: int
    began_at: datetime
    verdicts: int = 0
    ended_at: datetime | None = None
    sketches: dict[str, Sketch] = {}


class Period(msgspec.Struct, frozen=True):
    """What was seen of a release in the hour, or on the day, that began `at`."""

    span: Span
    at: datetime
    verdicts: int = 0
    sketches: dict[str, Sketch] = {}


class DriftChange(msgspec.Struct, frozen=True):
    """That a subject began or ended to differ from its reference; `silent` is an end for want of verdicts.

    `since` is when it began, as far as windows can tell, `at` when that was found.
    """

    detector: str
    version: str
    subject: str
    change: Change
    at: datetime
    since: datetime
    window: int
    verdicts: int = 0
    distance: float = 0.0
    p_value: float = 1.0
    shift: float | None = None


class Plan(NamedTuple):
    """How it is watched: see the settings that begin with `drift_`."""

    window_verdicts: int
    window_seconds: float
    windows_per_false_alarm: int
    least_distance: float
    baseline_windows: int


class SubjectReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a subject stands. Without a `reference` one is being learned: `learned_windows` are done.

    `last` is what the last window said, `alarm` is there while the subject differs from its reference, and `mend` then
    says what there is to do where nothing is wrong.
    """

    name: str
    kind: Kind
    reference: ReferenceReport | None = None
    learned_windows: int = 0
    last: Reading | None = None
    alarm: Alarm | None = None
    mend: str | None = None


class ReferenceReport(msgspec.Struct, frozen=True):
    """What a subject is compared with: the bundle's own data, or traffic from `since` to `until`."""

    source: Source
    verdicts: int
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class ReleaseReport(msgspec.Struct, frozen=True):
    """How a release stands: `windows` were compared, the open one has `open_verdicts` since `open_since`."""

    detector: str
    version: str
    windows: int
    open_verdicts: int
    open_since: datetime
    seen_at: datetime
    subjects: tuple[SubjectReport, ...]
    labels: Concept | None = None


class PeriodReport(msgspec.Struct, frozen=True):
    """A subject in an hour or on a day, in UTC."""

    span: Span
    at: datetime
    verdicts: int
    mean: float | None = None
    quantiles: tuple[float, ...] = ()
    missing: float = 0.0


class DriftReport(msgspec.Struct, frozen=True):
    """How the releases of a workspace stand.

    `quantiles` are the shares that lists of quantiles are of. `promise` says how often an alarm is false. `history` is
    of one subject, where one was asked for.
    """

    promise: str
    window_verdicts: int
    window_seconds: float
    windows_per_false_alarm: int
    quantiles: tuple[float, ...]
    releases: tuple[ReleaseReport, ...]
    changes: tuple[DriftChange, ...] = ()
    history: tuple[PeriodReport, ...] = ()


_OF_A_SUBJECT = ("workspace", "detector", "version", "subject")
METRICS = (
    Metric(
        "discern_drift_alarm",
        "gauge",
        "1 where a subject of a release differs from its reference, 0 where it does not.",
        _OF_A_SUBJECT,
        of="drift",
    ),
    Metric(
        "discern_drift_statistic",
        "gauge",
        "The largest difference between the cumulative shares of the last window and of the reference; of `labels` the "
        "mean squared error of the scores, lately.",
        _OF_A_SUBJECT,
        of="drift",
    ),
    Metric(
        "discern_drift_shift",
        "gauge",
        "How far the mean of the last window lies from the reference's, in its standard deviations; of categories how "
        "far the share that moved most does.",
        _OF_A_SUBJECT,
        of="drift",
    ),
    Metric(
        "discern_drift_windows_total",
        "counter",
        "Windows of verdicts that were compared with the reference.",
        ("workspace", "detector", "version"),
        of="drift",
    ),
)
"""The metrics of drift."""
