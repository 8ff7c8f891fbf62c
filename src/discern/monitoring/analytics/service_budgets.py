"""What a workspace means to use in a month, what it has used, and what it will have.

- A budget refuses nothing: it is watched, and alerts are raised. Quotas refuse.
- A change is on the audit log, in the transaction that makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import msgspec

from discern.access.types import LOCAL, Principal
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError
from discern.core.months import Month
from discern.monitoring.analytics.rules_forecast import DAYS, forecast
from discern.monitoring.analytics.service import Analytics
from discern.monitoring.analytics.store import BudgetStore
from discern.monitoring.analytics.types import Budget, BudgetStanding, HourRow, Spending
from discern.monitoring.types import Sample

# Whatever was used, the share of the least budget is a number.
_LEAST_AMOUNT, _MOST_AMOUNT = 1e-6, 1e15
_FRESH = timedelta(seconds=30)


class Budgets:
    """The budgets of an installation."""

    def __init__(self, store: BudgetStore, analytics: Analytics, clock: Clock = utc_now) -> None:
        self._store = store
        self._analytics = analytics
        self._clock = clock
        self._collected: tuple[datetime, list[Sample]] | None = None

    def budget(self, workspace: str) -> Budget:
        """Return what a workspace means to use in a month."""
        return self._store.budgets(workspace).get(workspace, Budget())

    def change(self, workspace: str, budget: Budget, by: Principal = LOCAL) -> None:
        """Set what a workspace means to use in a month. Raises CallerError and StorageUnavailable."""
        check_budget(budget)
        before, after = (msgspec.to_builtins(one) for one in (self.budget(workspace), budget))
        act = Act(workspace, by.id, "budgets.change", f"workspace:{workspace}", before=before, after=after)
        self._store.change(workspace, budget, act)
        self._collected = None

    def standing(self, workspace: str) -> BudgetStanding:
        """Return how a workspace stands in the present month. Raises StorageUnavailable."""
        now = self._clock()
        return self._standing(workspace, self.budget(workspace), self._hours(workspace, now), now)

    def collect(self) -> Iterator[Sample]:
        """Yield the metrics of budgets. Raises StorageUnavailable."""
        now = self._clock()
        if self._collected is None or not timedelta(0) <= now - self._collected[0] < _FRESH:
            self._collected = now, list(self._samples(now))
        return iter(self._collected[1])

    def _samples(self, now: datetime) -> Iterator[Sample]:
        for workspace, budget in self._store.budgets().items():
            standing = self._standing(workspace, budget, self._hours(workspace, now), now)
            sides = standing.amount, standing.verdicts
            used = [one.used_ratio for one in sides if one.used_ratio is not None]
            ahead = [one.forecast_ratio for one in sides if one.forecast_ratio is not None]
            if used:
                yield Sample("discern_budget_used_ratio", (workspace,), max(used))
            if ahead:
                yield Sample("discern_budget_forecast_ratio", (workspace,), max(ahead))

    def _hours(self, workspace: str, now: datetime) -> list[HourRow]:
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        # A day more than is looked at tells whether there was anything before.
        since = min(Month.of(now).start, midnight - timedelta(days=DAYS + 1))
        return self._analytics.hours(since, Month.of(now).end, workspace=workspace, sketches=False)

    def _standing(self, workspace: str, budget: Budget, rows: Sequence[HourRow], now: datetime) -> BudgetStanding:
        month = Month.of(now)
        amount = _spending("amount", budget.amount, [(row.hour, row.cost) for row in rows], now)
        verdicts = _spending("verdicts", budget.verdicts, [(row.hour, row.numbers.verdicts) for row in rows], now)
        currency = self._analytics.prices.currency
        return BudgetStanding(workspace, str(month), currency, budget, amount, verdicts)


def check_budget(budget: Budget) -> None:
    """Raise CallerError for a budget that cannot be."""
    for value in (budget.amount, budget.verdicts):
        # Compared as it is: a whole number may be too large to be a float.
        if value is not None and not _LEAST_AMOUNT <= value <= _MOST_AMOUNT:
            what = f"{value:g}" if -_MOST_AMOUNT <= value <= _MOST_AMOUNT else "that large, or no number"
            mend = f"Give a number from {_LEAST_AMOUNT:f} to {_MOST_AMOUNT:,.0f}, or none."
            raise CallerError(f"A budget cannot be {what}.", mend=mend)


def _spending(
    of: Literal["amount", "verdicts"], bound: float | None, hours: Sequence[tuple[datetime, float]], now: datetime
) -> Spending:
    daily: dict[date, float] = {}
    for hour, value in hours:
        daily[hour.date()] = daily.get(hour.date(), 0.0) + value
    start = Month.of(now).start
    used = sum(value for hour, value in hours if hour >= start)
    ahead = forecast(daily, used, now)
    if bound is None:
        return Spending(of, None, used, ahead)
    return Spending(of, bound, used, ahead, used / bound, None if ahead is None else ahead.value / bound)
