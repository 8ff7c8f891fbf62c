"""SQL of analytics: hours that were rolled up, and budgets.

- An hour is written as a whole, in one transaction, in the place of what was there: whoever is killed leaves it as it
  was, and whoever writes it again writes the same.
- No hour is deleted: they outlive the verdicts that they are of, and have no person in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Row,
    String,
    Table,
    and_,
    delete,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.monitoring.analytics.rules_sketches import callers_in, callers_of, histogram_of, quantile
from discern.monitoring.analytics.types import Budget, HourRow, Numbers, Release
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

_COUNTS = Numbers._fields[:-1]
_KEY = ("workspace", "hour", "detector", "version")
hours = Table(
    "analytics_hours",
    metadata,
    workspace_column(),
    Column("hour", UtcDateTime, nullable=False),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    *(Column(name, BigInteger(), nullable=False) for name in _COUNTS),
    Column("milliseconds", Float(), nullable=False),
    Column("cost", Float(), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("callers", BigInteger(), nullable=False),
    *(Column(name, Float()) for name in ("p50", "p95", "p99")),
    Column("measured", BigInteger(), nullable=False),
    Column("drift_alarms", Integer(), nullable=False),
    Column("caller_hashes", LargeBinary(), nullable=False),
    Column("latencies", LargeBinary(), nullable=False),
    PrimaryKeyConstraint(*_KEY),
    Index("ix_analytics_hours_hour", "hour"),
)
budgets = Table(
    "budgets",
    metadata,
    workspace_column(),
    Column("amount", Float()),
    Column("verdicts", BigInteger()),
    PrimaryKeyConstraint("workspace"),
)
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_AT_A_TIME = 1000


class HourStore:
    """Hours in the database. Every method raises StorageUnavailable. Costs are in one currency, the installation's."""

    def __init__(self, database: Database, currency: str) -> None:
        self._database = database
        self._currency = currency

    def put(self, rows: Sequence[HourRow]) -> None:
        """Write hours in the place of those that were there."""
        put = _INSERTS[self._database.dialect](hours)
        changed = {one.name: put.excluded[one.name] for one in hours.columns if one.name not in _KEY}
        put = put.on_conflict_do_update(index_elements=list(_KEY), set_=changed)
        with self._database.write() as connection:
            for start in range(0, len(rows), _AT_A_TIME):
                connection.execute(put, [self._values(row) for row in rows[start : start + _AT_A_TIME]])

    def between(
        self,
        since: datetime,
        until: datetime | None = None,
        *,
        workspace: str | None = None,
        detector: str | None = None,
        sketches: bool = True,
    ) -> list[HourRow]:
        """Return hours from the one time to before the other; without `sketches` none of what they are counted by."""
        wanted = [hours.c.hour >= since]
        if until is not None:
            wanted.append(hours.c.hour < until)
        if workspace is not None:
            wanted.append(hours.c.workspace == workspace)
        if detector is not None:
            wanted.append(hours.c.detector == detector)
        columns = [one for one in hours.columns if sketches or one.name not in {"caller_hashes", "latencies"}]
        query = select(*columns).where(and_(*wanted))
        with self._database.read() as connection:
            return [self._read(row, sketches=sketches) for row in connection.execute(query)]

    def costs(self, before: datetime) -> dict[tuple[str, str], float]:
        """Return what was spent before a time, ever, by workspace and detector."""
        key = hours.c.workspace, hours.c.detector
        query = select(*key, func.sum(hours.c.cost).label("cost")).where(self._ours(), hours.c.hour < before)
        with self._database.read() as connection:
            return {(row.workspace, row.detector): float(row.cost) for row in connection.execute(query.group_by(*key))}

    def latest(self) -> datetime | None:
        """Return the last hour that was rolled up."""
        with self._database.read() as connection:
            found: datetime | None = connection.execute(select(func.max(hours.c.hour))).scalar()
        return found

    def days_there(self, before: datetime) -> set[tuple[Release, datetime]]:
        """Return which releases have hours on which days (UTC) before a time, as the first hour of the day."""
        query = select(hours.c.workspace, hours.c.detector, hours.c.version, hours.c.hour).where(hours.c.hour < before)
        with self._database.read() as connection:
            return {(Release(*row[:3]), row.hour.replace(hour=0)) for row in connection.execute(query)}

    def _ours(self) -> ColumnElement[bool]:
        return hours.c.currency == self._currency

    def _values(self, row: HourRow) -> dict[str, Any]:
        cells = histogram_of(row.latencies)
        quantiles = {f"p{share}": quantile(cells, share / 100) for share in (50, 95, 99)}
        return {
            **row.release._asdict(),
            **row.numbers._asdict(),
            **quantiles,
            "hour": row.hour,
            "cost": row.cost,
            "currency": self._currency,
            "callers": callers_in(callers_of(row.callers)),
            "measured": row.measured,
            "drift_alarms": row.drift_alarms,
            "caller_hashes": row.callers,
            "latencies": row.latencies,
        }

    def _read(self, row: Row[Any], *, sketches: bool) -> HourRow:
        return HourRow(
            row.hour,
            Release(row.workspace, row.detector, row.version),
            Numbers(*(getattr(row, name) for name in Numbers._fields)),
            # What was spent in another currency cannot be added up with ours.
            row.cost if row.currency == self._currency else 0.0,
            bytes(row.caller_hashes) if sketches else b"",
            bytes(row.latencies) if sketches else b"",
            row.measured,
            row.drift_alarms,
        )


class BudgetStore:
    """Budgets in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    def budgets(self, workspace: str | None = None) -> dict[str, Budget]:
        """Return the budgets there are, of one workspace or of all."""
        query = select(budgets)
        if workspace is not None:
            query = query.where(budgets.c.workspace == workspace)
        with self._database.read() as connection:
            return {row.workspace: Budget(row.amount, row.verdicts) for row in connection.execute(query)}

    def change(self, workspace: str, budget: Budget, act: Act) -> None:
        """Write a budget; one without any bound is none."""
        values = {"amount": budget.amount, "verdicts": budget.verdicts}
        its = budgets.c.workspace == workspace
        with self._database.write() as connection:
            self._trail.append(connection, act)
            if budget == Budget():
                connection.execute(delete(budgets).where(its))
            else:
                put = _INSERTS[self._database.dialect](budgets).values({"workspace": workspace, **values})
                connection.execute(put.on_conflict_do_update(index_elements=["workspace"], set_=values))
