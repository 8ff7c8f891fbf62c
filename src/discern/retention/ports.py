"""What retention needs of those who keep things. Down means StorageUnavailable: it is tried another day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from discern.core.months import Month

Also = Callable[[Any, int], None]
"""Does, with a transaction of the store's, what goes with the deletion of so many rows."""


class Expiring(Protocol):
    """Rows of one kind that get old."""

    def count(self, workspace: str, before: datetime) -> int:
        """Return how many rows a workspace has from before a time."""
        ...

    def delete(self, workspace: str, before: datetime, most: int, also: Also) -> Sequence[UUID]:
        """Delete the oldest of them, at most `most`, `also` in the same transaction; return their ids."""
        ...


class ByMonth(Protocol):
    """A table in a part for each month, or in none where the database has no parts."""

    def months(self) -> list[Month]:
        """Return the months that have a part, oldest first."""
        ...

    def make_ahead(self, now: datetime) -> list[Month]:
        """Make the parts of the months to come, and return them."""
        ...

    def rows(self, month: Month) -> dict[str, int]:
        """Return how many rows each workspace has in a month."""
        ...

    def workspaces(self, month: Month) -> set[str]:
        """Return the workspaces that have rows in a month."""
        ...

    def drop_oldest(self, month: Month, also: Callable[[Any], None]) -> bool:
        """Drop the part of a month, `also` in the same transaction; tell whether it was the oldest."""
        ...
