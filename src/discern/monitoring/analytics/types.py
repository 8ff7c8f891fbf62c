"""The nouns of analytics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from discern.monitoring.types import Metric

Step = Literal["hour", "day", "month"]
STEPS: tuple[Step, ...] = get_args(Step)
PeriodName = Literal["day", "week", "month"]
PERIODS: tuple[PeriodName, ...] = get_args(PeriodName)
_Utc = Annotated[datetime, msgspec.Meta(tz=True)]

METRICS = (
    Metric(
        "discern_cost_total",
        "counter",
        "What verdicts cost at the prices of the settings, ever, in the installation's currency.",
        ("workspace", "detector"),
        of="cost",
    ),
    Metric(
        "discern_budget_used_ratio",
        "gauge",
        "Share of a workspace's budget that this month has used; of money or verdicts, whichever is further.",
        ("workspace",),
        of="cost",
    ),
    Metric(
        "discern_budget_forecast_ratio",
        "gauge",
        "The same at the month's end, as far as the last weeks tell; absent before a whole day is known.",
        ("workspace",),
        of="cost",
    ),
)


class Release(NamedTuple):
    """A version of a detector in a workspace."""

    workspace: str
    detector: str
    version: str


class Numbers(NamedTuple):
    """What is added up of verdicts: how many, of each decision, and how long they took, in milliseconds."""

    verdicts: int = 0
    clear: int = 0
    review: int = 0
    flag: int = 0
    cached: int = 0
    degraded: int = 0
    milliseconds: float = 0.0

    def plus(self, other: Numbers) -> Numbers:
        """Return the sum."""
        *counts, milliseconds = (one + another for one, another in zip(self, other, strict=True))
        return Numbers._make((*map(int, counts), milliseconds))

    def minus(self, other: Numbers) -> Numbers:
        """Return the difference, which may be negative."""
        *counts, milliseconds = (one - another for one, another in zip(self, other, strict=True))
        return Numbers._make((*map(int, counts), milliseconds))


NOTHING = Numbers()


@dataclass(frozen=True, slots=True)
class HourRow:
    """A release in one hour, which began `hour`, UTC.

    `cost` is what its verdicts cost at the prices when they were counted. `callers` are hashes of who asked and
    `latencies` a histogram of milliseconds, both as rules_sketches stores them: there may be many hours. `measured` is
    how many verdicts of the ledger these two are of. `drift_alarms` counts the subjects of the release that were in
    alarm in the hour.
    """

    hour: datetime
    release: Release
    numbers: Numbers
    cost: float
    callers: bytes = b""
    latencies: bytes = b""
    measured: int = 0
    drift_alarms: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid, in `currency`: for an hour that verdicts take, and for a verdict by its detector, `*` for others.

    An hour of verdicts is the sum of what they took, not the time of a machine.
    """

    currency: str
    an_hour: float = 0.0
    a_verdict: tuple[tuple[str, float], ...] = ()


class AnalyticsRow(msgspec.Struct, frozen=True):
    """Verdicts of a release, or of more where `detector` or `version` is empty, in an hour, a day or a month.

    `callers` are the different keys and users that asked, as far as the hours of `until` are rolled up; quantiles are
    of milliseconds, and None where nothing was measured. `cost` is in the currency of the answer.
    """

    start: _Utc
    detector: str
    version: str
    verdicts: int
    clear: int
    review: int
    flag: int
    cached: int
    degraded: int
    milliseconds: float
    p50: float | None
    p95: float | None
    p99: float | None
    callers: int
    drift_alarms: int
    cost: float


class AnalyticsTable(msgspec.Struct, frozen=True):
    """What was asked for in a workspace, oldest first. Costs are in `currency`."""

    workspace: str
    step: Step
    since: _Utc
    until: _Utc
    currency: str
    rows: tuple[AnalyticsRow, ...]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a workspace means to use in a calendar month (UTC): money, verdicts, or both; None for no bound."""

    amount: float | None = None
    verdicts: int | None = None


class Forecast(msgspec.Struct, frozen=True):
    """What a month will have come to at its end, with a 90 % interval, from `days` whole days before.

    `low` and `high` are None where the days are too few to tell how much they differ.
    """

    value: float
    low: float | None
    high: float | None
    days: int


class Spending(msgspec.Struct, frozen=True):
    """How one of the two bounds of a budget stands: used in this month until now, and at its end."""

    of: Literal["amount", "verdicts"]
    budget: float | None
    used: float
    forecast: Forecast | None
    used_ratio: float | None = None
    forecast_ratio: float | None = None


class BudgetStanding(msgspec.Struct, frozen=True):
    """How a workspace stands with its budget in a month. Amounts are in `currency`."""

    workspace: str
    month: str
    currency: str
    budget: Budget
    amount: Spending
    verdicts: Spending


class Change(msgspec.Struct, frozen=True):
    """A number of the period, and of the one before; `ratio` is None where that was 0."""

    value: float
    before: float
    ratio: float | None


class DayRow(msgspec.Struct, frozen=True):
    """One day of a report; `day` is in the report's time zone."""

    day: date
    verdicts: int
    clear: int
    review: int
    flag: int
    cost: float
    p50: float | None
    p95: float | None


