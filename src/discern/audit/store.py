"""SQL of the audit log.

- Entries of a workspace are numbered without a gap; who writes one holds the workspace's head until the end of the
  transaction, on every database and from any number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    PrimaryKeyConstraint,
    Row,
    Select,
    String,
    Table,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from discern.audit.rules import Head
from discern.audit.types import Entry, EntryPage, StoredEntry
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column, workspaces
from discern.store.types import UtcDateTime

audit_entries = Table(
    "audit_entries",
    metadata,
    workspace_column(),
    Column("number", BigInteger(), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("who", String(100), nullable=False),
    Column("act", String(64), nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("workspace", "number", name="pk_audit_entries"),
)
audit_heads = Table(
    "audit_heads",
    metadata,
    workspace_column(),
    Column("number", BigInteger(), nullable=False),
    Column("digest", String(64), nullable=False),
    PrimaryKeyConstraint("workspace", name="pk_audit_heads"),
)
_BESIDE_THE_TIME = (one for one in audit_entries.c if one.name != "at")
_AS_STORED: Select[Any] = select(*_BESIDE_THE_TIME, type_coerce(audit_entries.c.at, String()).label("stored_at"))
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Entry).decode
_CHUNK = 1000
# An entry before the first has no business there, and must show.
BEFORE_ALL = -(2**62)


class AuditStore:
    """The entries in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: Counter[tuple[str, str]] = Counter()
        self._counted_to: dict[str, int] = {}

    def append(self, connection: Connection, workspace: str, make: Callable[[Head | None], Entry]) -> None:
        """Put the entry that `make` returns after the head of the log, in the caller's transaction."""
        # The workspace's own row is locked, for a log that has no entry yet has no head to lock. The weaker lock lets
        # others go on referring to the row: two that did so before would wait for each other.
        row_of = select(workspaces.c.workspace).where(workspaces.c.workspace == workspace)
        connection.execute(row_of.with_for_update(key_share=True))
        head = self._head(connection, workspace)
        entry = make(head)
        values = {"workspace": workspace, "number": entry.number, "digest": entry.digest}
        if head is None:
            connection.execute(insert(audit_heads).values(values))
        else:
            connection.execute(update(audit_heads).where(audit_heads.c.workspace == workspace).values(values))
        row = {
            "workspace": workspace,
            "number": entry.number,
            "at": entry.at,
            "who": entry.act.who,
            "act": entry.act.act,
            "outcome": entry.act.outcome,
            "body": _encode(entry),
        }
        connection.execute(insert(audit_entries).values(row))

    def record(self, workspace: str, make: Callable[[Head | None], Entry]) -> None:
        """Do the same in a transaction of its own."""
        with self._database.write() as connection:
            self.append(connection, workspace, make)

    def heads(self) -> dict[str, Head]:
        """Return the number and the digest each workspace's log ends with."""
        with self._database.read() as connection:
            rows = connection.execute(select(audit_heads.c.workspace, audit_heads.c.number, audit_heads.c.digest))
            return {row.workspace: (row.number, row.digest) for row in rows}

    def all(self, workspace: str) -> Iterator[Entry]:
        """Yield every entry of a workspace, oldest first."""
        return (_decode(stored.body) for stored in self.stored(workspace))

    def stored(self, workspace: str, after: int = BEFORE_ALL) -> Iterator[StoredEntry]:
        """Yield every entry of a workspace after one of them as it lies there, oldest first."""
        while True:
            with self._database.read() as connection:
                query = (
                    _AS_STORED.where(audit_entries.c.workspace == workspace, audit_entries.c.number > after)
                    .order_by(audit_entries.c.number)
                    .limit(_CHUNK)
                )
                rows = connection.execute(query).all()
            yield from map(_stored, rows)
            if len(rows) < _CHUNK:
                return
            after = rows[-1].number

    def digest(self, workspace: str, number: int) -> str | None:
        """Return the digest of an entry, None where there is none."""
        query = select(audit_entries.c.body).where(
            audit_entries.c.workspace == workspace, audit_entries.c.number == number
        )
        with self._database.read() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else _decode(body).digest

    def counted(self) -> dict[tuple[str, str], int]:
        """Return how many entries there are of every act and outcome. For one thread at a time.

        What was counted is not counted again: entries are numbered in the order they are written, and none goes.
        """
        heads = self.heads()
        if any(heads.get(workspace, (0, ""))[0] < number for workspace, number in self._counted_to.items()):
            self._counted, self._counted_to = Counter(), {}  # a backup was restored
        for workspace, (number, _) in heads.items():
            before = self._counted_to.get(workspace, 0)
            if number == before:
                continue
            query = (
                select(audit_entries.c.act, audit_entries.c.outcome, func.count().label("entries"))
                .where(audit_entries.c.workspace == workspace)
                .where(audit_entries.c.number > before, audit_entries.c.number <= number)
                .group_by(audit_entries.c.act, audit_entries.c.outcome)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            self._counted.update({(row.act, row.outcome): row.entries for row in rows})
            self._counted_to[workspace] = number
        return dict(self._counted)

    def workspaces(self) -> set[str]:
        """Return the names of all workspaces there are, and of those that have entries or a head without being one."""
        named = (workspaces.c.workspace, audit_heads.c.workspace, audit_entries.c.workspace)
        with self._database.read() as connection:
            return {name for column in named for name in connection.execute(select(column).distinct()).scalars()}

    def page(self, workspace: str, limit: int, before: int | None) -> EntryPage:
        """Return entries newest first."""
        query = select(audit_entries.c.body).where(audit_entries.c.workspace == workspace)
        if before is not None:
            query = query.where(audit_entries.c.number < before)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(audit_entries.c.number.desc()).limit(limit + 1)).scalars().all()
        entries = tuple(_decode(body) for body in rows[:limit])
        return EntryPage(entries, entries[-1].number if len(rows) > limit else None)

    @staticmethod
    def _head(connection: Connection, workspace: str) -> Head | None:
        query = select(audit_heads.c.number, audit_heads.c.digest).where(audit_heads.c.workspace == workspace)
        row = connection.execute(query).first()
        return None if row is None else (row.number, row.digest)


def _stored(row: Row[Any]) -> StoredEntry:
    # SQLite keeps what it is given: whoever edits a body may leave a text there, and a time that is none.
    body = row.body.encode() if isinstance(row.body, str) else bytes(row.body)
    at = row.stored_at
    if isinstance(at, str):
        with suppress(ValueError):
            at = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return StoredEntry(row.workspace, row.number, at, row.who, row.act, row.outcome, body)
