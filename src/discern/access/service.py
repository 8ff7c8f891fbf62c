"""Issuing, checking and revoking API keys.

- A secret is shown once, when the key is issued, and stored only as its SHA-256.
- Nothing starts with a secret that somebody else could know: the first key is made on the first start.
- A revoked key is refused at once by the process that revoked it, within `2 * REMEMBERED_SECONDS` by every other: a
  key that was good is remembered that long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from discern.access.rules import fingerprint, is_well_formed, make_secret
from discern.access.store import KeyStore
from discern.access.types import ApiKey, IssuedKey, Principal
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, Unauthenticated
from discern.core.ids import uuid7

REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 10_000


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

    def issue(self, workspace: str, name: str) -> IssuedKey:
        """Make a key. Raises CallerError for a name that is empty or over 100 characters."""
        issued = self._make(workspace, name)
        self._store.add(issued.key, fingerprint(issued.secret))
        return issued

    def issue_first(self, workspace: str) -> IssuedKey | None:
        """Make the workspace's first key, or None where it has, or had, one."""
        issued = self._make(workspace, "first")
        stored = self._store.add(issued.key, fingerprint(issued.secret), only_if_none=True)
        return issued if stored else None

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
        if key is None or key.revoked_at is not None:
            self._remembered.pop(digest, None)
            raise Unauthenticated(
                "This API key is not valid.", mend="Check it for a typing error, or make one with `discern key create`."
            )
        principal = Principal(id=f"key:{key.id}", workspace=key.workspace)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered = {}
        self._remembered[digest] = principal, self._monotonic() + REMEMBERED_SECONDS
        return principal

    def list(self, workspace: str) -> list[ApiKey]:
        """Return every key of a workspace, oldest first."""
        return self._store.all(workspace)

    def revoke(self, workspace: str, key_id: UUID) -> None:
        """End a key's life. Raises CallerError where the workspace has no such live key."""
        self._remembered = {}
        if not self._store.revoke(workspace, key_id, self._clock()):
            raise CallerError(f"There is no live key {key_id}.", mend="`discern key list` shows the keys.")

    def _make(self, workspace: str, name: str) -> IssuedKey:
        if not (1 <= len(name) <= 100 and name.isprintable()):
            raise CallerError("A key's name has 1 to 100 printable characters.", mend="Give it another name.")
        key = ApiKey(id=uuid7(), workspace=workspace, name=name, created_at=self._clock())
        return IssuedKey(key=key, secret=make_secret())
