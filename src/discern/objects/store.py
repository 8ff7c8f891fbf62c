"""SQL of kept objects and their wrapped keys.

- A row stands before the first byte is written and until the last one is deleted, so that no bytes lie anywhere
  without a row that says so.
- States: `writing`, `kept`, `gone`. What is gone has no key any more; the bytes follow, and then the row.
- There is one kept object of an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    Row,
    String,
    Table,
    Uuid,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from discern.objects.ports import MASTER_KINDS
from discern.objects.rules import object_context
from discern.objects.types import Address, Kept, WrappedKey, Wrapping
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

_IS_KEPT = text("state = 'kept'")
objects = Table(
    "objects",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("folder", String(120), nullable=False),
    Column("name", String(120), nullable=False),
    Column("state", String(8), nullable=False),
    Column("wrapped_by", String(300)),
    Column("wrapped", LargeBinary()),
    Column("created_at", UtcDateTime, nullable=False),
    Index(
        "uq_objects_kept",
        "workspace",
        "folder",
        "name",
        unique=True,
        sqlite_where=_IS_KEPT,
        postgresql_where=_IS_KEPT,
    ),
    Index("ix_objects_state_id", "state", "id"),
)
_GONE: dict[str, Any] = {"state": "gone", "wrapped_by": None, "wrapped": None}
_MOST_AT_ONCE = 500


class ObjectTable:
    """The objects in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, kept: Kept, now: datetime) -> None:
        """Write down an object that is about to be written."""
        row = {"id": kept.id, **kept.address._asdict(), "state": "writing", "created_at": now}
        with self._database.write() as connection:
            connection.execute(insert(objects).values(row | {"wrapped_by": kept.key.key_id, "wrapped": kept.key.blob}))

    def keep(self, object_id: UUID, address: Address, *, replace: bool) -> bool:
        """Make an object that was written the one of its address; tell whether it is."""
        others = and_(_at(address), objects.c.state == "kept", objects.c.id != object_id)
        ours = and_(objects.c.id == object_id, objects.c.state == "writing")
        while True:
            try:
                with self._database.write() as connection:
                    if replace:
                        connection.execute(update(objects).where(others).values(_GONE))
                    return connection.execute(update(objects).where(ours).values(state="kept")).rowcount == 1
            except IntegrityError:  # another one came to be kept meanwhile
                if not replace:
                    return False

    def get(self, address: Address) -> Kept | None:
        """Return the kept object of an address."""
        query = select(objects).where(_at(address), objects.c.state == "kept")
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Kept(row.id, address, WrappedKey(row.wrapped_by, row.wrapped))

    def names(self, workspace: str, folder: str) -> list[str]:
        """Return the names of a folder's kept objects, in order."""
        mine = (objects.c.workspace == workspace, objects.c.folder == folder, objects.c.state == "kept")
        with self._database.read() as connection:
            return sorted(connection.execute(select(objects.c.name).where(*mine)).scalars())

    def shred(self, workspace: str, folder: str, but: Sequence[str]) -> list[UUID]:
        """Forget the keys of a folder's objects, but for some names; return the ids."""
        mine = (objects.c.workspace == workspace, objects.c.folder == folder, objects.c.name.notin_(but))
        return self._shred(and_(*mine, objects.c.state != "gone"))

    def shred_one(self, object_id: UUID) -> None:
        """Forget the key of one object."""
        self._shred(objects.c.id == object_id)

    def shred_unfinished(self, before: datetime) -> None:
        """Forget the keys of objects whose writing began before a time and has not ended."""
        self._shred(and_(objects.c.state == "writing", objects.c.created_at < before))

    def gone(self) -> list[UUID]:
        """Return ids of objects whose bytes are to be deleted."""
        query = select(objects.c.id).where(objects.c.state == "gone").order_by(objects.c.id).limit(_MOST_AT_ONCE)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def forget(self, object_ids: Sequence[UUID]) -> None:
        """Delete the rows of objects whose bytes are deleted."""
        if object_ids:
            with self._database.write() as connection:
                connection.execute(delete(objects).where(objects.c.id.in_(object_ids), objects.c.state == "gone"))

    def wipe(self) -> None:
        """Leave nothing of keys that were forgotten in the files of the database."""
        self._database.wipe_deleted(objects.name)

    def folders(self, prefix: str, before: datetime) -> list[tuple[str, str]]:
        """Return workspace and folder of kept objects older than a time, of folders that begin with `prefix`."""
        old = (objects.c.state == "kept", objects.c.created_at < before, objects.c.folder.startswith(prefix))
        query = select(objects.c.workspace, objects.c.folder).where(*old).distinct()
        with self._database.read() as connection:
            return [(row.workspace, row.folder) for row in connection.execute(query)]

    def uses(self) -> dict[str, int]:
        """Return how many keys each version of a master key wraps."""
        query = (
            select(objects.c.wrapped_by, func.count().label("number"))
            .where(_by_a_master_key())
            .group_by(objects.c.wrapped_by)
        )
        with self._database.read() as connection:
            return {row.wrapped_by: row.number for row in connection.execute(query)}

    def pending(self, current: str, after: UUID | None, limit: int) -> list[Wrapping]:
        """Return keys that another version of a master key wraps, in the order of their ids."""
        query = select(objects).where(_by_a_master_key(), objects.c.wrapped_by != current)
        if after is not None:
            query = query.where(objects.c.id > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(objects.c.id).limit(limit)).all()
        return [_wrapping(row) for row in rows]

    def replace(self, moved: Sequence[tuple[Wrapping, WrappedKey]]) -> int:
        """Write keys that were wrapped anew, but for such as have changed or gone meanwhile; return how many."""
        count = 0
        with self._database.write() as connection:
            for old, key in moved:
                same = (objects.c.id == old.id, objects.c.wrapped == old.key.blob)
                count += connection.execute(
                    update(objects).where(*same).values(wrapped_by=key.key_id, wrapped=key.blob)
                ).rowcount
        return count

    def _shred(self, which: ColumnElement[bool]) -> list[UUID]:
        with self._database.write() as connection:
            return list(
                connection.execute(update(objects).where(which).values(_GONE).returning(objects.c.id)).scalars()
            )


def _at(address: Address) -> ColumnElement[bool]:
    workspace, folder, name = address
    return and_(objects.c.workspace == workspace, objects.c.folder == folder, objects.c.name == name)


def _by_a_master_key() -> ColumnElement[bool]:
    return or_(*(objects.c.wrapped_by.startswith(f"{kind}:") for kind in MASTER_KINDS))


def _wrapping(row: Row[Any]) -> Wrapping:
    address = Address(row.workspace, row.folder, row.name)
    return Wrapping(row.id, WrappedKey(row.wrapped_by, row.wrapped), object_context(row.id, address))
