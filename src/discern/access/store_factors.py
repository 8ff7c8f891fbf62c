"""SQL of second factors. All that is done with those of a user is one transaction, audit entry and session included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select, update

from discern.access.store_factor_tables import challenges, factors, recovery_codes, sign_ins
from discern.access.store_users import end_sessions, insert_session, read_user, sessions, users
from discern.access.types import Session, User
from discern.access.types_factors import Factor, KeptChallenge, KeptFactor
from discern.audit.ports import NoTrail, Trail
from discern.audit.types import Act
from discern.core.ids import uuid7
from discern.store.database import Database

_KEPT_CHALLENGES = timedelta(days=1)


class FactorStore:
    """Second factors in the database."""

    def __init__(self, database: Database, trail: Trail | None = None) -> None:
        self._database = database
        self._trail = trail or NoTrail()

    @contextmanager
    def holding(self, user_id: UUID) -> Iterator[Held]:
        """Hold what a user has: others that want the same user wait. Nothing is written where the block raises."""
        with self._database.write() as connection:
            user, password = read_user(connection, user_id)
            yield Held(connection, self._trail, user, password)

    def record(self, act: Act) -> None:
        """Put an act on record by itself."""
        self._trail.record(act)

    def of(self, user_id: UUID) -> tuple[tuple[Factor, ...], int]:
        """Return the confirmed factors of a user, and how many recovery codes are left."""
        with self._database.read() as connection:
            return _confirmed(connection, user_id), _codes_left(connection, user_id)

    def whose(self, ticket_sha256: bytes) -> UUID | None:
        """Return whose sign-in a ticket is of."""
        with self._database.read() as connection:
            query = select(sign_ins.c.user_id).where(sign_ins.c.ticket_sha256 == ticket_sha256)
            return connection.execute(query).scalar_one_or_none()


class Held:
    """What a user has, within a transaction."""

    def __init__(self, connection: Connection, trail: Trail, user: User, password: str) -> None:
        self._connection = connection
        self._trail = trail
        self.user = user
        self.password = password

    def record(self, act: Act) -> None:
        """Put an act on record."""
        self._trail.append(self._connection, act)

    def fail(self, locked_until: datetime | None) -> None:
        """Count a failure, beside the wrong passwords."""
        values = {"failures": users.c.failures + 1, "locked_until": locked_until}
        self._connection.execute(update(users).where(users.c.id == self.user.id).values(values))

    def forgive(self) -> None:
        """Forget the failures."""
        values = {"failures": 0, "locked_until": None}
        self._connection.execute(update(users).where(users.c.id == self.user.id).values(values))

    def factors(self) -> tuple[KeptFactor, ...]:
        """Return the confirmed factors, oldest first."""
        return self._kept(factors.c.confirmed_at.is_not(None))

    def enrolment(self, factor_id: UUID, since: datetime) -> KeptFactor | None:
        """Return a factor that waits to be confirmed, where it was begun since then."""
        waiting = factors.c.confirmed_at.is_(None), factors.c.created_at > since, factors.c.id == factor_id
        return next(iter(self._kept(*waiting)), None)

    def begin_enrolment(self, kept: KeptFactor) -> None:
        """Keep a factor that waits to be confirmed, in place of any other that does."""
        theirs = factors.c.user_id == self.user.id, factors.c.confirmed_at.is_(None)
        self._connection.execute(delete(factors).where(*theirs))
        values = self._owned() | msgspec.structs.asdict(kept.factor)
        values |= {"secret": kept.secret, "credential_id": kept.credential_id, "counter": kept.counter}
        self._connection.execute(insert(factors).values(values))

    def confirm(self, kept: KeptFactor, now: datetime) -> None:
        """Let a factor count from here on, with what it is checked by."""
        values = {"secret": kept.secret, "credential_id": kept.credential_id, "counter": kept.counter}
        confirmed = update(factors).where(factors.c.id == kept.factor.id)
        self._connection.execute(confirmed.values(confirmed_at=now, used_at=now, **values))

    def is_known(self, credential_id: bytes) -> bool:
        """Tell whether a passkey is somebody's."""
        query = select(factors.c.id).where(factors.c.credential_id == credential_id)
        return self._connection.execute(query).first() is not None

    def use(self, factor_id: UUID, counter: int, now: datetime) -> None:
        """Note that a factor was used, and how far it has counted."""
        used = update(factors).where(factors.c.id == factor_id)
        self._connection.execute(used.values(counter=counter, used_at=now))

    def rename(self, factor_id: UUID, name: str) -> None:
        """Give a factor another name."""
        self._connection.execute(update(factors).where(factors.c.id == factor_id).values(name=name))

    def remove(self, factor_id: UUID) -> None:
        """Remove a factor."""
        self._connection.execute(delete(factors).where(factors.c.id == factor_id))

    def remove_all(self) -> None:
        """Remove every factor and recovery code, and end every session and sign-in."""
        self._connection.execute(delete(factors).where(factors.c.user_id == self.user.id))
        self.put_codes(())
        end_sessions(self._connection, self.user.id)

    def put_codes(self, digests: tuple[bytes, ...]) -> None:
        """Keep these recovery codes in place of all others."""
        self._connection.execute(delete(recovery_codes).where(recovery_codes.c.user_id == self.user.id))
        for digest in digests:
            values = self._owned() | {"id": uuid7(), "digest": digest}
            self._connection.execute(insert(recovery_codes).values(values))

    def use_code(self, digest: bytes, now: datetime) -> bool:
        """Use a recovery code up. Tell whether there was one that was not used."""
        mine = recovery_codes.c.user_id == self.user.id, recovery_codes.c.digest == digest
        used = update(recovery_codes).where(*mine, recovery_codes.c.used_at.is_(None)).values(used_at=now)
        return self._connection.execute(used).rowcount == 1

    def codes_left(self) -> int:
        """Return how many recovery codes are left."""
        return _codes_left(self._connection, self.user.id)

    def put_challenge(
        self,
        purpose: str,
        bound_to: bytes,
        value: bytes,
        now: datetime,
        expires_at: datetime,
        *,
        factor_id: UUID | None = None,
        target: bytes | None = None,
    ) -> None:
        """Keep a challenge, in place of any open one of its kind, and drop those that nobody asks about any more."""
        self._connection.execute(delete(challenges).where(challenges.c.created_at < now - _KEPT_CHALLENGES))
        same = challenges.c.bound_to == bound_to, challenges.c.purpose == purpose, challenges.c.ended_at.is_(None)
        self._connection.execute(update(challenges).where(*same).values(ended_at=now))
        values = self._owned() | {"id": uuid7(), "purpose": purpose, "bound_to": bound_to, "value": value, "tries": 0}
        values |= {"factor_id": factor_id, "target": target, "created_at": now, "expires_at": expires_at}
        self._connection.execute(insert(challenges).values(values))

    def challenge(self, purpose: str, bound_to: bytes, now: datetime) -> KeptChallenge | None:
        """Return the open challenge of a kind."""
        columns = (challenges.c.id, challenges.c.factor_id, challenges.c.value, challenges.c.tries)
        query = select(*columns).where(
            challenges.c.user_id == self.user.id,
            challenges.c.purpose == purpose,
            challenges.c.bound_to == bound_to,
            challenges.c.ended_at.is_(None),
            challenges.c.expires_at > now,
        )
        row = self._connection.execute(query).first()
        return None if row is None else KeptChallenge(*row)

    def end_challenge(self, challenge_id: UUID, now: datetime) -> None:
        """End a challenge: it is answered once."""
        self._connection.execute(update(challenges).where(challenges.c.id == challenge_id).values(ended_at=now))

    def note_try(self, challenge_id: UUID) -> None:
        """Count a wrong answer to a challenge."""
        tried = update(challenges).where(challenges.c.id == challenge_id)
        self._connection.execute(tried.values(tries=challenges.c.tries + 1))

    def codes_sent(self, target: bytes | None, since: datetime) -> list[datetime]:
        """Return when codes were sent to this user, or to the number `target` by whomever, the latest last."""
        mine = challenges.c.user_id == self.user.id
        mine_or_there = mine if target is None else or_(mine, challenges.c.target == target)
        sent = challenges.c.target.is_not(None), challenges.c.created_at > since
        query = select(challenges.c.created_at).where(mine_or_there, *sent).order_by(challenges.c.created_at)
        return list(self._connection.execute(query).scalars())

    def begin_sign_in(self, ticket_sha256: bytes, now: datetime, expires_at: datetime) -> None:
        """Keep a sign-in that waits for a factor, and drop those whose time is over."""
        self._connection.execute(delete(sign_ins).where(sign_ins.c.expires_at < now))
        values = self._owned() | {"id": uuid7(), "ticket_sha256": ticket_sha256, "tries": 0, "expires_at": expires_at}
        self._connection.execute(insert(sign_ins).values(values))

    def tries_of_sign_in(self, ticket_sha256: bytes, now: datetime) -> int | None:
        """Return how many wrong answers a waiting sign-in had; None where there is none, or its time is over."""
        query = select(sign_ins.c.tries).where(sign_ins.c.ticket_sha256 == ticket_sha256, sign_ins.c.expires_at > now)
        return self._connection.execute(query).scalar_one_or_none()

    def note_try_of_sign_in(self, ticket_sha256: bytes) -> None:
        """Count a wrong answer to a waiting sign-in."""
        tried = update(sign_ins).where(sign_ins.c.ticket_sha256 == ticket_sha256)
        self._connection.execute(tried.values(tries=sign_ins.c.tries + 1))

    def end_sign_in(self, ticket_sha256: bytes, session: Session, secret_sha256: bytes) -> None:
        """Begin a session in place of a waiting sign-in."""
        self._connection.execute(delete(sign_ins).where(sign_ins.c.ticket_sha256 == ticket_sha256))
        insert_session(self._connection, session, secret_sha256)

    def is_open(self, session_id: UUID) -> bool:
        """Tell whether a session of the user was not ended meanwhile."""
        mine = sessions.c.id == session_id, sessions.c.user_id == self.user.id, sessions.c.ended_at.is_(None)
        return self._connection.execute(select(sessions.c.id).where(*mine)).first() is not None

    def prove_session(self, session_id: UUID, now: datetime) -> None:
        """Note when whoever is in a session has last proven who they are."""
        self._connection.execute(update(sessions).where(sessions.c.id == session_id).values(proven_at=now))

    def lower_session(self, session_id: UUID) -> None:
        """Let a session count as begun by a password alone."""
        self._connection.execute(update(sessions).where(sessions.c.id == session_id).values(factor=None))

    def raise_session(self, session_id: UUID, secret_sha256: bytes, factor: str) -> None:
        """Give a session another secret, as of somebody who has shown a factor."""
        mine = update(sessions).where(sessions.c.id == session_id)
        self._connection.execute(mine.values(secret_sha256=secret_sha256, factor=factor))

    def end_other_sessions(self, session_id: UUID) -> None:
        """End every session and every waiting sign-in of the user but this one."""
        end_sessions(self._connection, self.user.id, but=session_id)

    def _kept(self, *conditions: Any) -> tuple[KeptFactor, ...]:  # noqa: ANN401 - of SQLAlchemy
        query = select(factors).where(factors.c.user_id == self.user.id, *conditions).order_by(factors.c.id)
        rows = self._connection.execute(query)
        return tuple(KeptFactor(_factor(row), row.secret, row.credential_id, row.counter) for row in rows)

    def _owned(self) -> dict[str, Any]:
        return {"workspace": self.user.workspace, "user_id": self.user.id}


def _confirmed(connection: Connection, user_id: UUID) -> tuple[Factor, ...]:
    confirmed = factors.c.user_id == user_id, factors.c.confirmed_at.is_not(None)
    rows = connection.execute(select(factors).where(*confirmed).order_by(factors.c.id))
    return tuple(_factor(row) for row in rows)


def _codes_left(connection: Connection, user_id: UUID) -> int:
    left = recovery_codes.c.user_id == user_id, recovery_codes.c.used_at.is_(None)
    return len(connection.execute(select(recovery_codes.c.id).where(*left)).all())


def _factor(row: Any) -> Factor:  # noqa: ANN401 - a row of any columns
    return Factor(row.id, row.kind, row.name, row.created_at, row.used_at)
