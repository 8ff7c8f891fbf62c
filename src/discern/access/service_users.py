"""Users: their passwords, and the sessions of their browsers.

- A password that is common, or made of what is, is refused when it is set.
- A password is kept as Argon2id (RFC 9106) with the parameters OWASP recommends: 19 MiB, two passes, one lane.
- A wrong password and a name that does not exist are answered alike, and take alike.
- After `FREE_FAILURES` wrong passwords in a row each further one locks the name for twice as long, in the database, so
  on every process alike. Where the database does not answer nobody signs in.
- A session's secret is made when somebody signs in, never taken from the browser, and kept as its SHA-256.
- Whoever has a second factor gets no session without it; where their role demands one and they have none, a session
  that is good for enrolling one alone.
- A session ends after `IDLE` without use or `LONGEST`, and when its browser signs in again; a change of the password,
  the role or the grants ends them all.
- A request that changes something proves by its CSRF token that it comes from a page that could read our answer.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from discern.access.rules import check_given, fingerprint
from discern.access.rules_factors import FRESH_TIME
from discern.access.service import check_role
from discern.access.types import LOCAL, Principal, Role, Session, SignedIn, User
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import (
    CallerError,
    MissingExtra,
    StorageUnavailable,
    Unauthenticated,
    UnknownSession,
    UnknownUser,
    WrongPassword,
)
from discern.core.ids import uuid7
from discern.core.origin import origin

if TYPE_CHECKING:
    from discern.access.store_users import UserStore

log = logging.getLogger(__name__)
IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)
FREE_FAILURES = 5
LONGEST_LOCK = timedelta(minutes=15)
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 256
# "Safely unguessable" by those who made zxcvbn: beyond what a name that locks lets anybody try.
_LEAST_GUESSES = 1e8
_MOST_ESTIMATED = 40
_NEVER = datetime.max.replace(tzinfo=UTC)
_FIRST_LOCK = timedelta(seconds=2)
_REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 10_000
_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9._@+-]{0,98}[a-z0-9])?$")
_SECRET = re.compile(r"^dss_[A-Za-z0-9_-]{43}$")
# As many passwords are hashed at the same time; each takes 19 MiB.
_AT_A_TIME = 2


class Users:
    """The people of an installation. Thread-safe."""

    def __init__(
        self,
        store: UserStore,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        second_factor_roles: frozenset[str] = frozenset(),
    ) -> None:
        self._store = store
        self._second_factor_roles = second_factor_roles
        self._clock = clock
        self._monotonic = monotonic
        self._hashing = threading.BoundedSemaphore(_AT_A_TIME)
        self._hasher: Any = None
        self._nobodys = ""
        self._remembered: dict[bytes, tuple[Principal, float]] = {}
        self._used: dict[UUID, datetime] = {}

    def create(
        self,
        workspace: str,
        name: str,
        password: str,
        *,
        role: Role,
        detectors: tuple[str, ...] | None = None,
        by: Principal = LOCAL,
    ) -> User:
        """Make a user. Raises CallerError for a name, a password or a role that cannot be, or a name that is taken."""
        name = name.strip().lower()
        if not _NAME.match(name):
            raise CallerError(
                f"{name[:100]!r} cannot be the name of a user.",
                mend="Use up to 100 of a-z, 0-9 and . _ @ + -; an e-mail address will do.",
            )
        check_role(role)
        check_password(password, name)
        check_given(by, detectors, "users.create")
        user = User(
            id=uuid7(), workspace=workspace, name=name, role=role, created_at=self._clock(), detectors=detectors
        )
        if not self._store.add(user, self._hash(password), _act(by, "users.create", user, after=user)):
            raise CallerError(f"There is a user {name} already.", mend="Choose another name.")
        return user

    def list(self, workspace: str) -> list[User]:
        """Return every user of a workspace, oldest first."""
        return self._store.all(workspace)

    def get(self, workspace: str, user_id: UUID) -> User:
        """Return one user of a workspace. Raises UnknownUser."""
        user = self._store.get(user_id)
        if user is None or user.workspace != workspace:
            raise UnknownUser(f"There is no user {user_id}.", mend="`discern user list` shows them.")
        return user

    def named(self, workspace: str, name: str) -> User:
        """Return the user of a name. Raises UnknownUser."""
        found = self._store.by_name(name.strip().lower())
        if found is None or found[0].workspace != workspace:
            raise UnknownUser(f"There is no user {name[:100]}.", mend="`discern user list` shows them.")
        return found[0]

    def change(
        self,
        user: User,
        *,
        role: Role | None = None,
        detectors: tuple[str, ...] | None = None,
        all_detectors: bool = False,
        disabled: bool | None = None,
        password: str | None = None,
        own: bool = False,
        by: Principal = LOCAL,
    ) -> User:
        """Change a user, and end their sessions. What is None stays. Raises CallerError and Forbidden."""
        # Else whoever was granted little could set the password of somebody who was granted more.
        check_given(by, user.detectors, "users.change")
        if user.provider is not None and (role, detectors, password, all_detectors) != (None, None, None, False):
            raise CallerError(
                f"{user.name} comes from {user.provider}, which decides on password, role and detectors.",
                mend="Change their groups there, or what the groups may in sign-in.toml; here they can be disabled.",
            )
        if password is not None and by.id == f"user:{user.id}" and not own:
            raise CallerError("Your own password is changed with the old one.", mend="POST /v1/password.")
        changes: dict[str, Any] = {}
        if role is not None:
            check_role(role)
            changes["role"] = role
        if detectors is not None or all_detectors:
            granted = None if all_detectors else detectors
            check_given(by, granted, "users.change")
            changes["detectors"] = granted
        if disabled is not None:
            changes["disabled_at"] = self._clock() if disabled else None
        if password is not None:
            check_password(password, user.name)
            changes |= {"failures": 0, "locked_until": None}
        changed = msgspec.structs.replace(user, **changes)
        act = _act(by, "users.change", user, before=user, after=changed)
        if password is not None:
            act = msgspec.structs.replace(act, reason="password changed")
        if password is not None:
            changes["password"] = self._hash(password)
        self._store.change(user, changes, act)
        self._remembered = {}
        return changed

    def change_own_password(self, principal: Principal, old: str, new: str) -> None:
        """Change the password of whoever asks; all their sessions end. Raises WrongPassword, CallerError."""
        user = self._of(principal)
        if user.provider is not None:
            raise CallerError(f"You have no password here: you come from {user.provider}.", mend="Change it there.")
        self.check(user.name, old)
        self.change(user, password=new, own=True, by=_principal(user))

    def begin(
        self,
        user: User,
        agent: str,
        *,
        factor: str | None,
        password: str | None = None,
        ends_at: datetime | None = None,
        came_by: dict[str, Any] | None = None,
    ) -> SignedIn:
        """Begin a session for a user whose right to one was checked. Raises WrongPassword where they lost it meanwhile.

        `factor` says what they have shown beside the password or, for whoever has none, who vouches for them; None only
        for a password alone. `password` is the hash that the password fitted. `came_by` is put on record.
        """
        # Who comes from a provider has proven there who they are.
        is_proven = password is not None or user.provider is not None
        begun = self.prepare(user, agent, factor=factor, is_proven=is_proven, ends_at=ends_at)
        act = begin_act(begun, came_by)
        if not self._store.sign_in(begun.session, fingerprint(begun.secret), password, act):
            raise wrong()
        return begun

    def prepare(
        self, user: User, agent: str, *, factor: str | None, is_proven: bool, ends_at: datetime | None = None
    ) -> SignedIn:
        """Return a session that is not stored yet. `is_proven` tells whether the password was given for it."""
        now = self._clock()
        secret = make_session_secret()
        session = Session(
            id=uuid7(),
            workspace=user.workspace,
            user_id=user.id,
            address=origin().address[:100],
            agent="".join(one for one in agent if one.isprintable())[:200],
            created_at=now,
            used_at=now,
            ends_at=ends_at,
            factor=factor,
            proven_at=now if is_proven else None,
        )
        return SignedIn(session, self._principal(user, session), secret, csrf_token(secret))

    def demands_factor(self, role: str) -> bool:
        """Tell whether users of a role must have a second factor."""
        return role in self._second_factor_roles

    def forget(self) -> None:
        """Believe nothing that was known of sessions a moment ago."""
        self._remembered = {}

    def authenticate(self, secret: str) -> Principal:
        """Return whose session it is. Raises Unauthenticated."""
        digest = fingerprint(secret)
        known = self._remembered.get(digest)
        if known is not None and self._monotonic() < known[1]:
            return known[0]
        found = self._store.by_secret(digest) if _SECRET.match(secret) else None
        now = self._clock()
        if found is None or not _is_live(*found, now):
            self._remembered.pop(digest, None)
            raise Unauthenticated("The session has ended.", mend="Sign in again: POST /v1/login.")
        session, user = found
        principal = self._principal(user, session)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered = {}
        self._remembered[digest] = principal, self._monotonic() + _REMEMBERED_SECONDS
        self._used[session.id] = now
        return principal

    def session_of(self, principal: Principal, secret: str) -> Session:
        """Return the session that whoever asks came in by. Raises CallerError for who did not come by one."""
        user = self._of(principal)
        found = self._store.by_secret(fingerprint(secret))
        if found is None or found[0].user_id != user.id:
            raise CallerError("This request came in without a session.", mend="Sign in: POST /v1/login.")
        return found[0]

    def sessions(self, principal: Principal) -> tuple[Session, ...]:
        """Return the live sessions of whoever asks, newest first."""
        user, now = self._of(principal), self._clock()
        return tuple(one for one in self._store.sessions_of(user.id) if _is_live(one, user, now))

    def end(self, principal: Principal, session_id: UUID) -> None:
        """End a session of whoever asks. Raises UnknownSession."""
        user = self._of(principal)
        act = Act(user.workspace, principal.id, "sessions.end", f"session:{session_id}")
        if not self._store.end(user.id, session_id, self._clock(), act):
            raise UnknownSession(f"You have no session {session_id}.", mend="`GET /v1/sessions` lists yours.")
        self._remembered = {}

    def end_brought_along(self, secret: str) -> None:
        """End the session of a browser that has just begun another, if it brought one."""
        found = self._store.by_secret(fingerprint(secret)) if _SECRET.match(secret) else None
        if found is None:
            return
        session, user = found
        who, what = f"user:{user.id}", f"session:{session.id}"
        act = Act(user.workspace, who, "sessions.end", what, reason="signed in again")
        if self._store.end(user.id, session.id, self._clock(), act):
            self._remembered = {}

    def write_down_uses(self) -> None:
        """Write down when the sessions were last used that were used since this was last called. Raises nothing."""
        used, self._used = self._used, {}
        try:
            if used:
                self._store.used(used)
        except StorageUnavailable as error:
            log.warning("session_uses_not_written", extra={"detail": str(error)})

    def _of(self, principal: Principal) -> User:
        kind, _, name = principal.id.partition(":")
        user = self._store.get(UUID(name)) if kind == "user" else None
        if user is None:
            raise CallerError("Only a user has sessions and a password.", mend="Sign in: POST /v1/login.")
        return user

    def check(self, name: str, password: str) -> tuple[User, str]:
        """Return the user of a name and a password, and the hash it fits. Raises WrongPassword."""
        name = name.strip().lower()
        # The lock is looked at when it is this one's turn: of many guesses at once the first ones lock the rest out.
        with self._hashing:
            found = self._store.by_name(name)
            if found is not None and found[0].provider is not None:
                found = None  # who has no password here is answered, and takes, as a name that does not exist
            good = self._verified(found[1] if found is not None else self._nobody(), password)
            if found is None:
                raise wrong()
            user, now = found[0], self._clock()
            if user.locked_until is not None and user.locked_until > now:
                raise wrong()
            if good and user.disabled_at is None:
                return user, found[1]
            reason = "disabled" if good else "wrong password"
            who = f"user:{user.id}"
            act = Act(user.workspace, who, "sessions.begin", who, outcome="denied", reason=reason)
            self._store.note_failure(user.id, lambda failures: locked_until(now, failures), act)
            raise wrong()

    def _principal(self, user: User, session: Session) -> Principal:
        enrolling = session.factor is None and self.demands_factor(user.role)
        is_fresh = session.proven_at is not None and self._clock() < session.proven_at + FRESH_TIME
        return msgspec.structs.replace(_principal(user), enrolling=enrolling, is_fresh=is_fresh)

    def _hash(self, password: str) -> str:
        with self._hashing:
            return str(self._argon().hash(password))

    def _verified(self, hashed: str, password: str) -> bool:
        hasher = self._argon()
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - an extra

        try:
            fits = bool(hasher.verify(hashed, password[:LONGEST_PASSWORD]))
        except (VerificationError, InvalidHashError):
            return False
        # A longer one was never set, and takes as long to be refused as any other wrong one.
        return fits and len(password) <= LONGEST_PASSWORD

    def _nobody(self) -> str:
        if not self._nobodys:
            self._nobodys = str(self._argon().hash(secrets.token_urlsafe(16)))
        return self._nobodys

    def _argon(self) -> Any:  # noqa: ANN401 - an extra
        if self._hasher is None:
            try:
                from argon2 import PasswordHasher  # noqa: PLC0415 - an extra
            except ImportError as error:
                raise MissingExtra(
                    "Passwords need argon2-cffi, which is not installed.",
                    mend="Install it: pip install 'discern-detectors[server]'.",
                    extra="server",
                ) from error
            self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        return self._hasher


def make_session_secret() -> str:
    """Return the secret of a session."""
    return "dss_" + secrets.token_urlsafe(32)


def csrf_token(secret: str) -> str:
    """Return the token that goes with a session's secret."""
    digest = hmac.new(secret.encode(), b"csrf", hashlib.sha256).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")


