"""What is old. Pure.

- The age of a verdict counts from when it was asked for, which its id tells.
- A month is dropped as a whole only where nobody who has verdicts in it wants any of them kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from discern.core.errors import CallerError
from discern.core.months import Month

MOST_DAYS = 36_500


def check_days(days: int | None) -> None:
    """Raise CallerError unless something can be kept for so many days."""
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise CallerError(f"Nothing is kept for {days} days.", mend=f"Give 1 to {MOST_DAYS}, or none: for ever.")


def cutoff(now: datetime, days: int) -> datetime:
    """Return the time before which everything is old."""
    return now - timedelta(days=days)


def has_expired(month: Month, workspaces: Collection[str], cutoffs: Mapping[str, datetime]) -> bool:
    """Tell whether a month is old for all `workspaces` that have verdicts in it; `cutoffs` are those there are."""
    if not cutoffs or month.end > max(cutoffs.values()):
        return False
    return all(workspace in cutoffs and cutoffs[workspace] >= month.end for workspace in workspaces)
