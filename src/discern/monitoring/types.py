"""The nouns that all of monitoring shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

MetricKind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that is exported, named after the conventions of Prometheus; `labels` are all the labels it ever has.

    `buckets` are the upper bounds of a histogram, in its unit. `of` is the part of the documentation it stands in.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    of: str = "service"


class Sample(NamedTuple):
    """One value of a metric; `labels` in the order of the metric's own."""

    name: str
    labels: tuple[str, ...]
    value: float


class Happening(NamedTuple):
    """Something that the installation noticed or did by itself: a breaker opened, a worker was replaced.

    `kind` is dotted, from the part to the event: `breaker.opened`. `about` names what it happened to.
    """

    kind: str
    about: str
    at: datetime
    workspace: str
    facts: dict[str, Any]
