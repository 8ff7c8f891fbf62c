"""SQL of what an installation noticed and did by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Column, LargeBinary, PrimaryKeyConstraint, String, Table, Uuid, delete, insert, select

from discern.core.ids import uuid7
from discern.monitoring.health.types import HappeningEntry
from discern.monitoring.types import Happening
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

happenings = Table(
    "happenings",
    metadata,
    workspace_column(),
    Column("id", Uuid(), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("about", String(200), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("facts", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("workspace", "id"),
)
_encode = msgspec.json.Encoder().encode


class HappeningStore:
    """Happenings in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, found: Sequence[Happening]) -> None:
        """Write happenings."""
        rows = [
            {
                "workspace": one.workspace,
                "id": uuid7(),
                "kind": one.kind,
                "about": one.about[:200],
                "at": one.at,
                "facts": _encode(one.facts),
            }
            for one in found
        ]
        with self._database.write() as connection:
            connection.execute(insert(happenings), rows)

    def newest(self, workspace: str | None, limit: int) -> list[HappeningEntry]:
        """Return the newest of a workspace, or of all, newest first."""
        query = select(happenings).order_by(happenings.c.id.desc()).limit(limit)
        if workspace is not None:
            query = query.where(happenings.c.workspace == workspace)
        with self._database.read() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def between(self, workspace: str, since: datetime, until: datetime) -> list[HappeningEntry]:
        """Return what happened in a workspace from the one time to before the other, oldest first."""
        mine = happenings.c.workspace == workspace, happenings.c.at >= since, happenings.c.at < until
        with self._database.read() as connection:
            rows = connection.execute(select(happenings).where(*mine).order_by(happenings.c.at))
            return [_entry(row) for row in rows]

    def forget(self, before: datetime) -> int:
        """Delete what happened before; return how many that were."""
        with self._database.write() as connection:
            return connection.execute(delete(happenings).where(happenings.c.at < before)).rowcount


def _entry(row: Any) -> HappeningEntry:  # noqa: ANN401
    return HappeningEntry(str(row.id), row.workspace, row.kind, row.about, row.at, msgspec.json.decode(row.facts))
