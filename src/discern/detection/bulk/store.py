"""SQL of the runs: what was scored with what, from what and to what; the verdicts are in the file.

- A run is written when it begins, and once more when it is done.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
from sqlalchemy import Column, Index, LargeBinary, String, Table, Uuid, func, insert, select, update

from discern.detection.bulk.types import Run
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.old_rows import OldRows
from discern.store.types import UtcDateTime

runs = Table(
    "runs",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("principal", String(100), nullable=False),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("body", LargeBinary(), nullable=False),
    Index("ix_runs_workspace_id", "workspace", "id"),
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Run).decode


def old_runs(database: Database) -> OldRows:
    """Return the runs that ended before a time, or began before it and never did."""
    return OldRows(database, runs, lambda before: func.coalesce(runs.c.finished_at, runs.c.started_at) < before)


class RunStore:
    """The runs in the database. The body column holds the whole run in JSON."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, run: Run) -> None:
        """Write a run that is begun; one that is there already is left as it is. Raises StorageUnavailable."""
        with self._database.write() as connection:
            known = connection.execute(select(runs.c.id).where(runs.c.id == UUID(run.id))).first()
            if known is None:
                connection.execute(insert(runs), [self._row(run)])

    def finish(self, run: Run) -> None:
        """Write what a run came to. Raises StorageUnavailable."""
        with self._database.write() as connection:
            changed = update(runs).where(runs.c.id == UUID(run.id), runs.c.workspace == run.workspace)
            connection.execute(changed.values(finished_at=run.finished_at, body=_encode(run)))

    def get(self, workspace: str, run_id: UUID) -> Run | None:
        """Return one run of a workspace."""
        query = select(runs.c.body).where(runs.c.workspace == workspace, runs.c.id == run_id)
        with self._database.read() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else _decode(body)

    def page(self, workspace: str, limit: int, after: UUID | None = None) -> list[Run]:
        """Return runs, newest first, at most `limit`, those older than `after`."""
        query = select(runs.c.body).where(runs.c.workspace == workspace)
        if after is not None:
            query = query.where(runs.c.id < after)
        with self._database.read() as connection:
            return [
                _decode(body) for body in connection.execute(query.order_by(runs.c.id.desc()).limit(limit)).scalars()
            ]

    @staticmethod
    def _row(run: Run) -> dict[str, object]:
        return {
            "id": UUID(run.id),
            "workspace": run.workspace,
            "principal": run.principal,
            "detector": run.detector,
            "version": run.version,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "body": _encode(run),
        }
