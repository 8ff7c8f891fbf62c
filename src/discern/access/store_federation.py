"""SQL of what was used up of sign-ins, and of wrong passwords given to directories."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from discern.audit.ports import NoTrail, Trail
from discern.audit.types import Act
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

spent_sign_ins = Table(
    "spent_sign_ins",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    workspace_column(),
    Column("forget_at", UtcDateTime, nullable=False),
    Index("ix_spent_sign_ins_forget_at", "forget_at"),
)
sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("identity_sha256", LargeBinary(32), primary_key=True),
    workspace_column(),
    Column("failures", Integer(), nullable=False),
    Column("locked_until", UtcDateTime),
)


class FederationStore:
    """What is remembered of sign-ins through providers, on every process alike."""

    def __init__(self, database: Database, trail: Trail | None = None) -> None:
        self._database = database
        self._trail = trail or NoTrail()

    def spend(self, workspace: str, digest: bytes, forget_at: datetime, now: datetime) -> bool:
        """Use something up, to be remembered until `forget_at`. Tell whether nobody had."""
        with self._database.write() as connection:
            connection.execute(delete(spent_sign_ins).where(spent_sign_ins.c.forget_at < now))
        try:
            with self._database.write() as connection:
                values = {"digest": digest, "workspace": workspace, "forget_at": forget_at}
                connection.execute(insert(spent_sign_ins).values(values))
        except IntegrityError:
            return False
        return True

    def locked_until(self, identity_sha256: bytes) -> datetime | None:
        """Return until when somebody of a directory is locked."""
        query = select(sign_in_failures.c.locked_until).where(sign_in_failures.c.identity_sha256 == identity_sha256)
        with self._database.read() as connection:
            found: datetime | None = connection.execute(query).scalar()
        return found

    def note_failure(self, identity_sha256: bytes, locked_until: Callable[[int], datetime | None], act: Act) -> None:
        """Write down that a wrong password was given; `locked_until` tells by how many there were in a row."""
        theirs = sign_in_failures.c.identity_sha256 == identity_sha256
        with self._database.write() as connection:
            counted = select(sign_in_failures.c.failures).where(theirs).with_for_update()
            failures = (connection.execute(counted).scalar() or 0) + 1
            values = {"failures": failures, "locked_until": locked_until(failures)}
            if failures > 1:
                connection.execute(update(sign_in_failures).where(theirs).values(values))
            else:
                known = {"identity_sha256": identity_sha256, "workspace": act.workspace}
                connection.execute(insert(sign_in_failures).values(known | values))
            self._trail.append(connection, act)

    def forget_failures(self, identity_sha256: bytes) -> None:
        """Forget the wrong passwords before a right one."""
        with self._database.write() as connection:
            connection.execute(delete(sign_in_failures).where(sign_in_failures.c.identity_sha256 == identity_sha256))
