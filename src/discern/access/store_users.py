"""SQL of users and their sessions. What changes a user puts itself on the audit log in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from discern.access.store_factor_tables import challenges, factors, sign_ins
from discern.access.types import Session, User
from discern.audit.ports import NoTrail, Trail
from discern.audit.types import Act
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.old_rows import OldRows
from discern.store.types import UtcDateTime

users = Table(
    "users",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("name", String(100), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("detectors", Text()),
    Column("password", Text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("failures", Integer(), nullable=False),
    Column("locked_until", UtcDateTime),
    Column("provider", String(40)),
    Column("subject", Text()),
    Column("identity_sha256", LargeBinary(32)),
    Index("ix_users_workspace_id", "workspace", "id"),
    Index("ix_users_identity_sha256", "identity_sha256", unique=True),
)
sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("user_id", Uuid(), ForeignKey("users.id"), nullable=False),
    Column("secret_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("address", String(100), nullable=False),
    Column("agent", String(200), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("factor", String(16)),
    Column("proven_at", UtcDateTime),
    Column("ends_at", UtcDateTime),
    Index("ix_sessions_user_id", "user_id", "id"),
)
_USER = tuple(column for column in users.c if column.name not in {"password", "identity_sha256"})
_SESSION = tuple(column for column in sessions.c if column.name != "secret_sha256")
_OPEN = sessions.c.ended_at.is_(None)


class UserStore:
    """Users and sessions in the database."""

    def __init__(self, database: Database, trail: Trail | None = None) -> None:
        self._database = database
        self._trail = trail or NoTrail()

    def add(self, user: User, password: str, act: Act, identity_sha256: bytes | None = None) -> bool:
        """Store a user. Tell whether there was none of the name.

        `identity_sha256` stands for who they are to an identity provider; there is one user of it.
        """
        hidden = {"password": password, "identity_sha256": identity_sha256}
        try:
            with self._database.write() as connection:
                connection.execute(insert(users).values(_values(user) | hidden))
                self._trail.append(connection, act)
        except IntegrityError:
            if self.by_name(user.name) is None and self.by_identity(identity_sha256) is None:
                raise
            return False
        return True

    def change(self, user: User, changes: Mapping[str, Any], act: Act) -> None:
        """Store what is changed of a user, and nothing else: others may change them meanwhile. End their sessions."""
        with self._database.write() as connection:
            if changes:
                connection.execute(update(users).where(users.c.id == user.id).values(_encoded(changes)))
            end_sessions(connection, user.id)
            self._trail.append(connection, act)

    def by_name(self, name: str) -> tuple[User, str] | None:
        """Return a user and their password's hash."""
        with self._database.read() as connection:
            row = connection.execute(select(*_USER, users.c.password).where(users.c.name == name)).first()
        return None if row is None else (_user(row), row.password)

    def by_identity(self, identity_sha256: bytes | None) -> User | None:
        """Return the user that an identity of a provider is here."""
        if identity_sha256 is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(select(*_USER).where(users.c.identity_sha256 == identity_sha256)).first()
        return None if row is None else _user(row)

    def get(self, user_id: UUID) -> User | None:
        """Return a user of whichever workspace."""
        with self._database.read() as connection:
            row = connection.execute(select(*_USER).where(users.c.id == user_id)).first()
        return None if row is None else _user(row)

    def all(self, workspace: str) -> list[User]:
        """Return every user of a workspace, oldest first."""
        with self._database.read() as connection:
            query = select(*_USER).where(users.c.workspace == workspace).order_by(users.c.id)
            return [_user(row) for row in connection.execute(query)]

    def note_failure(self, user_id: UUID, locked_until: Callable[[int], datetime | None], act: Act) -> None:
        """Write down that a wrong password was given; `locked_until` tells by how many there were in a row."""
        theirs = users.c.id == user_id
        with self._database.write() as connection:
            failures = connection.execute(select(users.c.failures).where(theirs).with_for_update()).scalar_one() + 1
            noted = update(users).where(theirs)
            connection.execute(noted.values(failures=failures, locked_until=locked_until(failures)))
            self._trail.append(connection, act)

    def sign_in(self, session: Session, secret_sha256: bytes, password: str | None, act: Act) -> bool:
        """Store a session, and forget the failures before it.

        Tell whether it was stored: not where the user was disabled, `password`, the hash, changed since it was read, or
        there is a second factor that the session was not begun with.
        """
        as_it_was = [users.c.id == session.user_id, users.c.disabled_at.is_(None)]
        if password is not None:
            as_it_was.append(users.c.password == password)
        with self._database.write() as connection:
            if connection.execute(select(users.c.id).where(*as_it_was).with_for_update()).first() is None:
                return False
            confirmed = factors.c.user_id == session.user_id, factors.c.confirmed_at.is_not(None)
            if session.factor is None and connection.execute(select(factors.c.id).where(*confirmed)).first():
                return False
            insert_session(connection, session, secret_sha256)
            self._trail.append(connection, act)
        return True

    def by_secret(self, secret_sha256: bytes) -> tuple[Session, User] | None:
        """Return a session and whose it is, ended or not."""
        columns = [column.label(f"session_{column.name}") for column in _SESSION]
        query = select(*_USER, *columns).join(sessions, sessions.c.user_id == users.c.id)
        with self._database.read() as connection:
            row = connection.execute(query.where(sessions.c.secret_sha256 == secret_sha256)).first()
        if row is None:
            return None
        members = {column.name: row._mapping[f"session_{column.name}"] for column in _SESSION}  # noqa: SLF001 - its public name
        return Session(**members), _user(row)

    def sessions_of(self, user_id: UUID) -> list[Session]:
        """Return the sessions of a user that were not ended, newest first."""
        query = select(*_SESSION).where(sessions.c.user_id == user_id, _OPEN).order_by(sessions.c.id.desc())
        with self._database.read() as connection:
            return [Session(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001

    def end(self, user_id: UUID, session_id: UUID, now: datetime, act: Act) -> bool:
        """End a session of a user. Tell whether it was open."""
        with self._database.write() as connection:
            theirs = update(sessions).where(sessions.c.user_id == user_id, sessions.c.id == session_id, _OPEN)
            if connection.execute(theirs.values(ended_at=now)).rowcount != 1:
                return False
            self._trail.append(connection, act)
        return True

    def used(self, uses: Mapping[UUID, datetime]) -> None:
        """Note when sessions were used."""
        with self._database.write() as connection:
            for session_id, at in uses.items():
                connection.execute(update(sessions).where(sessions.c.id == session_id).values(used_at=at))


def read_user(connection: Connection, user_id: UUID) -> tuple[User, str]:
    """Return a user and their password's hash within a transaction, for which others that want the user wait."""
    query = select(*_USER, users.c.password).where(users.c.id == user_id).with_for_update()
    row = connection.execute(query).one()
    return _user(row), row.password


def insert_session(connection: Connection, session: Session, secret_sha256: bytes) -> None:
    """Store a session within a transaction, and forget the failures before it."""
    values = msgspec.structs.asdict(session) | {"secret_sha256": secret_sha256}
    connection.execute(insert(sessions).values(values))
    good = update(users).where(users.c.id == session.user_id)
    connection.execute(good.values(failures=0, locked_until=None))


def end_sessions(connection: Connection, user_id: UUID, but: UUID | None = None) -> None:
    """End the sessions of a user within a transaction, and what waits for a factor; `but` one session."""
    theirs = update(sessions).where(sessions.c.user_id == user_id, _OPEN)
    if but is not None:
        theirs = theirs.where(sessions.c.id != but)
    connection.execute(theirs.values(ended_at=sessions.c.used_at))
    connection.execute(delete(sign_ins).where(sign_ins.c.user_id == user_id))
    ended = update(challenges).where(challenges.c.user_id == user_id, challenges.c.ended_at.is_(None))
    connection.execute(ended.values(ended_at=challenges.c.created_at))


def old_sessions(database: Database) -> OldRows:
    """Return the sessions last used before a time; of a time a day ago or earlier all of these have ended."""
    return OldRows(database, sessions, lambda before: sessions.c.used_at < before)


def _values(user: User) -> dict[str, Any]:
    return _encoded(msgspec.structs.asdict(user))


def _encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    granted = values.get("detectors")
    return dict(values) if granted is None else {**values, "detectors": msgspec.json.encode(granted).decode()}


def _user(row: Any) -> User:  # noqa: ANN401 - a row of any columns
    members = {column.name: row._mapping[column.name] for column in _USER}  # noqa: SLF001
    if members["detectors"] is not None:
        members["detectors"] = msgspec.json.decode(members["detectors"], type=tuple[str, ...])
    return User(**members)
