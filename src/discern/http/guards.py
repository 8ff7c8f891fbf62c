"""What stands before every route."""

from __future__ import annotations

from typing import NamedTuple

from discern.access.ports import Permit
from discern.access.service import Keys
from discern.access.service_limits import RateLimits
from discern.access.service_tokens import Tokens
from discern.access.service_users import Users
from discern.core.counts import Counts
from discern.core.tracing import Tracer
from discern.privacy.ports import Subjects
from discern.quotas.service import Quotas


class Guards(NamedTuple):
    """What stands before a route: who comes in, what they may do and how often and how much, and about whom.

    `metrics_token` lets in to the metrics alone; empty, nobody comes in by it. `tracer` says what is traced of what
    comes in.
    """

    keys: Keys
    users: Users
    tokens: Tokens
    permit: Permit
    limits: RateLimits
    subjects: Subjects
    quotas: Quotas
    counts: Counts
    metrics_token: str
    tracer: Tracer
