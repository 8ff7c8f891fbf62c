"""SQL of consents, and of what a workspace asks for. What changes them puts itself on the audit log with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Index,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    Uuid,
    delete,
    insert,
    select,
    update,
)

from discern.audit.ports import NoTrail, Trail
from discern.audit.types import Act
from discern.core.ids import uuid7
from discern.privacy.types import Consent, PrivacyRules
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

privacy_rules = Table(
    "privacy_rules",
    metadata,
    workspace_column(),
    Column("consent_required", Boolean(), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace"),
)
consents = Table(
    "consents",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("reference", String(64), nullable=False),
    Column("given", Boolean(), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("by", String(100), nullable=False),
    Column("source", String(200), nullable=False),
    Index("ix_consents_workspace_reference_id", "workspace", "reference", "id"),
)


class ConsentStore:
    """Consents in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, trail: Trail | None = None) -> None:
        self._database = database
        self._trail = trail or NoTrail()

    def rules(self, workspace: str) -> PrivacyRules:
        """Return what a workspace asks for."""
        query = select(privacy_rules.c.consent_required).where(privacy_rules.c.workspace == workspace)
        with self._database.read() as connection:
            return PrivacyRules(bool(connection.execute(query).scalar()))

    def set_rules(self, workspace: str, rules: PrivacyRules, now: datetime, act: Act) -> None:
        """Have a workspace ask for something else."""
        values = {"consent_required": rules.consent_required, "changed_at": now}
        with self._database.write() as connection:
            mine = update(privacy_rules).where(privacy_rules.c.workspace == workspace)
            if not connection.execute(mine.values(values)).rowcount:
                connection.execute(insert(privacy_rules).values(workspace=workspace, **values))
            self._trail.append(connection, act)

    def add(self, workspace: str, reference: str, consent: Consent, act: Act) -> None:
        """Write down what a subject has said."""
        row = {"id": uuid7(), "workspace": workspace, "reference": reference, **msgspec.structs.asdict(consent)}
        with self._database.write() as connection:
            connection.execute(insert(consents).values(row))
            self._trail.append(connection, act)

    def latest(self, workspace: str, reference: str) -> Consent | None:
        """Return what a subject said last."""
        query = _of(workspace, reference).order_by(consents.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Consent(*row)

    def all(self, workspace: str, reference: str) -> list[Consent]:
        """Return all that a subject has said, oldest first."""
        with self._database.read() as connection:
            return [
                Consent(*row) for row in connection.execute(_of(workspace, reference).order_by(consents.c.id)).all()
            ]

    def forget(self, workspace: str, reference: str, act: Act) -> None:
        """Delete what a subject has said."""
        with self._database.write() as connection:
            connection.execute(delete(consents).where(*_by(workspace, reference)))
            self._trail.append(connection, act)

    def forget_before(self, workspace: str, reference: str, at: datetime) -> int:
        """Delete what a subject said until a time; return how many consents there were."""
        with self._database.write() as connection:
            return connection.execute(delete(consents).where(*_by(workspace, reference), consents.c.at <= at)).rowcount


def _of(workspace: str, reference: str) -> Select[Any]:
    columns = consents.c.given, consents.c.at, consents.c.by, consents.c.source
    return select(*columns).where(*_by(workspace, reference))


def _by(workspace: str, reference: str) -> tuple[ColumnElement[bool], ...]:
    return consents.c.workspace == workspace, consents.c.reference == reference
