"""When a webhook is called again."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

DELIVERY_HEADER = "Discern-Delivery"
MOST_TRIES = 9
_FIRST_PAUSE = timedelta(seconds=2)


def pause_after(tries: int) -> timedelta:
    """Return how long to wait after so many tries that failed: two seconds, and twice as long each time."""
    return cast("timedelta", _FIRST_PAUSE * 2 ** (tries - 1))
