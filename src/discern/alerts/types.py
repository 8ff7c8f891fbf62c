"""The nouns of alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, NamedTuple, get_args
from uuid import UUID

import msgspec

from discern.monitoring.types import Metric

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Kind = Literal["metric", "drift", "quality", "health", "backup", "certificate", "budget", "security"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Function = Literal["value", "rate", "increase", "ratio", "quantile", "stopped", "absent"]
Combine = Literal["sum", "max", "min"]
Operator = Literal["=", "!=", "=~", "!~"]
AlertState = Literal["pending", "firing", "resolved"]
ALERT_STATES: tuple[AlertState, ...] = get_args(AlertState)
Reason = Literal["fired", "repeated", "escalated", "resolved", "test"]
DeliveryState = Literal["waiting", "delivered", "dead", "superseded"]
Outcome = Literal["delivered", "failed", "refused", "gave_up"]
_Utc = Annotated[datetime, msgspec.Meta(tz=True)]
Labels = tuple[tuple[str, str], ...]
"""Names and values of labels, in the order in which the rule names them."""

METRICS: tuple[Metric, ...] = (
    Metric("discern_alerts", "gauge", "Alerts that are pending or firing.", ("severity", "state"), of="alerts"),
    Metric(
        "discern_notifications_total",
        "counter",
        "Attempts to send a notice; the outcome `gave_up` counts notices that did not arrive by the channel.",
        ("channel", "outcome"),
        of="alerts",
    ),
    Metric("discern_notifications_waiting", "gauge", "Notices that wait to be sent.", ("channel",), of="alerts"),
)


class Matcher(msgspec.Struct, frozen=True):
    """A condition on one label. A label that is not there counts as empty."""

    label: str
    operator: Operator
    value: str

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.label}{self.operator}"{value}"'


class Selector(NamedTuple):
    """The series of one metric that a rule looks at."""

    metric: str
    matchers: tuple[Matcher, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When something is wrong. Times are in seconds.

    `function` of the series of `metric` over `window` is held against `above` or `below`, for each set of the labels
    `by`. Once it has held for `lasting` the alert fires; it ends when the value is back at `clear`, which is `above` or
    `below` where it is None, and has been so for `keep_firing`.

    `value` and `absent` look at the present. `rate`, `increase` and `ratio` are of counters, `ratio` of `metric` to
    `over`. `quantile` is of a histogram. `stopped` is the increase over `before` ahead of a window without any. What
    has fewer than `at_least` events in the window is not judged: events of `over`, or observations.
    """

    name: str
    kind: Kind
    severity: Severity
    function: Function
    metric: Selector
    over: Selector | None = None
    by: tuple[str, ...] = ()
    combine: Combine = "max"
    window: float = 300.0
    before: float = 3600.0
    quantile: float = 0.99
    at_least: float = 0.0
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    lasting: float = 0.0
    keep_firing: float = 0.0
    summary: str
    description: str
    runbook: str = ""
    shipped: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether it looks at what was counted over time, and needs to know the past."""
        return self.function in {"rate", "increase", "ratio", "quantile", "stopped"}


class Inhibition(msgspec.Struct, frozen=True):
    """While an alert fires that `when` matches, those that `mutes` matches and that agree in `equal` are not told."""

    when: tuple[Matcher, ...]
    mutes: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """Whom an alert is told to that nobody has acknowledged `after` so many seconds."""

    after: float
    channels: tuple[str, ...]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where the alerts go that `match` matches; an alert takes the first route that does.

    `group_by` are labels: alerts that agree in them are told together. Times are in seconds.
    """

    name: str
    match: tuple[Matcher, ...] = ()
    channels: tuple[str, ...]
    group_by: tuple[str, ...] = ("alertname",)
    interval: float = 60.0
    repeat: float = 4 * 3600.0
    resolved: bool = True
    escalate: tuple[Step, ...] = ()


