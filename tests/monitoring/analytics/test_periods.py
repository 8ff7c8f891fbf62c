"""Days, weeks and months begin where they do in a time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from discern.core.errors import CallerError
from discern.monitoring.analytics.rules_periods import moment, months_between, period_of, start_of, zone_of
from discern.monitoring.analytics.types import PeriodName

BERLIN = zone_of("Europe/Berlin")
NOW = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "first", "end", "before"),
    [
        ("day", "2026-02-28", "2026-03-01", "2026-02-27"),
        ("week", "2026-02-16", "2026-02-23", "2026-02-09"),
        ("month", "2026-02-01", "2026-03-01", "2026-01-01"),
    ],
)
def test_without_a_day_it_is_the_last_that_is_over(name: PeriodName, first: str, end: str, before: str) -> None:
    found = period_of(name, None, UTC, NOW)
    assert (str(found.first), str(found.end), str(found.before().first)) == (first, end, before)
    assert found.before().end == found.first


@pytest.mark.parametrize(
    ("first", "end"),
    [
        (date(2026, 12, 1), date(2027, 1, 1)),
        (date(2026, 1, 31), date(2026, 3, 1)),
        (date(2027, 12, 15), date(2028, 1, 15)),
        (date(2028, 2, 1), date(2028, 3, 1)),
    ],
)
def test_months_have_their_own_lengths(first: date, end: date) -> None:
    assert period_of("month", first, UTC, NOW).end == end


def test_a_day_on_which_clocks_change_has_its_hours() -> None:
    spring = period_of("day", date(2026, 3, 29), BERLIN, NOW)
    autumn = period_of("day", date(2026, 10, 25), BERLIN, NOW)
    assert spring.until - spring.since == timedelta(hours=23)
    assert autumn.until - autumn.since == timedelta(hours=25)
    week = period_of("week", date(2026, 3, 23), BERLIN, NOW)
    assert week.until - week.since == timedelta(days=7) - timedelta(hours=1)


def test_hours_are_in_the_day_of_the_zone() -> None:
    late = datetime(2026, 3, 31, 22, tzinfo=UTC)  # the first of April in Berlin
    assert start_of(late, "day", UTC) == datetime(2026, 3, 31, tzinfo=UTC)
    assert start_of(late, "day", BERLIN) == late
    assert start_of(late, "month", BERLIN) == late
    assert start_of(late, "hour", BERLIN) == late


def test_a_zone_that_is_not_on_whole_hours_is_refused() -> None:
    with pytest.raises(CallerError, match="whole hours"):
        moment(date(2026, 3, 1), zone_of("Asia/Kolkata"))
    with pytest.raises(CallerError, match="no time zone"):
        zone_of("Mars/Olympus")
    with pytest.raises(CallerError, match="no time zone"):
        zone_of("../../etc/passwd")


def test_a_time_is_cut_at_months() -> None:
    since, until = datetime(2026, 12, 30, 5, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)
    january = datetime(2027, 1, 1, tzinfo=UTC)
    assert list(months_between(since, until)) == [(since, january), (january, until)]
    assert list(months_between(since, since)) == []
