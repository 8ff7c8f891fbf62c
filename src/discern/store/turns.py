"""What one process at a time does for all: whoever has the turn goes on having it, until it dies or gives it back.

- A turn is had by one holder at a time, as far as their clocks agree to within the length of a turn.
- Whoever dies holding one is waited for until it runs out.
- One that is held for longer than anybody ever takes it was taken before the clock was put back: whoever has it writes
  it anew, and where nobody does it is free.
- The rows are of the first workspace: a turn is for the whole installation.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    PrimaryKeyConstraint,
    String,
    Table,
    Uuid,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from discern.core.clock import Clock, utc_now
from discern.core.ids import uuid7
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

turns = Table(
    "turns",
    metadata,
    workspace_column(),
    Column("name", String(64), nullable=False),
    Column("holder", Uuid(), nullable=False),
    Column("held_until", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace", "name"),
)


StillHeld = Callable[[Connection], bool]
"""Tells, in the caller's transaction, whether a turn is still that of who had it."""


def held_since(database: Database, since: datetime) -> set[str]:
    """Return the names of the turns that somebody has had since, or has. Raises StorageUnavailable."""
    query = select(turns.c.name).where(turns.c.workspace == DEFAULT_WORKSPACE, turns.c.held_until >= since)
    with database.read() as connection:
        return set(connection.execute(query).scalars())


_FAR_AHEAD = 3
"""Lengths of a turn that clocks differ by at most: one that lasts for longer is of a clock that was put back."""


class Turn:
    """One thing that one process at a time does. `seconds` is what whoever died holding it is waited for."""

    def __init__(self, database: Database, name: str, *, seconds: float = 15.0, clock: Clock = utc_now) -> None:
        self._database = database
        self._name = name
        self._length = timedelta(seconds=seconds)
        self._clock = clock
        self._holder: UUID = uuid7()

    def take(self) -> bool:
        """Take the turn, or keep it; tell whether it is ours. Raises StorageUnavailable.

        Nothing is written while another has it, nor before a third of ours is over.
        """
        now = self._clock()
        with self._database.read() as connection:
            found = connection.execute(select(turns.c.holder, turns.c.held_until).where(self._row())).first()
        if found is not None and now < found.held_until <= self._far(now):
            if found.holder != self._holder:
                return False
            if found.held_until - now > self._length * 2 / 3:
                return True
        return self._is_written(now, now + self._length)

    def is_held(self, connection: Connection) -> bool:
        """Tell, in the caller's transaction, whether nobody else has taken the turn since it was ours."""
        query = select(turns.c.holder).where(self._row())
        return connection.execute(query).scalar() == self._holder

    def give_back(self) -> None:
        """Let another process have it at once. Raises StorageUnavailable."""
        with self._database.write() as connection:
            connection.execute(delete(turns).where(self._row(), turns.c.holder == self._holder))

    def _far(self, now: datetime) -> datetime:
        return now + self._length * _FAR_AHEAD

    def _row(self) -> ColumnElement[bool]:
        return and_(turns.c.workspace == DEFAULT_WORKSPACE, turns.c.name == self._name)

    def _is_written(self, now: datetime, until: datetime) -> bool:
        held = {"holder": self._holder, "held_until": until}
        is_over = or_(turns.c.held_until <= now, turns.c.held_until > self._far(now))
        free = or_(turns.c.holder == self._holder, is_over)
        try:
            with self._database.write() as connection:
                if connection.execute(update(turns).where(self._row(), free).values(held)).rowcount == 1:
                    return True
                if connection.execute(select(turns.c.holder).where(self._row())).first() is not None:
                    return False  # somebody else was quicker
                values = {"workspace": DEFAULT_WORKSPACE, "name": self._name, **held}
                connection.execute(insert(turns).values(values))
        except IntegrityError:  # somebody else was first
            return False
        return True
