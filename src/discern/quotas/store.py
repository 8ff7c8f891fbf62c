"""SQL of quotas: what a workspace may ask for, and what it has asked for in each month.

- The row of a month is changed by adding to it, in one statement or behind a lock: processes do not overwrite each
  other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.months import Month
from discern.quotas.rules import Limit, exceeded, grant
from discern.quotas.types import Amount, Quota
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column

quotas = Table(
    "quotas",
    metadata,
    workspace_column(),
    Column("verdicts", BigInteger()),
    Column("bytes", BigInteger()),
    PrimaryKeyConstraint("workspace"),
)
uses = Table(
    "quota_uses",
    metadata,
    workspace_column(),
    Column("month", String(7), nullable=False),
    Column("verdicts", BigInteger(), nullable=False),
    Column("bytes", BigInteger(), nullable=False),
    PrimaryKeyConstraint("workspace", "month"),
)
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


class QuotaStore:
    """Quotas in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    def quota(self, workspace: str) -> Quota:
        """Return what a workspace may ask for."""
        with self._database.read() as connection:
            return _quota(connection, workspace)

    def change(self, workspace: str, quota: Quota, act: Act) -> None:
        """Write what a workspace may ask for."""
        values = {"verdicts": quota.verdicts, "bytes": quota.bytes}
        with self._database.write() as connection:
            # First, for it has those who write the first quota at once come one after the other.
            self._trail.append(connection, act)
            changed = update(quotas).where(quotas.c.workspace == workspace).values(values)
            if connection.execute(changed).rowcount != 1:
                connection.execute(insert(quotas).values({"workspace": workspace, **values}))

    def used(self, workspace: str, month: Month) -> Amount:
        """Return what is taken of a month."""
        with self._database.read() as connection:
            row = connection.execute(select(uses.c.verdicts, uses.c.bytes).where(_of(workspace, month))).first()
        return Amount() if row is None else Amount(row.verdicts, row.bytes)

    def add(self, workspace: str, month: Month, amount: Amount) -> None:
        """Add to what is taken of a month; less than nothing gives back."""
        with self._database.write() as connection:
            self._add(connection, workspace, month, amount)

    def take(self, workspace: str, month: Month, asked: Amount) -> tuple[Quota, Amount, Amount, Limit | None]:
        """Take what a process is granted that asks for `asked`; return the quota, the grant and what was taken before.

        The last is which limit does not allow it; nothing was taken then.
        """
        if self.quota(workspace) == Quota():
            return Quota(), Amount(), Amount(), None
        with self._database.write() as connection:
            quota = _quota(connection, workspace)
            # The row is locked from here on, whether it was there or not.
            self._add(connection, workspace, month, Amount())
            row = connection.execute(select(uses.c.verdicts, uses.c.bytes).where(_of(workspace, month))).one()
            used = Amount(row.verdicts, row.bytes)
            limit = exceeded(quota, used, asked)
            if limit is not None:
                return quota, Amount(), used, limit
            granted = grant(quota, used, asked)
            self._add(connection, workspace, month, granted)
        return quota, granted, used, None

    def _add(self, connection: Connection, workspace: str, month: Month, amount: Amount) -> None:
        row = {"workspace": workspace, "month": str(month), **amount._asdict()}
        sums = {"verdicts": uses.c.verdicts + amount.verdicts, "bytes": uses.c.bytes + amount.bytes}
        put = _INSERTS[self._database.dialect](uses).values(row)
        connection.execute(put.on_conflict_do_update(index_elements=["workspace", "month"], set_=sums))


def _quota(connection: Connection, workspace: str) -> Quota:
    row = connection.execute(select(quotas.c.verdicts, quotas.c.bytes).where(quotas.c.workspace == workspace)).first()
    return Quota() if row is None else Quota(row.verdicts, row.bytes)


def _of(workspace: str, month: Month) -> ColumnElement[bool]:
    return (uses.c.workspace == workspace) & (uses.c.month == str(month))
