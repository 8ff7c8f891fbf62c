"""The nouns of health, and its metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from discern.core.breakers import BreakerState
from discern.monitoring.types import Metric

Status = Literal["ok", "degraded", "failing"]
STATES: dict[BreakerState, int] = {"closed": 0, "half-open": 1, "open": 2}

METRICS = (
    Metric("discern_part_up", "gauge", "Whether a part of the installation answers: 1 or 0.", ("part",), of="health"),
    Metric(
        "discern_breaker_state",
        "gauge",
        "Circuit breakers, the worst of all processes: 0 closed, 1 half-open, 2 open.",
        ("part", "name"),
        of="health",
        scope="machine",
        together="largest",
    ),
    Metric(
        "discern_breaker_openings_total",
        "counter",
        "How often a circuit breaker opened.",
        ("part", "name"),
        of="health",
        scope="machine",
    ),
    Metric(
        "discern_certificate_expiry_seconds",
        "gauge",
        "Seconds until the server's own certificate expires, negative where it has; absent without TLS.",
        of="health",
        scope="machine",
    ),
)


class PartHealth(msgspec.Struct, frozen=True):
    """One part: `code` and `reason` are those of the error that its ping raised. Without a `needed` one most works."""

    name: str
    up: bool
    needed: bool
    code: str | None = None
    reason: str | None = None


class BreakerHealth(msgspec.Struct, frozen=True):
    """A circuit breaker of the process that answers; `seconds` is how long ago it closed, or first opened since.

    One with a `workspace` is of a host that the workspace named, and no sign that the installation is unwell.
    """

    part: str
    name: str
    state: BreakerState
    seconds: float
    failures: int
    reason: str | None = None
    workspace: str | None = None


class HappeningEntry(msgspec.Struct, frozen=True):
    """Something that the installation noticed or did by itself."""

    id: str
    workspace: str
    kind: str
    about: str
    at: datetime
    facts: dict[str, Any]


class WorkersHealth(msgspec.Struct, frozen=True):
    """What the supervisor of several processes has counted: how many died, and for how long one was missing."""

    deaths: int
    absent_seconds: float


class Health(msgspec.Struct, frozen=True):
    """How an installation is, seen from the process that answers. `sentence` says it in one.

    `failing`: it cannot answer. `degraded`: it answers, and something wants looking at.
    """

    status: Status
    sentence: str
    slot: int
    pid: int
    parts: tuple[PartHealth, ...]
    breakers: tuple[BreakerHealth, ...]
    happenings: tuple[HappeningEntry, ...]
    workers: WorkersHealth | None = None
    certificate_expires_at: datetime | None = None
