"""What quality needs from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from discern.monitoring.quality.types import Evidence

EvidenceOf = Callable[[str, str], Evidence | None]
"""Returns what the bundle of a detector's version tells of its scores; None where the bundle is not here."""


class Turn(Protocol):
    """Which of several processes does what one does for all."""

    def take(self) -> bool:
        """Take the turn, or keep it; tell whether it is ours. Raises StorageUnavailable."""
        ...
