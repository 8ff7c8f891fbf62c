"""The one way to ask for the time, so that tests can give their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present as an aware datetime in UTC."""


def utc_now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)
