"""Workspaces, and issuing, checking, rotating and revoking API keys.

- A secret is shown once, when the key is issued, and stored only as its SHA-256.
- Nothing starts with a secret that somebody else could know: the first key is made on the first start.
- A key that was revoked or has expired is refused at once by the process that revoked it, within
  `2 * REMEMBERED_SECONDS` by every other: a key that was good is remembered that long.
- Nobody gives away more than they hold: whoever was granted single detectors makes keys for these alone, and a key that
  ends makes none that outlives it; one that it rotates ends with it at the latest.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from discern.access.rules import check_end, check_given, fingerprint, is_well_formed, make_secret
from discern.access.store import KeyStore, WorkspaceStore
from discern.access.types import LOCAL, ROLES, ApiKey, IssuedKey, Principal, Role, Workspace
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, StorageUnavailable, Unauthenticated, UnknownKey
from discern.core.ids import uuid7

log = logging.getLogger(__name__)
REMEMBERED_SECONDS = 1.0
MOST_OVERLAP = timedelta(days=30)
_MOST_REMEMBERED = 10_000
_WORKSPACE = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")
_WRONG_KEY = "This API key is not valid."


class Keys:
    """The API keys of an installation. `monotonic` is the clock that what is remembered ages by. Thread-safe."""

    def __init__(
        self, store: KeyStore, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        # By fingerprint: who holds the key, and until when that is believed without asking.
        self._remembered: dict[bytes, tuple[Principal, float]] = {}
        self._used: dict[UUID, datetime] = {}

    def issue(
        self,
        workspace: str,
        name: str,
        *,
        role: Role = "service",
        detectors: tuple[str, ...] | None = None,
        expires_at: datetime | None = None,
        certificate_sha256: str | None = None,
        by: Principal = LOCAL,
    ) -> IssuedKey:
        """Make a key. `detectors` None means all; a client certificate may be shown instead of the secret.

        Raises CallerError for a name that is empty or over 100 characters, an unknown role or an end in the past, and
        Forbidden where `by` does not hold what is to be given.
        """
        issued = self._make(workspace, name, role, detectors, expires_at)
        if certificate_sha256 is not None:
            bound = msgspec.structs.replace(issued.key, certificate_sha256=certificate_sha256)
            issued = IssuedKey(bound, issued.secret)
        check_given(by, detectors, "keys.create")
        check_end(by, self._end_of(by), expires_at, self._clock())
        self._store.add(issued.key, fingerprint(issued.secret), _act(by, "keys.create", issued.key, after=issued.key))
        return issued

    def issue_first(self, workspace: str) -> IssuedKey | None:
        """Make the workspace's first key, an owner's, or None where it has, or had, one."""
        issued = self._make(workspace, "first", "owner", None, None)
        act = _act(LOCAL, "keys.create", issued.key, after=issued.key)
        stored = self._store.add(issued.key, fingerprint(issued.secret), act, only_if_none=True)
        return issued if stored else None

    def rotate(self, workspace: str, key_id: UUID, overlap: timedelta, by: Principal = LOCAL) -> IssuedKey:
        """Make a key that may do the same for as long, and have the old one end after `overlap`, or before if it would.

        Where `by` is a key that ends, the key that is made ends with it at the latest.

        Raises UnknownKey where the workspace has no such live key, CallerError for an overlap that is negative or over
        thirty days.
        """
        if not timedelta() <= overlap <= MOST_OVERLAP:
            raise CallerError(
                f"An overlap of {overlap} is not possible.", mend=f"Choose 0 to {MOST_OVERLAP.days} days."
            )
        old = self.get(workspace, key_id)
        check_given(by, old.detectors, "keys.rotate")
        now = self._clock()
        ends = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
        ended = msgspec.structs.replace(old, expires_at=ends)
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        bounds = (None if lifetime is None else now + lifetime, self._end_of(by))
        end = min((one for one in bounds if one is not None), default=None)
        issued = self._make(workspace, old.name, old.role, old.detectors, end)
        act = _act(by, "keys.rotate", old, before=old, after=issued.key)
        if not self._store.rotate(ended, issued.key, fingerprint(issued.secret), act):
            raise _unknown(key_id)
        self._remembered = {}
        return issued

    def remembered(self, secret: str | None) -> Principal | None:
        """Return who holds `secret` where that was found out a moment ago, at once; None where `authenticate` must ask.

        The first to come when the moment is over gets None and asks, those after it are answered for another moment.
        """
        if not secret:
            return None
        digest = fingerprint(secret)
        known = self._remembered.get(digest)
        if known is None:
            return None
        principal, until = known
        now = self._monotonic()
        if now < until:
            return principal
        if now < until + REMEMBERED_SECONDS:
            self._remembered[digest] = principal, now + REMEMBERED_SECONDS
        return None

    def authenticate(self, secret: str | None) -> Principal:
        """Return who holds `secret`. Raises Unauthenticated, without telling a wrong key from a revoked one."""
        if not secret:
            raise Unauthenticated(
                "This route needs an API key.", mend="Send the header `Authorization: Bearer dsc_...`."
            )
        digest = fingerprint(secret)
        key = self._store.by_secret(digest) if is_well_formed(secret) else None
        now = self._clock()
        if key is None or not _is_live(key, now):
            self._remembered.pop(digest, None)
            raise Unauthenticated(
                _WRONG_KEY, mend="Check it for a typing error, or make one with `discern key create`."
            )
        principal = _principal(key)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered = {}
        left = REMEMBERED_SECONDS if key.expires_at is None else (key.expires_at - now).total_seconds()
        self._remembered[digest] = principal, self._monotonic() + min(REMEMBERED_SECONDS, left)
        self._used[key.id] = now
        return principal

    def authenticate_certificate(self, certificate_sha256: str) -> Principal:
        """Return who a client certificate stands for, which TLS has checked. Raises Unauthenticated."""
        key = self._store.by_certificate(certificate_sha256)
        now = self._clock()
        if key is None or not _is_live(key, now):
            raise Unauthenticated(
                "No key stands for this client certificate.", mend="Make one: `discern key create --certificate FILE`."
            )
        self._used[key.id] = now
        return _principal(key)

    def write_down_uses(self) -> None:
        """Write down when the keys were last used that were used since this was last called. Raises nothing."""
        used, self._used = self._used, {}
        try:
            if used:
                self._store.used(used)
        except StorageUnavailable as error:
            log.warning("key_uses_not_written", extra={"detail": str(error)})

    def list(self, workspace: str) -> list[ApiKey]:
        """Return every key of a workspace, oldest first."""
        return self._store.all(workspace)

    def get(self, workspace: str, key_id: UUID) -> ApiKey:
        """Return one live key. Raises UnknownKey."""
        key = self._store.get(workspace, key_id)
        if key is None or not _is_live(key, self._clock()):
            raise _unknown(key_id)
        return key

    def revoke(self, workspace: str, key_id: UUID, by: Principal = LOCAL) -> None:
        """End a key's life. Raises UnknownKey where the workspace has no such live key, and Forbidden."""
        key = self.get(workspace, key_id)
        check_given(by, key.detectors, "keys.revoke")
        if not self._store.revoke(workspace, key_id, self._clock(), _act(by, "keys.revoke", key, before=key)):
            raise _unknown(key_id)
        # After the commit: what was asked in between would be remembered as good.
        self._remembered = {}

    def _end_of(self, by: Principal) -> datetime | None:
        """Return when somebody's key ends; None where it has no end, or they came by no key."""
        kind, _, name = by.id.partition(":")
        key = self._store.get(by.workspace, UUID(name)) if kind == "key" else None
        return None if key is None else key.expires_at

    def _make(
        self,
        workspace: str,
        name: str,
        role: Role,
        detectors: tuple[str, ...] | None,
        expires_at: datetime | None,
    ) -> IssuedKey:
        if not (1 <= len(name) <= 100 and name.isprintable()):
            raise CallerError("A key's name has 1 to 100 printable characters.", mend="Give it another name.")
        check_role(role)
        now = self._clock()
        if expires_at is not None and expires_at <= now:
            raise CallerError(f"The key would have ended at {expires_at}.", mend="Give it an end in the future.")
        key = ApiKey(
            id=uuid7(),
            workspace=workspace,
            name=name,
            role=role,
            created_at=now,
            detectors=None if detectors is None else tuple(sorted(set(detectors))),
            expires_at=expires_at,
        )
        return IssuedKey(key=key, secret=make_secret())


