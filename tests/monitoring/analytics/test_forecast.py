"""What a month is said to come to, and how sure that is."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from scipy.stats import t as student

from discern.monitoring.analytics.rules_forecast import LEVEL, forecast, student_quantile
from discern.monitoring.analytics.types import Forecast

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)
WEEK = (100.0, 120.0, 110.0, 115.0, 130.0, 40.0, 30.0)


def history(now: datetime, days: int, chance: random.Random, noise: float = 12.0) -> dict[date, float]:
    """Days before `now`, a value for each around that of its day of the week."""
    found = {}
    for number in range(1, days + 1):
        day = now.date() - timedelta(days=number)
        found[day] = WEEK[day.weekday()] + chance.gauss(0, noise)
    return found


@pytest.mark.parametrize("freedom", [2, 3, 4, 6, 13, 21, 27])
def test_the_quantile_is_that_of_students_distribution(freedom: int) -> None:
    assert student_quantile(0.95, freedom) == pytest.approx(student.ppf(0.95, freedom), rel=0.01)


@pytest.mark.parametrize(("now", "days"), [(NOON, 28), (NOON, 60), (NOON, 15), (NOON.replace(day=2), 28)])
def test_the_interval_holds_what_the_month_comes_to_as_often_as_it_says(now: datetime, days: int) -> None:
    chance = random.Random(11)
    trials, held = 1500, 0
    month_end = date(2026, 4, 1)
    for _ in range(trials):
        daily = history(now, days, chance)
        started = sum(value for day, value in daily.items() if day >= now.date().replace(day=1))
        today = WEEK[now.weekday()] / 2
        found = forecast(daily, started + today, now)
        rest = today + chance.gauss(0, 12 * 0.5**0.5)
        for number in range(1, (month_end - now.date()).days):
            day = now.date() + timedelta(days=number)
            rest += WEEK[day.weekday()] + chance.gauss(0, 12)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= started + today + rest <= found.high
    # Four standard errors of the share.
    assert held / trials == pytest.approx(LEVEL, abs=4 * (LEVEL * (1 - LEVEL) / trials) ** 0.5)


def test_growth_is_not_foreseen() -> None:
    daily = {NOON.date() - timedelta(days=number): 100.0 * 1.05**-number for number in range(1, 29)}
    found = forecast(daily, 0.0, NOON)
    assert found is not None
    truth = sum(100.0 * 1.05**number for number in range(14))
    assert found.value < truth


def test_days_of_the_week_are_told_apart_once_there_are_two_weeks_of_them() -> None:
    def told(days: int) -> float:
        daily = history(NOON, days, random.Random(1), noise=0.0)
        found = forecast(daily, 0.0, NOON)
        assert found is not None
        return found.value

    rest = WEEK[2] / 2 + sum(WEEK[(NOON + timedelta(days=number)).weekday()] for number in range(1, 14))
    assert told(28) == pytest.approx(rest)
    assert told(15) == pytest.approx(rest)  # the first day, which began in its middle, is left out
    assert told(7) != pytest.approx(rest, rel=0.005)


def test_little_is_said_of_few_days() -> None:
    yesterday = NOON.date() - timedelta(days=1)
    assert forecast({}, 0.0, NOON) is None
    assert forecast({NOON.date(): 5.0}, 5.0, NOON) is None
    assert forecast({yesterday: 10.0}, 20.0, NOON) == Forecast(20 + 13.5 * 10, None, None, 1)
    three = {yesterday - timedelta(days=number): 10.0 for number in range(4)}
    found = forecast(three, 20.0, NOON)
    assert found == Forecast(155.0, 155.0, 155.0, 3)


def test_days_without_anything_count_as_such() -> None:
    daily = {NOON.date() - timedelta(days=number): 10.0 for number in (1, 11)}
    found = forecast(daily, 0.0, NOON)
    assert found is not None
    assert found.value == pytest.approx(13.5 * 1.0)


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (datetime(2026, 3, 31, 18, tzinfo=UTC), 0.25),
        (datetime(2026, 2, 28, 0, tzinfo=UTC), 1.0),
        (datetime(2028, 2, 28, 0, tzinfo=UTC), 2.0),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), 0.5),
    ],
)
def test_a_month_ends_when_it_ends(now: datetime, left: float) -> None:
    daily = {now.date() - timedelta(days=number): 8.0 for number in range(1, 30)}
    found = forecast(daily, 100.0, now)
    assert found is not None
    assert found.value == pytest.approx(100 + 8 * left)


def test_the_lower_end_is_never_below_what_is_used() -> None:
    chance = random.Random(3)
    found = forecast(history(NOON, 28, chance, noise=400.0), 1000.0, NOON)
    assert found is not None
    assert found.low is not None
    assert found.low >= 1000.0
