"""What runs for as long as its process does, turn after turn.

- A defect in one turn is no reason to take no further one: nobody would miss a loop that has ended until it was needed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

log = logging.getLogger(__name__)


class Loop(NamedTuple):
    """Something to do every `seconds`, in a thread: `turn` takes its time, and is called anew after it."""

    name: str
    seconds: float
    turn: Callable[[], object]


async def take_turn(loop: str, turn: Awaitable[object]) -> None:
    """Await one turn of a loop; what goes wrong in it is logged with the loop's name. Being cancelled ends it."""
    try:
        await turn
    except Exception:
        log.exception("defect", extra={"loop": loop})
