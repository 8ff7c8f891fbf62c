"""The nouns of retention."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

import msgspec

Kind = Literal["verdicts", "jobs", "sessions", "runs", "labels"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Keeping(msgspec.Struct, frozen=True):
    """For how many days a workspace keeps each kind; None means for ever."""

    verdicts: int | None = None
    jobs: int | None = None
    sessions: int | None = None
    runs: int | None = None
    labels: int | None = None

    def days(self, kind: Kind) -> int | None:
        """Return the days of a kind."""
        days: int | None = getattr(self, kind)
        return days


class KeepingChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind is to be kept for another number of days; null means for ever."""

    kind: Kind
    days: int | None


class Expired(msgspec.Struct, frozen=True):
    """How many rows of a kind a workspace has from before a time, or had until they were deleted."""

    workspace: str
    kind: Kind
    before: datetime
    rows: int
