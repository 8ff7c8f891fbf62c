"""When a notice is sent again, and when it is given up. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

LEASE = timedelta(seconds=60)
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=10)
FAR_AHEAD = _LONGEST_PAUSE + LEASE + timedelta(minutes=1)
"""Nothing is ever due later than this: where it is, the clock was put back, and it is due."""


def pause_after(tries: int) -> timedelta:
    """Return how long to wait after so many tries that failed: five seconds, twice as long each time, ten minutes."""
    return min(_LONGEST_PAUSE, cast("timedelta", _FIRST_PAUSE * 2 ** min(tries - 1, 20)))


def is_given_up(created_at: datetime, now: datetime, give_up: timedelta) -> bool:
    """Tell whether a notice that was made then is no longer worth sending."""
    return now - created_at >= give_up
