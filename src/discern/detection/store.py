"""SQL of the ledger.

- A verdict is written once and never changed.
- Reading a page costs the same however many verdicts there are: it continues after an id, on an index.
- On PostgreSQL the ledger is in a part for each month (`store/partitions.py`), and what is said here of an index holds
  of each: a page is read off the newest parts, one verdict off its own.
- What is written is counted in the same transaction (`store_tallies.py`).
- Every index is paid for with every verdict, so there is one beside the primary key: a page that is filtered by less
  than it holds is put together from as many stretches of it as there are detectors and decisions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
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
    delete,
    func,
    insert,
    select,
)

from discern.core.errors import StorageUnavailable
from discern.core.months import least_id
from discern.core.sealing import key_id_of, opened, sealed
from discern.core.verdict import Decision, Verdict
from discern.detection.store_tallies import ADDS, Tallying
from discern.detection.types import LedgerEntry, VerdictPage, VerdictQuery
from discern.privacy.ports import NoSubjects, Seals
from discern.privacy.types import Subject
from discern.store.database import Database, Reader
from discern.store.metadata import metadata, workspace_column
from discern.store.old_rows import OldRows
from discern.store.types import UtcDateTime

log = logging.getLogger(__name__)
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
# Which verdicts are sealed with which subject's key.
verdict_subjects = Table(
    "verdict_subjects",
    metadata,
    workspace_column(),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("verdict_id", Uuid(), nullable=False),
    PrimaryKeyConstraint("workspace", "key_id", "verdict_id"),
)
_INSERT_LINK = "INSERT INTO verdict_subjects (workspace, key_id, verdict_id) VALUES (?, ?, ?)"
_AT_A_TIME = 500
_IDS_A_LOOK = 5000
_MOST_IDS = 100_000
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

    Of a verdict about a subject it holds that sealed, and the column of the input's digest nothing; `seals` opens it
    as long as the subject's key is there. Pages are read by `pages`, which may be some seconds behind; one verdict is
    read where it was written.
    """

    def __init__(self, database: Database, pages: Reader | None = None, seals: Seals | None = None) -> None:
        self._database = database
        self._pages: Reader = pages or database
        self._seals = seals or NoSubjects()
        self._tallying = Tallying()

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Write verdicts with their principals in one transaction, or raise StorageUnavailable and write none."""
        if self._database.dialect == "sqlite":
            self._database.write_statements(self._statements(entries))
            return
        about = [_link(entry.verdict, entry.subject) for entry in entries if entry.subject is not None]
        with self._database.write() as connection:
            connection.execute(insert(verdicts), [_row(entry) for entry in entries])
            connection.exec_driver_sql(ADDS["postgresql"], [tuple(row) for row in self._tallying.values(entries)])
            if about:
                connection.execute(insert(verdict_subjects), about)

    @property
    def is_quick(self) -> bool:
        """Whether `append_at_once` may ever write."""
        return self._database.is_quick

    def append_at_once(self, entries: Sequence[LedgerEntry]) -> bool:
        """Write verdicts where nobody and nothing has to be waited for; tell whether they were written."""
        return self._database.is_quick and self._database.write_at_once(self._statements(entries))

    def _statements(self, entries: Sequence[LedgerEntry]) -> Iterator[tuple[str, list[Any]]]:
        yield from _inserts(entries)
        for number, hour, *rest in self._tallying.values(entries):
            yield ADDS["sqlite"], [number, _as_sqlite_has_it(hour), *rest]

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
        return None if body is None else self._opened(workspace, [(verdict_id, body)])[0]

    def some(self, workspace: str, ids: Sequence[UUID]) -> dict[UUID, tuple[Verdict, bytes | None]]:
        """Return those of the verdicts that are there, each with the id of the key it is sealed with, if it is."""
        rows: list[tuple[UUID, bytes]] = []
        with self._database.read() as connection:
            for start in range(0, len(ids), _AT_A_TIME):
                mine = verdicts.c.workspace == workspace, verdicts.c.id.in_(ids[start : start + _AT_A_TIME])
                query = select(verdicts.c.id, verdicts.c.body).where(*mine)
                rows += [(row.id, row.body) for row in connection.execute(query)]
        return {
            verdict_id: (verdict, key_id_of(body))
            for (verdict_id, body), verdict in zip(rows, self._opened(workspace, rows), strict=True)
            if verdict is not None
        }

    def ids(self, workspace: str, detector: str | None, after: UUID | None, limit: int) -> list[UUID]:
        """Return ids of verdicts, newest first, from after `after` on."""
        query = _newest(VerdictQuery(workspace, after=after), verdicts.c.id).limit(limit)
        if detector is not None:
            query = query.where(verdicts.c.detector == detector)
        return self._pages.ask(lambda connection: list(connection.execute(query).scalars()))

    def page(self, query: VerdictQuery) -> VerdictPage:
        """Return verdicts newest first.

        Of the held out a page looks at a hundred thousand verdicts at most, so it may have fewer than `limit` and be
        followed by more; answers from memory are not among them.
        """
        if query.held_out is not None:
            return self._page_held_out(query, query.held_out)
        most = query.limit + 1  # one more tells whether there is a next page
        rows = self._pages.ask(partial(_rows, query, most))
        shown, more = rows[: query.limit], len(rows) > query.limit
        page = tuple(verdict for verdict in self._opened(query.workspace, shown) if verdict is not None)
        return VerdictPage(verdicts=page, next=str(shown[-1][0]) if more else None)

    def _page_held_out(self, query: VerdictQuery, held_out: Callable[[UUID], bool]) -> VerdictPage:
        found: list[Verdict] = []
        after, looked_at = query.after, 0
        while looked_at < _MOST_IDS:
            ids = self.ids(query.workspace, query.detector, after, _IDS_A_LOOK)
            looked_at += len(ids)
            chosen = [one for one in ids if held_out(one)]
            there = self.some(query.workspace, chosen)
            for verdict in (there[one][0] for one in chosen if one in there):
                if _is_asked_for(verdict, query):
                    found.append(verdict)
                    if len(found) == query.limit:
                        return VerdictPage(tuple(found), verdict.id)
            if len(ids) < _IDS_A_LOOK:
                return VerdictPage(tuple(found))
            after = ids[-1]
        return VerdictPage(tuple(found), str(after))

    def about(self, workspace: str, key_id: bytes) -> Iterator[Verdict]:
        """Yield the verdicts that are sealed with a key, oldest first."""
        after = UUID(int=0)
        while True:
            mine = _sealed_with(workspace, key_id).where(verdict_subjects.c.verdict_id > after)
            query = (
                select(verdicts.c.id, verdicts.c.body)
                .where(verdicts.c.workspace == workspace, verdicts.c.id.in_(mine))
                .order_by(verdicts.c.id)
                .limit(_AT_A_TIME)
            )
            with self._database.read() as connection:
                rows = [(row.id, row.body) for row in connection.execute(query)]
            yield from (verdict for verdict in self._opened(workspace, rows) if verdict is not None)
            if len(rows) < _AT_A_TIME:
                return
            after = rows[-1][0]

    def forget_about(self, workspace: str, key_id: bytes) -> int:
        """Delete the verdicts that are sealed with a key; return how many there were."""
        mine = _sealed_with(workspace, key_id)
        links = verdict_subjects.c.workspace == workspace, verdict_subjects.c.key_id == key_id
        with self._database.write() as connection:
            gone = connection.execute(
                delete(verdicts).where(verdicts.c.workspace == workspace, verdicts.c.id.in_(mine))
            )
            connection.execute(delete(verdict_subjects).where(*links))
            return gone.rowcount

    def keys_in_use(self, workspace: str, key_ids: Sequence[bytes]) -> list[bytes]:
        """Return those of the keys that some verdict is sealed with."""
        query = select(verdict_subjects.c.key_id).where(
            verdict_subjects.c.workspace == workspace, verdict_subjects.c.key_id.in_(key_ids)
        )
        with self._database.read() as connection:
            return [bytes(key_id) for key_id in connection.execute(query.distinct()).scalars()]

    def _opened(self, workspace: str, rows: Sequence[tuple[UUID, bytes]]) -> list[Verdict | None]:
        """Return the verdicts in bodies; None for one that was sealed with a key that is shredded."""
        key_ids = {key_id for _, body in rows if (key_id := key_id_of(body)) is not None}
        keys = self._seals.keys(workspace, key_ids) if key_ids else {}

        def verdict_in(verdict_id: UUID, body: bytes) -> Verdict | None:
            key_id = key_id_of(body)
            if key_id is None:
                return _decode(body)
            key = keys.get(key_id)
            if key is None:
                return None
            try:
                return _decode(opened(key, body, _place(workspace, str(verdict_id))))
            except StorageUnavailable as error:
                if len(rows) == 1:
                    raise
                # One that was tampered with is no reason to show nobody the others.
                log.error("verdict_not_opened", extra={"verdict": str(verdict_id), "detail": error.detail})  # noqa: TRY400
                return None

        return [verdict_in(verdict_id, body) for verdict_id, body in rows]


def old_verdicts(database: Database) -> OldRows:
    """Return the verdicts that were asked for before a time, which their ids tell."""
    return OldRows(
        database, verdicts, lambda before: verdicts.c.id < least_id(before), linked=verdict_subjects.c.verdict_id
    )


def _row(entry: LedgerEntry) -> dict[str, Any]:
    verdict = entry.verdict
    return {
        "id": UUID(verdict.id),
        "workspace": verdict.workspace,
        "principal": entry.principal,
        "detector": verdict.detector,
        "version": verdict.version,
        "decision": verdict.decision,
        "score": verdict.score,
        "input_sha256": _digest(entry),
        "created_at": verdict.created_at,
        "body": _body(entry),
    }


def _sqlite_row(entry: LedgerEntry) -> tuple[Any, ...]:
    """Return a row as SQLite stores it, in the order of the columns; what SQLAlchemy's types do costs more."""
    verdict = entry.verdict
    return (
        verdict.id.replace("-", ""),
        verdict.workspace,
        entry.principal,
        verdict.detector,
        verdict.version,
        verdict.decision,
        verdict.score,
        _digest(entry),
        _as_sqlite_has_it(verdict.created_at),
        _body(entry),
    )


