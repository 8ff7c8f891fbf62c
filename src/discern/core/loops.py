"""What runs for as long as its process does, turn after turn.

- A defect in one turn is no reason to take no further one: nobody would miss a loop that has ended until it was needed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

log = logging.getLogger(__name__)


async def take_turn(loop: str, turn: Awaitable[object]) -> None:
    """Await one turn of a loop; what goes wrong in it is logged with the loop's name. Being cancelled ends it."""
    try:
        await turn
    except Exception:
        log.exception("defect", extra={"loop": loop})