class DetectorRow(msgspec.Struct, frozen=True):
    """One version of a detector over the period of a report."""

    detector: str
    version: str
    verdicts: Change
    review: int
    flag: int
    degraded: int
    p50: float | None
    p95: float | None
    p99: float | None
    callers: int
    cost: float


class DriftLine(msgspec.Struct, frozen=True):
    """That a subject of a release began or ended to differ in the period; `since` is when it began, in UTC."""

    detector: str
    version: str
    subject: str
    change: str
    at: _Utc
    since: _Utc
    shift: float | None


class QualityLine(msgspec.Struct, frozen=True):
    """A measure of a release in the last window of the period that has it, with its 95 % interval."""

    detector: str
    version: str
    measure: str
    kind: str
    value: float
    low: float | None
    high: float | None
    window: _Utc
    labels: int


class AlertLine(msgspec.Struct, frozen=True):
    """An alert that fired in the period; `detector` is empty where it is about no single one."""

    detector: str
    severity: str
    rule: str
    summary: str
    fired_at: _Utc
    resolved_at: _Utc | None


class HappeningLine(msgspec.Struct, frozen=True):
    """What the installation noticed or did by itself in the period: how often, and when last."""

    kind: str
    about: str
    times: int
    last_at: _Utc


class LabelCount(msgspec.Struct, frozen=True):
    """Labels that were given in the period."""

    detector: str
    label: str
    labels: int


class ActivityReport(msgspec.Struct, frozen=True):
    """A period of a workspace. `absent` names parts that could not be read, and why."""

    workspace: str
    detector: str | None
    period: PeriodName
    since: _Utc
    until: _Utc
    time_zone: str
    made_at: _Utc
    currency: str
    verdicts: Change
    flag: Change
    review: Change
    cost: Change
    callers: int
    p50: float | None
    p95: float | None
    p99: float | None
    days: tuple[DayRow, ...]
    detectors: tuple[DetectorRow, ...]
    budget: BudgetStanding
    drift: tuple[DriftLine, ...] = ()
    quality: tuple[QualityLine, ...] = ()
    alerts: tuple[AlertLine, ...] = ()
    happenings: tuple[HappeningLine, ...] = ()
    labels: tuple[LabelCount, ...] = ()
    absent: tuple[str, ...] = ()


class View(NamedTuple):
    """A view of the database for those who bring their own tools; `columns` are their names and what they hold."""

    name: str
    help: str
    columns: tuple[tuple[str, str], ...]


_OF_A_RELEASE = (
    ("workspace", "Whose."),
    ("detector", "Name of the detector."),
    ("version", "Version of it that answered."),
)
_COUNTS = (
    ("verdicts", "Verdicts, those that were deleted since among them."),
    ("clear", "Of these, decided `clear`."),
    ("review", "Of these, decided `review`."),
    ("flag", "Of these, decided `flag`."),
)
VIEWS = (
    View(
        "discern_verdicts_hourly",
        "A row an hour and release that had verdicts.",
        (
            ("hour", "When the hour began, UTC."),
            *_OF_A_RELEASE,
            *_COUNTS,
            ("cached", "Of these, answers that were known."),
            ("degraded", "Of these, with a later stage that failed."),
            ("milliseconds", "Sum of the time they took."),
            ("p50_milliseconds", "Half of them took no longer; empty where nothing was measured."),
            ("p95_milliseconds", "95 % of them took no longer."),
            ("p99_milliseconds", "99 % of them took no longer."),
            ("callers", "Different keys and users that asked."),
            ("drift_alarms", "Subjects of the release that were in alarm for drift."),
            ("cost", "What they cost."),
            ("currency", "Currency of the cost."),
        ),
    ),
    View(
        "discern_decisions_daily",
        "A row a day (UTC), detector and decision, for charts that stack decisions.",
        (
            ("day", "The day, UTC."),
            ("workspace", "Whose."),
            ("detector", "Name of the detector."),
            ("decision", "`clear`, `review` or `flag`."),
            ("verdicts", "Verdicts with that decision."),
        ),
    ),
    View(
        "discern_cost_daily",
        "A row a day (UTC), detector and currency.",
        (
            ("day", "The day, UTC."),
            ("workspace", "Whose."),
            ("detector", "Name of the detector."),
            ("currency", "Currency of the cost."),
            ("verdicts", "Verdicts."),
            ("cost", "What they cost."),
        ),
    ),
    View(
        "discern_quality",
        "A row a window, release and measure, as `discern quality` shows them.",
        (
            *_OF_A_RELEASE,
            ("window_start", "When the window began, UTC."),
            ("measure", "Such as `precision`: see the reference of quality."),
            ("kind", "`estimated` from scores, or `realised` by labels."),
            ("value", "The measure; empty where there was too little."),
            ("low", "Lower end of its 95 % interval."),
            ("high", "Upper end."),
        ),
    ),
    View(
        "discern_budgets",
        "A row a workspace that has a budget.",
        (
            ("workspace", "Whose."),
            ("amount", "Money a month, in the installation's currency; empty for no bound."),
            ("verdicts", "Verdicts a month; empty for no bound."),
        ),
    ),
)
"""The views that are documented and kept as they are; none has a person in it."""
