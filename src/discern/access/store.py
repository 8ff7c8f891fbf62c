"""SQL of workspaces and API keys.

- What changes a key puts itself on the audit log in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column, Index, LargeBinary, Row, String, Table, Text, Uuid, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from discern.access.types import ApiKey, Workspace
from discern.audit.ports import NoTrail, Trail
from discern.audit.types import Act
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column, workspaces
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
    Column("role", String(16), nullable=False),
    Column("detectors", Text()),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("certificate_sha256", String(64)),
    Index("ix_api_keys_certificate_sha256", "certificate_sha256"),
)
_COLUMNS = tuple(column for column in api_keys.c if column.name != "secret_sha256")


class KeyStore:
    """API keys in the database."""

    def __init__(self, database: Database, trail: Trail | None = None) -> None:
        self._database = database
        self._trail = trail or NoTrail()

    def add(self, key: ApiKey, secret_sha256: bytes, act: Act, *, only_if_none: bool = False) -> bool:
        """Store a key; with `only_if_none` only where the workspace has never had one. Tell whether it was stored."""
        with self._database.write() as connection:
            if only_if_none:
                query = select(api_keys.c.id).where(api_keys.c.workspace == key.workspace).limit(1)
                if connection.execute(query).first() is not None:
                    return False
            connection.execute(insert(api_keys).values(_values(key) | {"secret_sha256": secret_sha256}))
            self._trail.append(connection, act)
        return True

    def rotate(self, old: ApiKey, new: ApiKey, secret_sha256: bytes, act: Act) -> bool:
        """Store `new` and let `old` end when it says. Tell whether `old` was still live."""
        with self._database.write() as connection:
            ended = update(api_keys).where(*_live(old.workspace, old.id, new.created_at))
            if connection.execute(ended.values(expires_at=old.expires_at)).rowcount != 1:
                return False
            connection.execute(insert(api_keys).values(_values(new) | {"secret_sha256": secret_sha256}))
            self._trail.append(connection, act)
        return True

    def by_secret(self, secret_sha256: bytes) -> ApiKey | None:
        """Return the key with this fingerprint, revoked, expired or not."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(api_keys.c.secret_sha256 == secret_sha256)).first()
        return None if row is None else _key(row)

    def by_certificate(self, certificate_sha256: str) -> ApiKey | None:
        """Return the newest key that stands for a client certificate, revoked, expired or not."""
        bound = select(*_COLUMNS).where(api_keys.c.certificate_sha256 == certificate_sha256)
        with self._database.read() as connection:
            row = connection.execute(bound.order_by(api_keys.c.id.desc())).first()
        return None if row is None else _key(row)

    def get(self, workspace: str, key_id: UUID) -> ApiKey | None:
        """Return one key of a workspace."""
        query = select(*_COLUMNS).where(api_keys.c.workspace == workspace, api_keys.c.id == key_id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _key(row)

    def all(self, workspace: str) -> list[ApiKey]:
        """Return every key of a workspace, oldest first."""
        with self._database.read() as connection:
            query = select(*_COLUMNS).where(api_keys.c.workspace == workspace).order_by(api_keys.c.id)
            return [_key(row) for row in connection.execute(query)]

    def revoke(self, workspace: str, key_id: UUID, now: datetime, act: Act) -> bool:
        """Mark a key revoked. Tell whether there was such a live key."""
        with self._database.write() as connection:
            revoked = update(api_keys).where(*_live(workspace, key_id, now)).values(revoked_at=now)
            if connection.execute(revoked).rowcount != 1:
                return False
            self._trail.append(connection, act)
        return True

    def used(self, uses: Mapping[UUID, datetime]) -> None:
        """Note when keys were used."""
        with self._database.write() as connection:
            for key_id, at in uses.items():
                connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at))


class WorkspaceStore:
    """Workspaces in the database."""

    def __init__(self, database: Database, trail: Trail | None = None) -> None:
        self._database = database
        self._trail = trail or NoTrail()

    def add(self, workspace: Workspace, act: Act) -> bool:
        """Store a workspace. Tell whether there was none of its name."""
        try:
            with self._database.write() as connection:
                values = {"workspace": workspace.name, "created_at": workspace.created_at}
                connection.execute(insert(workspaces).values(values))
                self._trail.append(connection, act)
        except IntegrityError:
            if workspace.name not in {one.name for one in self.all()}:
                raise
            return False
        return True

    def all(self) -> list[Workspace]:
        """Return every workspace, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(workspaces).order_by(workspaces.c.workspace))
            return [Workspace(row.workspace, row.created_at) for row in rows]

    def first(self, most: int) -> list[str]:
        """Return the names of the workspaces that have been there longest, at most so many."""
        query = select(workspaces.c.workspace).order_by(workspaces.c.created_at, workspaces.c.workspace).limit(most)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())


def _live(workspace: str, key_id: UUID, now: datetime) -> tuple[Any, ...]:
    unexpired = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now)
    return api_keys.c.workspace == workspace, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None), unexpired


def _values(key: ApiKey) -> dict[str, Any]:
    values = msgspec.structs.asdict(key)
    return values | {"detectors": None if key.detectors is None else msgspec.json.encode(key.detectors).decode()}


def _key(row: Row[Any]) -> ApiKey:
    detectors = None if row.detectors is None else msgspec.json.decode(row.detectors, type=tuple[str, ...])
    return ApiKey(**{**row._mapping, "detectors": detectors})  # noqa: SLF001 - its public name
