"""What a month will have come to at its end. Pure.

Days of the last four weeks are taken as independent, spread alike around a mean: one for each day of the week once
there are two whole weeks, one for all before. With n days, k means and s^2 = (squares of what is left) / (n - k), the
rest of the month has the sum of its days' means as its expectation, and the variance of a new sum around it is

    s^2 (R + sum over means m of R_m^2 / n_m)

for R days that are left, R_m of them with mean m, which n_m days told: the prediction interval of a linear model
(D. C. Montgomery, E. A. Peck, G. G. Vining: Introduction to Linear Regression Analysis, section 3.5). Today counts with
the share of it that is left. The interval holds 90 % where days are as said; growth, holidays and a campaign are not,
and it knows nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import NormalDist, fmean

from discern.core.months import Month
from discern.monitoring.analytics.types import Forecast

LEVEL = 0.9
DAYS = 28
_DAY = timedelta(days=1)
_SECONDS = 86_400.0
_WEEK = 7


def forecast(daily: Mapping[date, float], used: float, now: datetime) -> Forecast | None:
    """Return what the month of `now` will come to; None before one whole day is known.

    `daily` has what each day (UTC) came to, a day without anything left out; `used` is what this month has so far.
    """
    today = now.astimezone(UTC).date()
    known = [day for day in daily if day < today]
    if not known:
        return None
    first = max(min(known), today - DAYS * _DAY)
    days = [first + number * _DAY for number in range((today - first).days)]
    # The first day that there ever was began somewhere in its middle.
    if first == min(daily) and len(days) > 1:
        days = days[1:]
    values = [(day, daily.get(day, 0.0)) for day in days]
    groups = _groups(values)
    means = {group: fmean(its) for group, its in groups.items()}
    left = _days_left(now)
    rest = {group: sum(share for day, share in left if _group(day, groups) == group) for group in groups}
    expected = sum(means[group] * share for group, share in rest.items())
    value = used + expected
    freedom = len(values) - len(groups)
    if freedom < 2:
        return Forecast(value, None, None, len(values))
    squares = sum((one - means[group]) ** 2 for group, its in groups.items() for one in its)
    spread = sum(share for _, share in left) + sum(rest[group] ** 2 / len(its) for group, its in groups.items())
    width = student_quantile((1 + LEVEL) / 2, freedom) * math.sqrt(squares / freedom * spread)
    return Forecast(value, max(used, value - width), value + width, len(values))


def student_quantile(level: float, freedom: int) -> float:
    """Return the quantile of Student's t, at `freedom` degrees of freedom.

    By the expansion around the normal one (M. Abramowitz, I. A. Stegun: Handbook of Mathematical Functions, 26.7.5),
    exact at 2; within 1 % from 3 on at the levels that are used here.
    """
    if freedom == 2:
        return (2 * level - 1) / math.sqrt(2 * level * (1 - level))
    z = NormalDist().inv_cdf(level)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _groups(values: Sequence[tuple[date, float]]) -> dict[int, list[float]]:
    """Return what days came to by what their mean is of: the day of the week, or -1 for all."""
    if len(values) < 2 * _WEEK:
        return {-1: [value for _, value in values]}
    found: dict[int, list[float]] = {}
    for day, value in values:
        found.setdefault(day.weekday(), []).append(value)
    return found


def _group(day: date, groups: Mapping[int, object]) -> int:
    return -1 if -1 in groups else day.weekday()


def _days_left(now: datetime) -> list[tuple[date, float]]:
    """Return today and the days of the month after it, each with the share of it that is left."""
    utc = now.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    today = utc.date()
    after = (Month.of(utc).end.date() - today).days
    left = 1 - (utc - midnight).total_seconds() / _SECONDS
    return [(today, left), *((today + number * _DAY, 1.0) for number in range(1, after))]
