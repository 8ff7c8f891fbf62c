"""The nouns of quotas."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec


class Amount(NamedTuple):
    """So many verdicts, and so many bytes of images and videos."""

    verdicts: int = 0
    bytes: int = 0

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        return Amount(self.verdicts + other.verdicts, self.bytes + other.bytes)

    def minus(self, other: Amount) -> Amount:
        """Return the difference, which may be negative."""
        return Amount(self.verdicts - other.verdicts, self.bytes - other.bytes)


NOTHING = Amount()


class Quota(msgspec.Struct, frozen=True):
    """What a workspace may ask for in a calendar month (UTC); None means as much as it likes."""

    verdicts: int | None = None
    bytes: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """What a workspace has asked for in a month, and what it may."""

    month: str
    verdicts: int
    bytes: int
    quota: Quota
    resets_at: datetime


class Standing(NamedTuple):
    """How a workspace stands with the nearer quota: of `amount` there is `remaining`, anew in `reset` seconds."""

    amount: int
    remaining: int
    reset: int
