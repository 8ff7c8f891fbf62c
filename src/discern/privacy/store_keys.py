"""SQL of the subjects' keys, in a database of their own.

- What the names of a workspace are told by is a key like a subject's, of nobody: its reference is empty.
- A backup of the ledger does not hold them, so that a key that was shredded here is nowhere.
- What was erased is remembered beside them: a ledger that is restored from before is brought up to it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from discern.objects.types import WrappedKey
from discern.store.database import Database
from discern.store.types import UtcDateTime

_metadata = MetaData()
subject_keys = Table(
    "subject_keys",
    _metadata,
    Column("workspace", String(64), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("key_id", LargeBinary(16), nullable=False, unique=True),
    Column("wrapped_by", String(300), nullable=False),
    Column("wrapped", LargeBinary(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace", "reference"),
)
erasures = Table(
    "erasures",
    _metadata,
    Column("workspace", String(64), nullable=False),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("erased_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace", "key_id"),
)

_ERASED = select(erasures.c.workspace, erasures.c.key_id, erasures.c.reference, erasures.c.erased_at)
_KEYS = select(*(subject_keys.c[name] for name in ("workspace", "key_id", "wrapped_by", "wrapped")))


class StoredKey(NamedTuple):
    """A subject's key as it is kept: under a master key."""

    workspace: str
    key_id: bytes
    wrapped: WrappedKey


class Erased(NamedTuple):
    """A subject who was erased, and the id of the key that was shredded."""

    workspace: str
    key_id: bytes
    reference: str
    at: datetime


class SubjectKeyStore:
    """The keys in their database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self) -> None:
        """Open the database."""
        self._database.open()

    def close(self) -> None:
        """Give everything back."""
        self._database.close()

    def get(self, workspace: str, reference: str) -> StoredKey | None:
        """Return the key of a subject."""
        query = _KEYS.where(subject_keys.c.workspace == workspace, subject_keys.c.reference == reference)
        return next(iter(self._found(query)), None)

    def add(self, reference: str, key: StoredKey, now: datetime) -> StoredKey:
        """Keep a key for a subject, and return it; or the one that another process has made meanwhile."""
        row = {"workspace": key.workspace, "reference": reference, "key_id": key.key_id, "created_at": now}
        row |= {"wrapped_by": key.wrapped.key_id, "wrapped": key.wrapped.blob}
        try:
            with self._database.write() as connection:
                connection.execute(insert(subject_keys).values(row))
        except IntegrityError:
            return self.get(key.workspace, reference) or key
        return key

    def some(self, key_ids: Collection[bytes]) -> list[StoredKey]:
        """Return those of the keys that are there, whichever workspace's they are."""
        return self._found(_KEYS.where(subject_keys.c.key_id.in_(key_ids)))

    def uses(self) -> dict[str, int]:
        """Return how many keys each version of a master key wraps."""
        by = subject_keys.c.wrapped_by
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(select(by, func.count()).group_by(by))}

    def pending(self, current: str, after: bytes, most: int) -> list[StoredKey]:
        """Return keys that another version of a master key wraps, in the order of their ids."""
        query = _KEYS.where(subject_keys.c.wrapped_by != current, subject_keys.c.key_id > after)
        return self._found(query.order_by(subject_keys.c.key_id).limit(most))

    def replace(self, key_id: bytes, old: WrappedKey, fresh: WrappedKey) -> int:
        """Write a key that was wrapped anew, but for one that has changed or gone meanwhile; return how many."""
        mine = update(subject_keys).where(subject_keys.c.key_id == key_id, subject_keys.c.wrapped == old.blob)
        with self._database.write() as connection:
            return connection.execute(mine.values(wrapped_by=fresh.key_id, wrapped=fresh.blob)).rowcount

    def shred(self, workspace: str, reference: str, now: datetime) -> bytes | None:
        """Delete the key of a subject so that nothing of it is left, and remember that; return its id."""
        mine = subject_keys.c.workspace == workspace, subject_keys.c.reference == reference
        with self._database.write() as connection:
            key_id = connection.execute(select(subject_keys.c.key_id).where(*mine).with_for_update()).scalar()
            if key_id is None:
                return None
            row = {"workspace": workspace, "key_id": key_id, "reference": reference, "erased_at": now}
            connection.execute(insert(erasures).values(row))
            connection.execute(delete(subject_keys).where(*mine))
        return bytes(key_id)

    def wipe(self) -> None:
        """Leave nothing of keys that were shredded in the files."""
        self._database.wipe_deleted("subject_keys")

    def erased(self, after: tuple[str, bytes], most: int) -> list[Erased]:
        """Return what was erased, in the order of workspaces and keys, after one of them."""
        place = tuple_(erasures.c.workspace, erasures.c.key_id)
        query = _ERASED.where(place > after).order_by(erasures.c.workspace, erasures.c.key_id).limit(most)
        with self._database.read() as connection:
            return [_erased(row) for row in connection.execute(query)]

    def erased_of(self, workspace: str, reference: str) -> list[Erased]:
        """Return the erasures of a subject."""
        mine = erasures.c.workspace == workspace, erasures.c.reference == reference
        with self._database.read() as connection:
            return [_erased(row) for row in connection.execute(_ERASED.where(*mine))]

    def _found(self, query: Select[Any]) -> list[StoredKey]:
        with self._database.read() as connection:
            return [
                StoredKey(row.workspace, bytes(row.key_id), WrappedKey(row.wrapped_by, bytes(row.wrapped)))
                for row in connection.execute(query)
            ]

    def counts(self, workspace: str) -> tuple[int, int]:
        """Return how many subjects of a workspace have a key, and how many erasures there were."""
        with self._database.read() as connection:
            known = connection.execute(
                select(func.count()).where(subject_keys.c.workspace == workspace, subject_keys.c.reference != "")
            ).scalar_one()
            gone = connection.execute(
                select(func.count()).select_from(erasures).where(erasures.c.workspace == workspace)
            ).scalar_one()
        return known, gone


def _erased(row: Any) -> Erased:  # noqa: ANN401 - a row of SQLAlchemy
    return Erased(row.workspace, bytes(row.key_id), row.reference, row.erased_at)
