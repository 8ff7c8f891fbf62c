"""SQL of the API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, LargeBinary, Row, String, Table, Uuid, insert, select, update

from discern.access.types import ApiKey
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("name", String(100), nullable=False),
    Column("secret_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)
_COLUMNS = (
    api_keys.c.id,
    api_keys.c.workspace,
    api_keys.c.name,
    api_keys.c.created_at,
    api_keys.c.revoked_at,
)


class KeyStore:
    """API keys in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: ApiKey, secret_sha256: bytes, *, only_if_none: bool = False) -> bool:
        """Store a key; with `only_if_none` only where the workspace has never had one. Tell whether it was stored."""
        with self._database.write() as connection:
            if only_if_none:
                query = select(api_keys.c.id).where(api_keys.c.workspace == key.workspace).limit(1)
                if connection.execute(query).first() is not None:
                    return False
            values = {
                "id": key.id,
                "workspace": key.workspace,
                "name": key.name,
                "secret_sha256": secret_sha256,
                "created_at": key.created_at,
            }
            connection.execute(insert(api_keys).values(values))
        return True

    def by_secret(self, secret_sha256: bytes) -> ApiKey | None:
        """Return the key with this fingerprint, revoked or not."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(api_keys.c.secret_sha256 == secret_sha256)).first()
        return None if row is None else _key(row)

    def all(self, workspace: str) -> list[ApiKey]:
        """Return every key of a workspace, oldest first."""
        with self._database.read() as connection:
            query = select(*_COLUMNS).where(api_keys.c.workspace == workspace).order_by(api_keys.c.id)
            return [_key(row) for row in connection.execute(query)]

    def revoke(self, workspace: str, key_id: UUID, now: datetime) -> bool:
        """Mark a key revoked. Tell whether there was such a live key."""
        with self._database.write() as connection:
            live = (api_keys.c.workspace == workspace) & (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
            return connection.execute(update(api_keys).where(live).values(revoked_at=now)).rowcount == 1


def _key(row: Row[Any, Any, Any, Any, Any]) -> ApiKey:
    return ApiKey(
        id=row.id, workspace=row.workspace, name=row.name, created_at=row.created_at, revoked_at=row.revoked_at
    )
