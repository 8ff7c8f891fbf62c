"""SQL of retention: for how long, what was deleted and not told yet, and whose turn it is.

- How many rows were deleted is written in the transaction that deletes them, and goes on the audit log when a run
  ends; what a process did that died in between, the next run tells.
- The turn is one row, of the first workspace, for the whole installation.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.retention.types import Keeping, Kind
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

retention = Table(
    "retention",
    metadata,
    workspace_column(),
    Column("kind", String(16), nullable=False),
    Column("days", Integer()),
    Column("not_told", BigInteger(), nullable=False),
    PrimaryKeyConstraint("workspace", "kind"),
)
turns = Table(
    "retention_turns",
    metadata,
    workspace_column(),
    Column("due_at", UtcDateTime, nullable=False),
    Column("held_until", UtcDateTime),
    PrimaryKeyConstraint("workspace"),
)
_THE_TURN = turns.c.workspace == DEFAULT_WORKSPACE


class RetentionStore:
    """Retention in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    def all(self) -> dict[str, Keeping]:
        """Return what each workspace has set."""
        query = select(retention.c.workspace, retention.c.kind, retention.c.days).order_by(retention.c.workspace)
        found: dict[str, dict[str, int | None]] = {}
        with self._database.read() as connection:
            for workspace, kind, days in connection.execute(query):
                found.setdefault(workspace, {})[kind] = days
        return {workspace: Keeping(**days) for workspace, days in found.items()}

    def change(self, workspace: str, kind: Kind, days: int | None, act: Act) -> None:
        """Write for how many days a kind is kept."""
        with self._database.write() as connection:
            self._put(connection, workspace, kind, days=days)
            self._trail.append(connection, act)

    def note(self, connection: Connection, workspace: str, kind: Kind, rows: int) -> None:
        """Write, in the caller's transaction, that so many rows were deleted."""
        row = retention.c.workspace == workspace, retention.c.kind == kind
        connection.execute(update(retention).where(*row).values(not_told=retention.c.not_told + rows))

    def tell(self, workspace: str, act_of: Callable[[dict[str, int]], Act]) -> None:
        """Put what was deleted in a workspace on the audit log, where something was."""
        untold = retention.c.workspace == workspace, retention.c.not_told > 0
        with self._database.write() as connection:
            query = select(retention.c.kind, retention.c.not_told).where(*untold).with_for_update()
            sums: dict[str, int] = {row.kind: row.not_told for row in connection.execute(query)}
            if sums:
                connection.execute(update(retention).where(*untold).values(not_told=0))
                self._trail.append(connection, act_of(sums))

    def take_turn(self, now: datetime, until: datetime, *, only_if_due: bool) -> bool:
        """Take the turn until then, unless somebody else has it; tell whether it was to be had."""
        free = or_(turns.c.held_until.is_(None), turns.c.held_until <= now)
        conditions = [_THE_TURN, free, *([turns.c.due_at <= now] if only_if_due else [])]
        try:
            with self._database.write() as connection:
                if connection.execute(update(turns).where(*conditions).values(held_until=until)).rowcount == 1:
                    return True
                if connection.execute(select(turns.c.due_at).where(_THE_TURN)).first() is not None:
                    return False
                first = {"workspace": DEFAULT_WORKSPACE, "due_at": now, "held_until": until}
                connection.execute(insert(turns).values(first))
        except IntegrityError:  # somebody else was first
            return False
        return True

    def end_turn(self, due_at: datetime | None) -> None:
        """Give the turn back; `due_at` is when the next is, None where this one did not come to its end."""
        given_back = {"held_until": None} | ({} if due_at is None else {"due_at": due_at})
        with self._database.write() as connection:
            connection.execute(update(turns).where(_THE_TURN).values(given_back))

    def _put(self, connection: Connection, workspace: str, kind: Kind, *, days: int | None) -> None:
        row = retention.c.workspace == workspace, retention.c.kind == kind
        changed = update(retention).where(*row).values(days=days)
        if connection.execute(changed).rowcount != 1:
            values = {"workspace": workspace, "kind": kind, "days": days, "not_told": 0}
            try:
                with connection.begin_nested():
                    connection.execute(insert(retention).values(values))
            except IntegrityError:  # somebody else was first
                connection.execute(changed)
