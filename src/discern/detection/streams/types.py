"""The nouns of streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from discern.detection.types import LedgerEntry


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """See the settings of the same names with `stream_` before them.

    `most` is `max_streams`, `most_of_a_workspace` is `max_streams_per_workspace`; 0 sets no limit.
    """

    most: int
    most_of_a_workspace: int
    waiting: int
    waiting_bytes: int
    idle_seconds: float


Record = Callable[[LedgerEntry], Awaitable[None]]
"""Writes a verdict to the ledger; returns when it is there."""

KeyCheck = Callable[[], Awaitable[bool]]
"""Tells whether the key that a stream was opened with is still good."""
