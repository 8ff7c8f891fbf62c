"""The nouns that all of monitoring shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from discern.core.verdict import Decision

MetricKind = Literal["counter", "gauge", "histogram"]
Scope = Literal["installation", "machine"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that is exported, named after the conventions of Prometheus; `labels` are all the labels it ever has.

    `buckets` are the upper bounds of a histogram, in its unit. `of` is the part of the documentation it stands in.
    `scope` tells where it is known: what every server of an installation exports alike, for it stands in the database,
    must not be added up over them; what is of the processes of one machine is.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    of: str = "service"
    scope: Scope = "installation"
    # What several processes of a machine have of a gauge: their sum, or the largest of theirs.
    together: Literal["sum", "largest"] = "sum"


class Sample(NamedTuple):
    """One value of a metric; `labels` in the order of the metric's own."""

    name: str
    labels: tuple[str, ...]
    value: float


class TallyRow(NamedTuple):
    """Verdicts of one hour that are alike in all that can be counted, added up over the processes that made them.

    `hour` is when it began, in UTC; of hours that are long past whole days are kept, and it is when the day began.
    `stages` are those that the inputs came to, in order; `decided_by` names one of them, or a measure of a window.
    `degraded` is empty where nothing failed. `milliseconds` is the sum of what they took, `scores` the sum of the
    scores, and `variances` that of score * (1 - score): of calibrated scores they are the expected number of positives
    among the inputs, and the variance of that number.
    """

    hour: datetime
    workspace: str
    detector: str
    version: str
    decision: Decision
    decided_by: str
    stages: tuple[str, ...]
    cached: bool
    degraded: str
    verdicts: int
    milliseconds: float
    scores: float
    variances: float


class Happening(NamedTuple):
    """Something that the installation noticed or did by itself: a breaker opened, a worker was replaced.

    `kind` is dotted, from the part to the event: `breaker.opened`. `about` names what it happened to.
    """

    kind: str
    about: str
    at: datetime
    workspace: str
    facts: dict[str, Any]


class LabelledVerdict(NamedTuple):
    """A verdict of which somebody could tell: `label` is whether its input is of the positive class."""

    verdict_id: UUID
    score: float
    decision: Decision
    label: bool
    labelled_at: datetime
