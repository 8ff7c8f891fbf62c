"""Rows that get old, deleted a few at a time.

- Rows are chosen and deleted in one transaction, the oldest ids first; what goes with their deletion is in it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, func, select

from discern.store.database import Database

Also = Callable[[Connection, int], None]


class OldRows:
    """The rows of `table`, which has columns `workspace` and `id`, for which `is_old` holds of a time.

    `linked` is a column of another table that holds such ids: its rows go along.
    """

    def __init__(
        self,
        database: Database,
        table: Table,
        is_old: Callable[[datetime], ColumnElement[bool]],
        *,
        linked: Column[UUID] | None = None,
    ) -> None:
        self._database = database
        self._linked = linked
        self._table = table
        self._is_old = is_old

    def count(self, workspace: str, before: datetime) -> int:
        """Return how many rows a workspace has from before a time."""
        theirs = self._table.c.workspace == workspace
        with self._database.read() as connection:
            query = select(func.count()).select_from(self._table).where(theirs, self._is_old(before))
            return connection.execute(query).scalar_one()

    def delete(self, workspace: str, before: datetime, most: int, also: Also) -> Sequence[UUID]:
        """Delete the oldest of them, at most `most`, `also` in the same transaction; return their ids."""
        table = self._table
        theirs = table.c.workspace == workspace
        oldest = select(table.c.id).where(theirs, self._is_old(before)).order_by(table.c.id).limit(most)
        with self._database.write() as connection:
            found = connection.execute(oldest).scalars().all()
            if found:
                gone = connection.execute(delete(table).where(theirs, table.c.id.in_(found))).rowcount
                if self._linked is not None:
                    links = self._linked.table
                    connection.execute(delete(links).where(links.c.workspace == workspace, self._linked.in_(found)))
                also(connection, gone)
        return found
