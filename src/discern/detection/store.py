"""SQL of the ledger.

- A verdict is written once and never changed.
- Reading a page costs the same however many verdicts there are: it continues after an id, on an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import CheckConstraint, Column, Float, Index, LargeBinary, Select, String, Table, Uuid, insert, select

from discern.core.verdict import Verdict
from discern.detection.types import VerdictPage, VerdictQuery
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("principal", String(100), nullable=False),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("decision", String(8), nullable=False),
    Column("score", Float(), nullable=False),
    Column("input_sha256", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("body", LargeBinary(), nullable=False),
    CheckConstraint("decision IN ('clear', 'review', 'flag')", name="ck_verdicts_decision"),
    Index("ix_verdicts_workspace_id", "workspace", "id"),
    Index("ix_verdicts_workspace_detector_id", "workspace", "detector", "id"),
    Index("ix_verdicts_workspace_decision_id", "workspace", "decision", "id"),
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Verdict).decode


class VerdictStore:
    """The ledger in the database. The body column holds the verdict as it was answered, in JSON."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Sequence[tuple[Verdict, str]]) -> None:
        """Write verdicts with their principals in one transaction, or raise StorageUnavailable and write none."""
        rows = [
            {
                "id": UUID(verdict.id),
                "workspace": verdict.workspace,
                "principal": principal,
                "detector": verdict.detector,
                "version": verdict.version,
                "decision": verdict.decision,
                "score": verdict.score,
                "input_sha256": verdict.input.sha256,
                "created_at": verdict.created_at,
                "body": _encode(verdict),
            }
            for verdict, principal in entries
        ]
        with self._database.write() as connection:
            connection.execute(insert(verdicts), rows)

    def get(self, workspace: str, verdict_id: UUID) -> Verdict | None:
        """Return one verdict of a workspace."""
        query = select(verdicts.c.body).where(verdicts.c.workspace == workspace, verdicts.c.id == verdict_id)
        with self._database.read() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else _decode(body)

    def page(self, query: VerdictQuery) -> VerdictPage:
        """Return verdicts newest first."""
        with self._database.read() as connection:
            found = [_decode(body) for body in connection.execute(page_statement(query)).scalars()]
        page, more = tuple(found[: query.limit]), len(found) > query.limit
        return VerdictPage(verdicts=page, next=page[-1].id if more else None)


def page_statement(query: VerdictQuery) -> Select[bytes]:
    """Return the query behind `page`: one row more than asked for, which tells whether there is a next page."""
    statement = select(verdicts.c.body).where(verdicts.c.workspace == query.workspace)
    if query.after is not None:
        statement = statement.where(verdicts.c.id < query.after)
    if query.detector is not None:
        statement = statement.where(verdicts.c.detector == query.detector)
    if query.decision is not None:
        statement = statement.where(verdicts.c.decision == query.decision)
    return statement.order_by(verdicts.c.id.desc()).limit(query.limit + 1)