def _digest(entry: LedgerEntry) -> str:
    # It tells a person's picture again wherever that turns up.
    return entry.verdict.input.sha256 if entry.subject is None else ""


def _body(entry: LedgerEntry) -> bytes:
    body = _encode(entry.verdict)
    if entry.subject is None:
        return body
    return sealed(entry.subject.key_id, entry.subject.key, body, _place(entry.verdict.workspace, entry.verdict.id))


def _place(workspace: str, verdict_id: str) -> str:
    """Return what a sealed body is bound to."""
    return f"{workspace}/verdicts/{verdict_id}"


def _link(verdict: Verdict, subject: Subject) -> dict[str, Any]:
    return {"workspace": verdict.workspace, "key_id": subject.key_id, "verdict_id": UUID(verdict.id)}


@lru_cache(maxsize=8)  # the verdicts of a batch have one time
def _as_sqlite_has_it(moment: datetime) -> str:
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(" ", "microseconds")[:26]


def _inserts(entries: Sequence[LedgerEntry]) -> Iterator[tuple[str, list[Any]]]:
    start = 0
    for size, sql in _INSERTS.items():
        while len(entries) - start >= size:
            yield sql, [value for one in entries[start : start + size] for value in _sqlite_row(one)]
            start += size
    for verdict, _, subject, _ in entries:
        if subject is not None:
            yield _INSERT_LINK, [verdict.workspace, subject.key_id, verdict.id.replace("-", "")]