class Workspaces:
    """The tenants of an installation. They are made on the command line alone: no tenant reaches beyond itself."""

    def __init__(self, store: WorkspaceStore, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock

    def create(self, name: str) -> Workspace:
        """Make a workspace. Raises CallerError for a name that is taken or is not lower-case words with hyphens."""
        if not _WORKSPACE.match(name):
            raise CallerError(
                f"{name[:100]!r} cannot be the name of a workspace.",
                mend="Use 1 to 64 of a-z, 0-9 and hyphens, no hyphen first or last.",
            )
        workspace = Workspace(name, self._clock())
        act = Act(name, LOCAL.id, "workspaces.create", f"workspace:{name}")
        if not self._store.add(workspace, act):
            raise CallerError(f"There is a workspace {name} already.", mend="Choose another name.")
        return workspace

    def list(self) -> list[Workspace]:
        """Return every workspace, by name."""
        return self._store.all()


def check_role(role: str) -> None:
    """Raise CallerError unless there is such a role."""
    if role not in ROLES:
        raise CallerError(f"There is no role {role[:100]!r}.", mend=f"Use one of: {', '.join(ROLES)}.")


def _principal(key: ApiKey) -> Principal:
    return Principal(f"key:{key.id}", key.workspace, key.role, key.detectors)


def _is_live(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _act(by: Principal, act: str, key: ApiKey, before: ApiKey | None = None, after: ApiKey | None = None) -> Act:
    told = [None if one is None else msgspec.to_builtins(one) for one in (before, after)]
    return Act(key.workspace, by.id, act, f"key:{key.id}", before=told[0], after=told[1])


def _unknown(key_id: UUID) -> UnknownKey:
    return UnknownKey(f"There is no live key {key_id}.", mend="`discern key list` shows the keys.")
