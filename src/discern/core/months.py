"""Calendar months in UTC, and which identifiers were made in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, Self
from uuid import UUID


class Month(NamedTuple):
    """One calendar month; months compare in the order of time."""

    year: int
    month: int

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """Return the month that a moment lies in."""
        utc = moment.astimezone(UTC)
        return cls(utc.year, utc.month)

    @property
    def start(self) -> datetime:
        """The first moment."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return self.plus(1).start

    def plus(self, months: int) -> Month:
        """Return the month so many later."""
        years, month = divmod(self.month - 1 + months, 12)
        return Month(self.year + years, month + 1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


def least_id(moment: datetime) -> UUID:
    """Return the least UUIDv7 that a moment may have: what was made before it is below."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
