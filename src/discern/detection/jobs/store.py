"""SQL of jobs.

- A job is held by one process at a time: who takes it sets a lease, and only a lease that has run out is taken over.
- What has ended never changes its state again. Where somebody is to be told of it, whoever does so claims it for a
  while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    Uuid,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from discern.core.ids import uuid7
from discern.detection.jobs.types import Delivery, Job, JobPage, JobState
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.old_rows import OldRows
from discern.store.types import UtcDateTime

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("principal", String(100), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("cancelled", Boolean(), nullable=False),
    Column("progress", Float(), nullable=False),
    Column("rows", Integer(), nullable=False),
    Column("bytes", BigInteger(), nullable=False),
    Column("verdict_id", Uuid()),
    Column("webhook", Text()),
    Column("error", LargeBinary()),
    Column("told", Boolean(), nullable=False),
    Column("tell_at", UtcDateTime),
    Column("not_judged", Integer(), nullable=False),
    Column("subject", String(64)),
    Column("trace", String(55)),
    Column("takes", Integer(), nullable=False),
    Column("holder", String(64)),
    Column("lease_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Index("ix_jobs_workspace_id", "workspace", "id"),
    Index("ix_jobs_state", "state", "id"),
)
deliveries = Table(
    "job_deliveries",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("job", Uuid(), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("status", Integer()),
    Column("error", Text()),
    Index("ix_job_deliveries_job", "job", "id"),
)
_OPEN = ("waiting", "running")
_MOST_AT_ONCE = 1000
_UNFINISHED = jobs.c.state.in_(_OPEN)
_TO_TELL = and_(jobs.c.state.notin_(_OPEN), jobs.c.told.is_(False))


class JobStore:
    """The jobs in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: Job) -> None:
        """Write a job that waits."""
        values = msgspec.structs.asdict(job)
        values |= {"id": UUID(job.id), "verdict_id": UUID(job.verdict_id) if job.verdict_id else None}
        columns = {column.name for column in jobs.columns}
        row = {name: value for name, value in values.items() if name in columns}
        row |= {"cancelled": False, "error": None, "told": job.webhook is None, "takes": 0}
        with self._database.write() as connection:
            connection.execute(insert(jobs).values(row))

    def get(self, workspace: str, job_id: UUID) -> Job | None:
        """Return one job of a workspace, with its deliveries."""
        query = select(jobs).where(jobs.c.workspace == workspace, jobs.c.id == job_id)
        attempts = select(deliveries).where(deliveries.c.job == job_id).order_by(deliveries.c.id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
            made = connection.execute(attempts).all() if row is not None else []
        return None if row is None else _job(row, [Delivery(one.at, one.status, one.error) for one in made])

    def page(
        self, workspace: str, limit: int, after: UUID | None, may_read: Callable[[str], bool] = lambda _: True
    ) -> JobPage:
        """Return jobs, newest first, of the detectors of which `may_read` says so."""
        ours = jobs.c.workspace == workspace
        query = select(jobs).where(ours)
        if after is not None:
            query = query.where(jobs.c.id < after)
        with self._database.read() as connection:
            there = connection.execute(select(jobs.c.detector).where(ours).distinct()).scalars().all()
            query = query.where(jobs.c.detector.in_([name for name in there if may_read(name)]))
            rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(limit + 1)).all()
            attempts = (
                select(deliveries).where(deliveries.c.job.in_([row.id for row in rows])).order_by(deliveries.c.id)
            )
            made: dict[UUID, list[Delivery]] = {}
            for one in connection.execute(attempts) if rows else ():
                made.setdefault(one.job, []).append(Delivery(one.at, one.status, one.error))
        found = tuple(_job(row, made.get(row.id, ())) for row in rows[:limit])
        return JobPage(found, found[-1].id if len(rows) > limit else None)

    def waiting(self, workspace: str) -> tuple[int, int]:
        """Return how many jobs wait or run, and how many of them are a workspace's."""
        own = func.count().filter(jobs.c.workspace == workspace)
        with self._database.read() as connection:
            row = connection.execute(select(func.count(), own).where(jobs.c.state.in_(_OPEN))).one()
        return row[0], row[1]

    def take(self, job_id: UUID, holder: str, now: datetime, until: datetime) -> Job | None:
        """Take a job until then, unless nothing is left to do for it, or somebody else's lease still holds."""
        free = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now, jobs.c.holder == holder)
        mine, running = (jobs.c.id == job_id, _UNFINISHED, free), jobs.c.state.in_(_OPEN)
        taken: dict[str, Any] = {"holder": holder, "lease_until": until, "takes": jobs.c.takes + 1}
        started = {"state": "running", "started_at": func.coalesce(jobs.c.started_at, now)}
        ended = {"state": "cancelled", "finished_at": now, "holder": None, "lease_until": None}
        with self._database.write() as connection:
            # Whoever ran it died before it could end what somebody had cancelled.
            connection.execute(update(jobs).where(*mine, jobs.c.cancelled.is_(True), running).values(**ended))
            if not connection.execute(update(jobs).where(*mine).values(**taken)).rowcount:
                return None
            open_ = (jobs.c.id == job_id, jobs.c.state.in_(_OPEN))
            connection.execute(update(jobs).where(*open_).values(**started))
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
        return _job(row)

    def renew(self, holder: str, until: datetime) -> set[str]:
        """Hold on to what is held until then; return the ids of those among it that are to be cancelled."""
        held = and_(jobs.c.holder == holder, _UNFINISHED)
        cancelled = select(jobs.c.id).where(held, jobs.c.state == "running", jobs.c.cancelled.is_(True))
        with self._database.write() as connection:
            connection.execute(update(jobs).where(held).values(lease_until=until))
            found = connection.execute(cancelled).scalars()
            return {str(job_id) for job_id in found}

    def release(self, holder: str, now: datetime) -> None:
        """Let go of what is held, for others to take over at once; what was cancelled has ended."""
        with self._database.write() as connection:
            held = and_(jobs.c.holder == holder, _UNFINISHED)
            free = {"holder": None, "lease_until": None}
            ended = {"state": "cancelled", "finished_at": now, **free}
            connection.execute(update(jobs).where(held, jobs.c.cancelled.is_(True)).values(**ended))
            connection.execute(update(jobs).where(held).values(state="waiting", **free))

    def due_to_tell(self, now: datetime, claim: timedelta, most: int) -> list[Job]:
        """Claim jobs whose webhooks are due, and return them with their deliveries; workspaces take turns."""
        due = or_(jobs.c.tell_at.is_(None), jobs.c.tell_at <= now)
        turn = func.row_number().over(partition_by=jobs.c.workspace, order_by=jobs.c.id)
        query = select(jobs.c.workspace, jobs.c.id).where(_TO_TELL, due).order_by(turn, jobs.c.id).limit(most)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        if not found:
            return []
        claimed = []
        with self._database.write() as connection:
            for workspace, job_id in found:
                mine = update(jobs).where(jobs.c.id == job_id, _TO_TELL, due).values(tell_at=now + claim)
                if connection.execute(mine).rowcount == 1:
                    claimed.append((workspace, job_id))
        jobs_there = (self.get(workspace, job_id) for workspace, job_id in claimed)
        return [job for job in jobs_there if job is not None]

    def advance(self, job_id: UUID, progress: float, rows: int) -> None:
        """Write how far a job is."""
        with self._database.write() as connection:
            mine = (jobs.c.id == job_id, jobs.c.state == "running")
            connection.execute(update(jobs).where(*mine).values(progress=progress, rows=rows))

    def finish(
        self,
        job_id: UUID,
        state: JobState,
        now: datetime,
        *,
        error: dict[str, Any] | None = None,
        rows: int | None = None,
        not_judged: int = 0,
    ) -> bool:
        """End a job, unless it has ended; tell whether this did."""
        values: dict[str, Any] = {"state": state, "finished_at": now, "not_judged": not_judged}
        if state == "done":
            values["progress"] = 1.0
        if error is not None:
            values["error"] = msgspec.json.encode(error)
        if rows is not None:
            values["rows"] = rows
        with self._database.write() as connection:
            mine = (jobs.c.id == job_id, jobs.c.state.in_(_OPEN))
            return bool(connection.execute(update(jobs).where(*mine).values(**values)).rowcount)

    def cancel(self, workspace: str, job_id: UUID, now: datetime) -> None:
        """End a job that waits, and have one that runs ended by whoever runs it."""
        mine = (jobs.c.workspace == workspace, jobs.c.id == job_id)
        with self._database.write() as connection:
            waits = update(jobs).where(*mine, jobs.c.state == "waiting")
            connection.execute(waits.values(state="cancelled", cancelled=True, finished_at=now))
            connection.execute(update(jobs).where(*mine, jobs.c.state == "running").values(cancelled=True))

    def all_about(self, workspace: str, reference: str) -> list[Job]:
        """Return the jobs about a subject without their deliveries, oldest first."""
        theirs = jobs.c.workspace == workspace, jobs.c.subject == reference
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(select(jobs).where(*theirs).order_by(jobs.c.id))]

    def about(self, workspace: str, reference: str, before: datetime) -> list[tuple[str, bool]]:
        """Return the ids of the jobs about a subject from before a time, each with whether it has ended."""
        theirs = jobs.c.workspace == workspace, jobs.c.subject == reference, jobs.c.created_at <= before
        query = select(jobs.c.id, jobs.c.state).where(*theirs)
        with self._database.read() as connection:
            return [(str(job_id), state not in _OPEN) for job_id, state in connection.execute(query)]

    def let_go_of(self, workspace: str, job_ids: Sequence[UUID]) -> None:
        """Delete who jobs are about, and what may tell of them: errors, webhooks and what came of telling these."""
        mine = (jobs.c.workspace == workspace, jobs.c.id.in_(job_ids))
        with self._database.write() as connection:
            connection.execute(delete(deliveries).where(deliveries.c.job.in_(job_ids)))
            connection.execute(
                update(jobs).where(*mine).values(subject=None, trace=None, error=None, webhook=None, told=True)
            )

    def unheld(self, now: datetime) -> list[tuple[str, int]]:
        """Return the ids of unfinished jobs that nobody holds, and how often each was taken."""
        lost = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now)
        query = select(jobs.c.id, jobs.c.takes).where(_UNFINISHED, lost).order_by(jobs.c.id).limit(_MOST_AT_ONCE)
        with self._database.read() as connection:
            return [(str(job_id), takes) for job_id, takes in connection.execute(query)]

    def delivered(self, job: Job, delivery: Delivery, again_at: datetime | None) -> None:
        """Write down an attempt to tell the webhook, and when the next is due; None where none is."""
        row = {"id": uuid7(), "workspace": job.workspace, "job": UUID(job.id), **msgspec.structs.asdict(delivery)}
        with self._database.write() as connection:
            connection.execute(insert(deliveries).values(row))
            told = update(jobs).where(jobs.c.id == UUID(job.id))
            connection.execute(told.values(told=again_at is None, tell_at=again_at))

    def tell_later(self, job: Job, at: datetime) -> None:
        """Have a webhook told at a time, without a try having been made."""
        with self._database.write() as connection:
            mine = update(jobs).where(jobs.c.id == UUID(job.id), _TO_TELL)
            connection.execute(mine.values(tell_at=at))

    def forget(self, before: datetime) -> list[tuple[str, str]]:
        """Delete jobs that ended before; return their workspaces and ids."""
        with self._database.write() as connection:
            gone = connection.execute(select(jobs.c.workspace, jobs.c.id).where(_is_over(before)).limit(500)).all()
            if gone:
                ids = [row.id for row in gone]
                connection.execute(delete(deliveries).where(deliveries.c.job.in_(ids)))
                connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
        return [(row.workspace, str(row.id)) for row in gone]


def old_jobs(database: Database) -> OldRows:
    """Return the jobs that ended before a time, and of which nobody is to be told any more."""
    return OldRows(database, jobs, _is_over)


def _is_over(before: datetime) -> ColumnElement[bool]:
    return and_(jobs.c.state.notin_(_OPEN), jobs.c.told.is_(True), jobs.c.finished_at < before)


def _job(row: Row[Any], made: Sequence[Delivery] = ()) -> Job:
    return Job(
        id=str(row.id),
        workspace=row.workspace,
        principal=row.principal,
        kind=row.kind,
        detector=row.detector,
        version=row.version,
        state=row.state,
        progress=row.progress,
        rows=row.rows,
        bytes=row.bytes,
        created_at=row.created_at,
        verdict_id=None if row.verdict_id is None else str(row.verdict_id),
        webhook=row.webhook,
        error=None if row.error is None else msgspec.json.decode(row.error),
        started_at=row.started_at,
        finished_at=row.finished_at,
        deliveries=tuple(made),
        not_judged=row.not_judged,
        subject=row.subject,
        trace=row.trace,
    )
