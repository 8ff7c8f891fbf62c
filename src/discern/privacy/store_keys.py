"""SQL of the subjects' keys, in a database of their own.

- A backup of the ledger does not hold them, so that a key that was shredded here is nowhere.
- What was erased is remembered beside them: a ledger that is restored from before is brought up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    Column,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from discern.store.database import Database
from discern.store.types import UtcDateTime

_metadata = MetaData()
subject_keys = Table(
    "subject_keys",
    _metadata,
    Column("workspace", String(64), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("key_id", LargeBinary(16), nullable=False, unique=True),
    Column("wrapped", LargeBinary(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace", "reference"),
)
reference_secrets = Table(
    "reference_secrets",
    _metadata,
    Column("workspace", String(64), primary_key=True),
    Column("wrapped", LargeBinary(), nullable=False),
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


class StoredKey(NamedTuple):
    """A subject's key as it is kept: under the master key."""

    key_id: bytes
    wrapped: bytes


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

    def reference_secret(self, workspace: str, make: Callable[[], bytes]) -> bytes:
        """Return the secret that names of a workspace are told by, as it is kept; `make` makes it at the first."""
        query = select(reference_secrets.c.wrapped).where(reference_secrets.c.workspace == workspace)
        with self._database.read() as connection:
            known = connection.execute(query).scalar()
        if known is not None:
            return bytes(known)
        try:
            with self._database.write() as connection:
                connection.execute(insert(reference_secrets).values(workspace=workspace, wrapped=make()))
        except IntegrityError:
            pass  # another process was quicker
        with self._database.read() as connection:
            return bytes(connection.execute(query).scalar_one())

    def get(self, workspace: str, reference: str) -> StoredKey | None:
        """Return the key of a subject."""
        query = select(subject_keys.c.key_id, subject_keys.c.wrapped)
        with self._database.read() as connection:
            row = connection.execute(
                query.where(subject_keys.c.workspace == workspace, subject_keys.c.reference == reference)
            ).first()
        return None if row is None else StoredKey(*row)

    def add(self, workspace: str, reference: str, key: StoredKey, now: datetime) -> StoredKey:
        """Keep a key for a subject, and return it; or the one that another process has made meanwhile."""
        row = {"workspace": workspace, "reference": reference, "created_at": now, **key._asdict()}
        try:
            with self._database.write() as connection:
                connection.execute(insert(subject_keys).values(row))
        except IntegrityError:
            return self.get(workspace, reference) or key
        return key

    def some(self, workspace: str, key_ids: Collection[bytes]) -> list[StoredKey]:
        """Return those of the keys that are there."""
        query = select(subject_keys.c.key_id, subject_keys.c.wrapped)
        with self._database.read() as connection:
            rows = connection.execute(
                query.where(subject_keys.c.workspace == workspace, subject_keys.c.key_id.in_(key_ids))
            ).all()
        return [StoredKey(*row) for row in rows]

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
        self._database.wipe_deleted("subject_keys")
        return bytes(key_id)

    def erased(self, after: tuple[str, bytes], most: int) -> list[tuple[str, bytes]]:
        """Return workspaces and ids of keys that were shredded, in their order, after one of them."""
        place = tuple_(erasures.c.workspace, erasures.c.key_id)
        query = select(erasures.c.workspace, erasures.c.key_id).where(place > after)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(erasures.c.workspace, erasures.c.key_id).limit(most)).all()
        return [(workspace, bytes(key_id)) for workspace, key_id in rows]

    def counts(self, workspace: str) -> tuple[int, int]:
        """Return how many subjects of a workspace have a key, and how many erasures there were."""
        with self._database.read() as connection:
            known = connection.execute(
                select(func.count()).select_from(subject_keys).where(subject_keys.c.workspace == workspace)
            ).scalar_one()
            gone = connection.execute(
                select(func.count()).select_from(erasures).where(erasures.c.workspace == workspace)
            ).scalar_one()
        return known, gone