def check_password(password: str, name: str) -> None:
    """Raise CallerError for a password that is too short, too long or too easily guessed.

    That is (NIST SP 800-63B, section 3.1.1.2): the name, one of the commonest, or one that zxcvbn expects to be guessed
    in fewer than `_LEAST_GUESSES` tries.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise CallerError(
            f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.", mend="Several words will do."
        )
    # Short names are in many words.
    has_the_name = len(name) > 3 and name in password.lower()
    if has_the_name or len(set(password)) < 5 or _guesses(password, name) < _LEAST_GUESSES:
        raise CallerError(
            "The password is too easily guessed: it is common, made of common parts, or the name.",
            mend="Several words that are not the name will do.",
        )


def _guesses(password: str, name: str) -> float:
    try:
        from zxcvbn import zxcvbn  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Passwords need zxcvbn, which is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
    # What is longer takes it seconds, and is no easier to guess.
    return float(zxcvbn(password[:_MOST_ESTIMATED], user_inputs=[name])["guesses"])


def locked_until(now: datetime, failures: int) -> datetime | None:
    """Return until when a name is locked after as many wrong passwords in a row."""
    beyond = failures - FREE_FAILURES
    return None if beyond < 0 else now + min(LONGEST_LOCK, _FIRST_LOCK * 2 ** min(beyond, 20))


def _is_live(session: Session, user: User, now: datetime) -> bool:
    in_time = now < session.used_at + IDLE and now < min(session.created_at + LONGEST, session.ends_at or _NEVER)
    return session.ended_at is None and user.disabled_at is None and in_time


def _principal(user: User) -> Principal:
    return Principal(f"user:{user.id}", user.workspace, user.role, user.detectors)


def _act(by: Principal, act: str, user: User, before: User | None = None, after: User | None = None) -> Act:
    told = [None if one is None else msgspec.to_builtins(one) for one in (before, after)]
    return Act(user.workspace, by.id, act, f"user:{user.id}", before=told[0], after=told[1])


def begin_act(begun: SignedIn, came_by: dict[str, Any] | None = None) -> Act:
    """Return what goes on record of a session that begins."""
    after = {"factor": begun.session.factor} | (came_by or {})
    session = f"session:{begun.session.id}"
    return Act(begun.session.workspace, begun.principal.id, "sessions.begin", session, after=after)


def wrong() -> WrongPassword:
    """Return the one answer to every name and password that let nobody in."""
    mend = "Check both; after several wrong ones a name is locked for a while."
    return WrongPassword("The name or the password is wrong.", mend=mend)
