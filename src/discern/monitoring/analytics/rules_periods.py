"""When a day, a week or a month begins and ends in a time zone. Pure.

- Days are calendar days of the zone: one on which clocks are changed has 23 or 25 hours.
- What is counted by the hour is cut at whole hours: a zone that is not on them is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from discern.core.errors import CallerError
from discern.monitoring.analytics.types import PeriodName, Step

_HOUR = 3600
_YEARS = range(2000, 2200)


class Period(NamedTuple):
    """From the first day to before `end`, in a zone; the one before has the same name."""

    name: PeriodName
    first: date
    end: date
    zone: tzinfo

    @property
    def since(self) -> datetime:
        """The first moment, UTC."""
        return moment(self.first, self.zone)

    @property
    def until(self) -> datetime:
        """The first moment after it, UTC."""
        return moment(self.end, self.zone)

    @property
    def days(self) -> list[date]:
        """Its days in order."""
        return [self.first + timedelta(days=number) for number in range((self.end - self.first).days)]

    def before(self) -> Period:
        """Return the period before it."""
        if self.name == "month":
            last = self.first - timedelta(days=1)
            # One that begins on the 31st has as many days before it as itself: months differ.
            first = last.replace(day=1) if self.first.day == 1 else self.first - (self.end - self.first)
        else:
            first = self.first - (self.end - self.first)
        return Period(self.name, first, self.first, self.zone)


def zone_of(name: str) -> tzinfo:
    """Return a time zone. Raises CallerError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        detail = f"{name[:60]!r} is no time zone that this machine knows."
        raise CallerError(detail, mend="Write one such as Europe/Berlin, or UTC.") from error


def moment(day: date, zone: tzinfo) -> datetime:
    """Return when a day begins, UTC. Raises CallerError for a zone that is not on whole hours then."""
    found = datetime.combine(day, time(), zone).astimezone(UTC)
    if found.timestamp() % _HOUR:
        detail = f"{zone} is not on whole hours of UTC on {day}, and verdicts are counted by these."
        raise CallerError(detail, mend="Take UTC, or a zone nearby that is.")
    return found


def period_of(name: PeriodName, first: date | None, zone: tzinfo, now: datetime) -> Period:
    """Return the period that begins on `first`; without it the last one that is over."""
    if first is not None:
        check_day(first)
        return Period(name, first, _after(name, first), zone)
    today = now.astimezone(zone).date()
    if name == "day":
        begins = today - timedelta(days=1)
    elif name == "week":
        begins = today - timedelta(days=today.weekday() + 7)
    else:
        begins = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    return Period(name, begins, _after(name, begins), zone)


def check_day(day: date) -> None:
    """Raise CallerError for a day of which there cannot be anything."""
    if day.year not in _YEARS:
        raise CallerError(f"{day} is not between {_YEARS[0]} and {_YEARS[-1]}.", mend="Write a day such as 2026-11-02.")


def _after(name: PeriodName, first: date) -> date:
    if name == "month":
        year, month = divmod(first.year * 12 + first.month, 12)
        if first.day == 1:
            return date(year, month + 1, 1)
        following = date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1)
        return min(date(year, month + 1, 1) + timedelta(days=first.day - 1), following)
    return first + timedelta(days=7 if name == "week" else 1)


def start_of(hour: datetime, step: Step, zone: tzinfo) -> datetime:
    """Return when the step began that an hour is in, UTC. Raises CallerError."""
    if step == "hour":
        return hour
    day = hour.astimezone(zone).date()
    return moment(day if step == "day" else day.replace(day=1), zone)


def day_of(hour: datetime, zone: tzinfo) -> date:
    """Return the day that an hour is in."""
    return hour.astimezone(zone).date()


def months_between(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the parts of a time that lie in one month (UTC) each."""
    start = since.astimezone(UTC)
    while start < until:
        following = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(
            day=1
        )
        yield start, min(following, until)
        start = following
