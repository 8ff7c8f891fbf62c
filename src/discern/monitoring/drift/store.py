"""SQL of drift: releases, the pieces that processes add, windows, hours and days, and what changed.

- What processes have seen is added as rows of their own, so that nobody waits for another's.
- Pieces go into a window, an hour and a release in one transaction, once: whoever finds them gone, or the release
  changed, has done nothing.
- A change of state is a row, in the transaction that changes the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Uuid,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.ids import uuid7
from discern.monitoring.drift.types import DriftChange, Period, Piece, Release, ReleaseKey, Span, Window
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime


def _of_a_release() -> tuple[Column[str], ...]:
    return (
        workspace_column(),
        Column("detector", String(64), nullable=False),
        Column("version", String(32), nullable=False),
    )


_KEY = ("workspace", "detector", "version")
releases = Table(
    "drift_releases",
    metadata,
    *_of_a_release(),
    Column("revision", BigInteger(), nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint(*_KEY),
)
pieces = Table(
    "drift_pieces",
    metadata,
    *_of_a_release(),
    Column("id", Uuid(), nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("id"),
)
windows = Table(
    "drift_windows",
    metadata,
    *_of_a_release(),
    Column("number", BigInteger(), nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint(*_KEY, "number"),
)
periods = Table(
    "drift_periods",
    metadata,
    *_of_a_release(),
    Column("span", String(4), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint(*_KEY, "span", "at"),
)
changes = Table(
    "drift_changes",
    metadata,
    *_of_a_release(),
    Column("id", Uuid(), nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("id"),
    Index("ix_drift_changes_workspace", "workspace", "id"),
)
_ALL = (releases, pieces, windows, periods, changes)
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_encode = msgspec.msgpack.Encoder().encode
_MOST_CHANGES = 1000


class Standing(NamedTuple):
    """A release as it lies in the database. `revision` goes up with every change of it."""

    release: Release
    revision: int
    seen_at: datetime


class WaitingPiece(NamedTuple):
    """A piece that is in no window yet."""

    id: UUID
    key: ReleaseKey
    piece: Piece


class Fold(NamedTuple):
    """What is to be written of a release together.

    `pieces` are in the windows and periods now; windows older than `oldest_window` are deleted, and so are the periods
    `gone`.
    """

    release: Release
    seen_at: datetime
    pieces: Sequence[UUID] = ()
    windows: Sequence[Window] = ()
    oldest_window: int = 0
    periods: Sequence[Period] = ()
    gone: Sequence[tuple[Span, datetime]] = ()
    changes: Sequence[DriftChange] = ()
    act: Act | None = None


class _Superseded(Exception):
    """Somebody else has written meanwhile."""


class DriftStore:
    """Drift in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail

    def releases(self, workspace: str | None = None) -> dict[ReleaseKey, Standing]:
        """Return the releases of a workspace, or of all."""
        query = select(releases).order_by(*(releases.c[name] for name in _KEY))
        if workspace is not None:
            query = query.where(releases.c.workspace == workspace)
        with self._database.read() as connection:
            return {_key(row): _standing(row) for row in connection.execute(query)}

    def release(self, key: ReleaseKey) -> Standing | None:
        """Return a release."""
        with self._database.read() as connection:
            row = connection.execute(select(releases).where(_is(releases, key))).first()
        return None if row is None else _standing(row)

    def begin(self, key: ReleaseKey, release: Release, now: datetime) -> None:
        """Write a release, unless it is there."""
        row = {**key._asdict(), "revision": 0, "seen_at": now, "body": _encode(release)}
        with self._database.write() as connection:
            connection.execute(_INSERTS[self._database.dialect](releases).values(row).on_conflict_do_nothing())

    def add(self, found: Sequence[tuple[ReleaseKey, Piece]]) -> None:
        """Write what a process has seen."""
        rows = [{**key._asdict(), "id": uuid7(), "body": _encode(piece)} for key, piece in found]
        with self._database.write() as connection:
            connection.execute(insert(pieces), rows)

    def waiting(self, most: int) -> list[WaitingPiece]:
        """Return pieces that are in no window yet, the oldest first."""
        query = select(pieces).order_by(pieces.c.id).limit(most)
        with self._database.read() as connection:
            return [
                WaitingPiece(row.id, _key(row), msgspec.msgpack.decode(row.body, type=Piece))
                for row in connection.execute(query)
            ]

    def windows(self, key: ReleaseKey, most: int) -> list[Window]:
        """Return the latest windows of a release in their order, the open one among them."""
        query = select(windows.c.body).where(_is(windows, key)).order_by(windows.c.number.desc()).limit(most)
        with self._database.read() as connection:
            bodies = connection.execute(query).scalars().all()
        return [msgspec.msgpack.decode(body, type=Window) for body in reversed(bodies)]

    def open_windows(self, workspace: str) -> dict[ReleaseKey, Window]:
        """Return the last window of each release of a workspace."""
        last = select(*(windows.c[name] for name in _KEY), func.max(windows.c.number).label("number"))
        newest = last.where(windows.c.workspace == workspace).group_by(*(windows.c[name] for name in _KEY)).subquery()
        query = select(windows).join(newest, and_(*(windows.c[name] == newest.c[name] for name in (*_KEY, "number"))))
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return {_key(row): msgspec.msgpack.decode(row.body, type=Window) for row in found}

    def periods(self, key: ReleaseKey) -> list[Period]:
        """Return the hours and days of a release, the oldest first."""
        query = select(periods.c.body).where(_is(periods, key)).order_by(periods.c.at)
        with self._database.read() as connection:
            bodies = connection.execute(query).scalars().all()
        return [msgspec.msgpack.decode(body, type=Period) for body in bodies]

    def period(self, key: ReleaseKey, span: Span, at: datetime) -> Period:
        """Return an hour or a day of a release, an empty one where nothing was seen."""
        query = select(periods.c.body).where(_is(periods, key), periods.c.span == span, periods.c.at == at)
        with self._database.read() as connection:
            body = connection.execute(query).scalar()
        return Period(span, at) if body is None else msgspec.msgpack.decode(body, type=Period)

    def spans(self, key: ReleaseKey) -> dict[Span, int]:
        """Return how many hours and days there are of a release."""
        query = select(periods.c.span, func.count()).where(_is(periods, key)).group_by(periods.c.span)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def changes(self, workspace: str, most: int) -> list[DriftChange]:
        """Return what changed in a workspace, newest first."""
        query = select(changes.c.body).where(changes.c.workspace == workspace)
        with self._database.read() as connection:
            bodies = connection.execute(query.order_by(changes.c.id.desc()).limit(most)).scalars().all()
        return [msgspec.msgpack.decode(body, type=DriftChange) for body in bodies]

    def write(self, key: ReleaseKey, revision: int, fold: Fold) -> bool:
        """Write a fold; False, and nothing written, where the release or a piece of it is no longer as it was."""
        try:
            with self._database.write() as connection:
                self._write(connection, key, revision, fold)
        except _Superseded:
            return False
        return True

    def _write(self, connection: Connection, key: ReleaseKey, revision: int, fold: Fold) -> None:
        values = {"revision": revision + 1, "seen_at": fold.seen_at, "body": _encode(fold.release)}
        changed = update(releases).where(_is(releases, key), releases.c.revision == revision).values(values)
        if connection.execute(changed).rowcount != 1:
            raise _Superseded
        if fold.pieces and connection.execute(delete(pieces).where(pieces.c.id.in_(fold.pieces))).rowcount != len(
            fold.pieces
        ):
            raise _Superseded
        for window in fold.windows:
            self._put(connection, windows, key, {"number": window.number}, _encode(window))
        if fold.oldest_window:
            connection.execute(delete(windows).where(_is(windows, key), windows.c.number < fold.oldest_window))
        for period in fold.periods:
            self._put(connection, periods, key, {"span": period.span, "at": period.at}, _encode(period))
        for span, at in fold.gone:
            connection.execute(delete(periods).where(_is(periods, key), periods.c.span == span, periods.c.at == at))
        if fold.changes:
            rows = [{**key._asdict(), "id": uuid7(), "body": _encode(change)} for change in fold.changes]
            connection.execute(insert(changes), rows)
            self._drop_old_changes(connection, key)
        if fold.act is not None:
            self._trail.append(connection, fold.act)

    def _put(self, connection: Connection, table: Table, key: ReleaseKey, place: dict[str, Any], body: bytes) -> None:
        row = {**key._asdict(), **place, "body": body}
        put = _INSERTS[self._database.dialect](table).values(row)
        connection.execute(put.on_conflict_do_update(index_elements=[*_KEY, *place], set_={"body": body}))

    def _drop_old_changes(self, connection: Connection, key: ReleaseKey) -> None:
        newest = select(changes.c.id).where(_is(changes, key)).order_by(changes.c.id.desc())
        last = connection.execute(newest.offset(_MOST_CHANGES).limit(1)).scalar()
        if last is not None:
            connection.execute(delete(changes).where(_is(changes, key), changes.c.id <= last))

    def discard(self, ids: Sequence[UUID]) -> None:
        """Delete pieces of a release that is no longer there."""
        with self._database.write() as connection:
            connection.execute(delete(pieces).where(pieces.c.id.in_(ids)))

    def forget(self, key: ReleaseKey) -> None:
        """Delete all there is of a release."""
        with self._database.write() as connection:
            for table in _ALL:
                connection.execute(delete(table).where(_is(table, key)))


def _is(table: Table, key: ReleaseKey) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key._asdict().items()))


def _key(row: Any) -> ReleaseKey:  # noqa: ANN401 - a row
    return ReleaseKey(row.workspace, row.detector, row.version)


def _standing(row: Any) -> Standing:  # noqa: ANN401 - likewise
    return Standing(msgspec.msgpack.decode(row.body, type=Release), row.revision, row.seen_at)
