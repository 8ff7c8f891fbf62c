"""SQL of the ledger.

- A verdict is written once and never changed.
- Reading a page costs the same however many verdicts there are: it continues after an id, on an index.
- On PostgreSQL the ledger is in a part for each month (`store/partitions.py`), and what is said here of an index holds
  of each: a page is read off the newest parts, one verdict off its own.
- Every index is paid for with every verdict, so there is one beside the primary key: a page that is filtered by less
  than it holds is put together from as many stretches of it as there are detectors and decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from heapq import nlargest
from itertools import chain
from typing import Any, get_args
from uuid import UUID

import msgspec
from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    Uuid,
    func,
    insert,
    select,
)

from discern.core.months import least_id
from discern.core.verdict import Decision, Verdict
from discern.detection.types import VerdictPage, VerdictQuery
from discern.store.database import Database, Reader
from discern.store.metadata import metadata, workspace_column
from discern.store.old_rows import OldRows
from discern.store.types import UtcDateTime

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Uuid(), nullable=False),
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
    PrimaryKeyConstraint("workspace", "id"),
    Index("ix_verdicts_workspace_detector_decision_id", "workspace", "detector", "decision", "id"),
)
# Many rows a statement: the interpreter is let go and taken again once a statement, and an event loop that is busy
# meanwhile does not give it back at once.
_PLACES = f"({', '.join('?' * len(verdicts.columns))})"
_INSERTS = {
    size: f"INSERT INTO verdicts ({', '.join(verdicts.columns.keys())}) VALUES {', '.join([_PLACES] * size)}"  # nosec B608  # noqa: S608 - names of our own columns
    for size in (64, 16, 4, 1)
}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Verdict).decode


class VerdictStore:
    """The ledger in the database. The body column holds the verdict as it was answered, in JSON.

    Pages are read by `pages`, which may be some seconds behind; one verdict is read where it was written.
    """

    def __init__(self, database: Database, pages: Reader | None = None) -> None:
        self._database = database
        self._pages: Reader = pages or database

    def append(self, entries: Sequence[tuple[Verdict, str]]) -> None:
        """Write verdicts with their principals in one transaction, or raise StorageUnavailable and write none."""
        if self._database.dialect == "sqlite":
            self._database.write_statements(_statements(entries))
            return
        with self._database.write() as connection:
            connection.execute(insert(verdicts), [_row(verdict, principal) for verdict, principal in entries])

    @property
    def is_quick(self) -> bool:
        """Whether `append_at_once` may ever write."""
        return self._database.is_quick

    def append_at_once(self, entries: Sequence[tuple[Verdict, str]]) -> bool:
        """Write verdicts where nobody and nothing has to be waited for; tell whether they were written."""
        return self._database.is_quick and self._database.write_at_once(_statements(entries))

    def tidy(self) -> None:
        """Do the work that writing leaves, as far as it goes beside further writing."""
        self._database.checkpoint()

    def finish_tidying(self) -> None:
        """Do what is left of it, which others wait for."""
        self._database.restart_log()

    def get(self, workspace: str, verdict_id: UUID) -> Verdict | None:
        """Return one verdict of a workspace."""
        query = select(verdicts.c.body).where(verdicts.c.workspace == workspace, verdicts.c.id == verdict_id)
        with self._database.read() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else _decode(body)

    def page(self, query: VerdictQuery) -> VerdictPage:
        """Return verdicts newest first."""
        most = query.limit + 1  # one more tells whether there is a next page
        found = [_decode(body) for body in self._pages.ask(partial(_bodies, query, most))]
        page, more = tuple(found[: query.limit]), len(found) > query.limit
        return VerdictPage(verdicts=page, next=page[-1].id if more else None)


def old_verdicts(database: Database) -> OldRows:
    """Return the verdicts that were asked for before a time, which their ids tell."""
    return OldRows(database, verdicts, lambda before: verdicts.c.id < least_id(before))


def _row(verdict: Verdict, principal: str) -> dict[str, Any]:
    return {
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


def _sqlite_row(verdict: Verdict, principal: str) -> tuple[Any, ...]:
    """Return a row as SQLite stores it, in the order of the columns; what SQLAlchemy's types do costs more."""
    return (
        verdict.id.replace("-", ""),
        verdict.workspace,
        principal,
        verdict.detector,
        verdict.version,
        verdict.decision,
        verdict.score,
        verdict.input.sha256,
        _as_sqlite_has_it(verdict.created_at),
        _encode(verdict),
    )


@lru_cache(maxsize=8)  # the verdicts of a batch have one time
def _as_sqlite_has_it(moment: datetime) -> str:
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(" ", "microseconds")[:26]


def _statements(entries: Sequence[tuple[Verdict, str]]) -> Iterator[tuple[str, list[Any]]]:
    start = 0
    for size, sql in _INSERTS.items():
        while len(entries) - start >= size:
            yield sql, [value for one in entries[start : start + size] for value in _sqlite_row(*one)]
            start += size


def stretch_statement(query: VerdictQuery, detector: str, decision: Decision) -> Select[Any]:
    """Return the ids of one detector and decision, newest first: one stretch of the index."""
    return _newest(query, verdicts.c.id).where(verdicts.c.detector == detector, verdicts.c.decision == decision)


def _newest(query: VerdictQuery, column: ColumnElement[Any]) -> Select[Any]:
    statement = select(column).where(verdicts.c.workspace == query.workspace)
    if query.after is not None:
        statement = statement.where(verdicts.c.id < query.after)
    return statement.order_by(verdicts.c.id.desc())


def _readable(connection: Connection, query: VerdictQuery) -> list[str] | None:
    """Return the detectors whose verdicts are asked for and may be seen; None where that is all of them."""
    if query.may_read is None:
        return [query.detector] if query.detector else None
    there = [query.detector] if query.detector else _detectors(connection, query.workspace)
    readable = [name for name in there if query.may_read(name)]
    return None if not query.detector and readable == there else readable


def _bodies(query: VerdictQuery, most: int, connection: Connection) -> Sequence[bytes]:
    detectors = _readable(connection, query)
    if query.decision is None and detectors is None:
        return connection.execute(_newest(query, verdicts.c.body).limit(most)).scalars().all()
    stretches = (
        connection.execute(stretch_statement(query, detector, decision).limit(most)).scalars()
        for detector in (_detectors(connection, query.workspace) if detectors is None else detectors)
        for decision in ([query.decision] if query.decision else get_args(Decision))
    )
    ids = nlargest(most, chain.from_iterable(stretches))
    chosen = verdicts.c.workspace == query.workspace, verdicts.c.id.in_(ids)
    newest_first = select(verdicts.c.body).where(*chosen).order_by(verdicts.c.id.desc())
    return connection.execute(newest_first).scalars().all() if ids else []


def _detectors(connection: Connection, workspace: str) -> list[str]:
    """Return the names of the detectors that have verdicts, by a step on the index for each."""
    found = [""]
    while True:
        following = select(func.min(verdicts.c.detector)).where(
            verdicts.c.workspace == workspace, verdicts.c.detector > found[-1]
        )
        name = connection.execute(following).scalar()
        if name is None:
            return found[1:]
        found.append(name)
