"""When a webhook is called again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

DELIVERY_HEADER = "Discern-Delivery"
MOST_TRIES = 9
# More than nine tries take, with the pauses between them.
_GIVE_UP = timedelta(hours=1)
_FIRST_PAUSE = timedelta(seconds=2)


def pause_after(tries: int) -> timedelta:
    """Return how long to wait after so many tries that failed: two seconds, and twice as long each time."""
    return cast("timedelta", _FIRST_PAUSE * 2 ** (tries - 1))


def is_too_late(finished_at: datetime | None, now: datetime) -> bool:
    """Tell whether a job ended so long ago that nobody is told of it who is not there."""
    return finished_at is not None and now - finished_at >= _GIVE_UP