ChannelKind = Literal["apprise", "webhook", "log"]


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A way to reach people. `url` and `secret` are secret: nothing shows them."""

    name: str
    kind: ChannelKind
    url: str = ""
    secret: str = ""
    allow: str = ""

    def __repr__(self) -> str:
        return f"Channel({self.name!r}, {self.kind!r})"


class Table(msgspec.Struct, frozen=True):
    """Everything that is said of alerts: the shipped table, and what the operator says over it."""

    rules: tuple[Rule, ...]
    inhibitions: tuple[Inhibition, ...]
    channels: tuple[Channel, ...]
    routes: tuple[Route, ...]
    off: tuple[str, ...] = ()


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a rule did not hold for one set of labels, from its beginning to its end.

    `value` is what was measured when the state last changed. `machine` is the one whose metrics it is about, empty for
    those that the database has. An alert without a label `workspace` concerns the whole installation (`everywhere`),
    and is kept with the first workspace. `levels` counts those it was told to: 0 nobody,
    1 the channels of its route, one more for each step of the escalation. `muted_by` says why nobody is told.
    """

    id: UUID
    workspace: str
    everywhere: bool
    rule: str
    kind: Kind
    severity: Severity
    labels: dict[str, str]
    state: AlertState
    value: float | None
    summary: str
    description: str
    runbook: str
    began_at: _Utc
    fired_at: _Utc | None = None
    quiet_since: _Utc | None = None
    missing_since: _Utc | None = None
    resolved_at: _Utc | None = None
    acknowledged_at: _Utc | None = None
    acknowledged_by: str | None = None
    machine: str = ""
    levels: int = 0
    told_at: _Utc | None = None
    end_told: bool = False
    muted_by: str | None = None
    group: str = ""


class Event(msgspec.Struct, frozen=True):
    """Something that happened to an alert: `pending`, `fired`, `resolved`, `acknowledged`, `escalated`, `muted`."""

    at: _Utc
    what: str
    by: str | None = None
    detail: str | None = None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt to send a notice. `status` is that of an answer over HTTP, `error` why it failed."""

    at: _Utc
    outcome: Outcome
    status: int | None = None
    error: str | None = None
    milliseconds: float = 0.0


class NoticeDelivery(msgspec.Struct, frozen=True):
    """A notice on its way by one channel; `id` is the same in every attempt."""

    id: UUID
    notice: UUID
    channel: str
    state: DeliveryState
    reason: Reason
    created_at: _Utc
    due_at: _Utc
    finished_at: _Utc | None = None
    attempts: tuple[Attempt, ...] = ()


class AlertDetails(msgspec.Struct, frozen=True):
    """An alert with what happened to it and how it was told."""

    alert: Alert
    history: tuple[Event, ...]
    deliveries: tuple[NoticeDelivery, ...]


class AlertPage(msgspec.Struct, frozen=True):
    """A page of alerts, newest first; `next` continues it."""

    alerts: tuple[Alert, ...]
    next: str | None = None


class Acknowledgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said when an alert is acknowledged."""

    comment: str = ""


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not to be told, until when. `seconds` is instead of `ends_at`.

    Matchers are written as in Prometheus: `alertname="DiscernPartDown"`. `everywhere` is of all workspaces.
    """

    matchers: tuple[str, ...]
    comment: str
    ends_at: _Utc | None = None
    seconds: float | None = None
    starts_at: _Utc | None = None
    everywhere: bool = False


class SilenceChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different about a silence."""

    ends_at: _Utc | None = None
    comment: str | None = None


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that nobody is told of for a time: a maintenance window. `everywhere` is of all workspaces."""

    id: UUID
    workspace: str
    everywhere: bool
    matchers: tuple[Matcher, ...]
    starts_at: _Utc
    ends_at: _Utc
    by: str
    comment: str
    created_at: _Utc


class SilenceList(msgspec.Struct, frozen=True):
    """Silences that have not ended, the first to end first."""

    silences: tuple[Silence, ...]


class ChannelTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which channel is to be tried."""

    channel: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of one group of alerts, as it is stored: each channel makes its own words of it.

    `shown` are some of the alerts, the most severe first; `firing` and `ended` say how many there are.
    """

    id: UUID
    reason: Reason
    route: str
    group: str
    group_labels: dict[str, str]
    at: _Utc
    firing: int
    ended: int
    shown: tuple[ShownAlert, ...]


class ShownAlert(msgspec.Struct, frozen=True):
    """An alert as it stands in a notice."""

    id: UUID
    name: str
    firing: bool
    severity: Severity
    labels: dict[str, str]
    summary: str
    description: str
    runbook: str
    began_at: _Utc
    resolved_at: _Utc | None = None
    fingerprint: str = ""