def _sealed_with(workspace: str, key_id: bytes) -> Select[Any]:
    links = verdict_subjects.c
    return select(links.verdict_id).where(links.workspace == workspace, links.key_id == key_id)


def stretch_statement(query: VerdictQuery, detector: str, decision: Decision) -> Select[Any]:
    """Return the ids of one detector and decision, newest first: one stretch of the index."""
    return _newest(query, verdicts.c.id).where(verdicts.c.detector == detector, verdicts.c.decision == decision)


def _newest(query: VerdictQuery, *columns: ColumnElement[Any]) -> Select[Any]:
    statement = select(*columns).where(verdicts.c.workspace == query.workspace)
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


def _rows(query: VerdictQuery, most: int, connection: Connection) -> list[tuple[UUID, bytes]]:
    """Return ids and bodies of verdicts, newest first."""
    wanted = verdicts.c.id, verdicts.c.body
    detectors = _readable(connection, query)
    if query.decision is None and detectors is None:
        newest = _newest(query, *wanted).limit(most)
    else:
        stretches = (
            connection.execute(stretch_statement(query, detector, decision).limit(most)).scalars()
            for detector in (_detectors(connection, query.workspace) if detectors is None else detectors)
            for decision in ([query.decision] if query.decision else get_args(Decision))
        )
        ids = nlargest(most, chain.from_iterable(stretches))
        chosen = verdicts.c.workspace == query.workspace, verdicts.c.id.in_(ids)
        newest = select(*wanted).where(*chosen).order_by(verdicts.c.id.desc())
    return [(row.id, row.body) for row in connection.execute(newest)]


def _is_asked_for(verdict: Verdict, query: VerdictQuery) -> bool:
    may_read = query.may_read is None or query.may_read(verdict.detector)
    return may_read and not verdict.cached and query.decision in {None, verdict.decision}


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
