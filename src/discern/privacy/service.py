"""Subjects at the doors: who a name stands for, and the key that what is kept of them is sealed with.

- A key is made when a name comes first, and never leaves the process but wrapped with the master key.
- Where a workspace asks for consent, nobody is judged without: not unnamed, not without having consented.
- What another process erased or changed is known here within `REMEMBERED_SECONDS`.
- Nothing is opened before the first name comes, so that an installation without names has one database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from discern.core.clock import Clock, utc_now
from discern.core.errors import ConsentMissing, ObjectRefused
from discern.objects.ports import HeldKey, KeyWrapper
from discern.objects.types import WrappedKey, Wrapping
from discern.privacy.ports import KEY_KIND
from discern.privacy.rules import check_name, make_key, reference_of
from discern.privacy.store import ConsentStore
from discern.privacy.store_keys import StoredKey, SubjectKeyStore
from discern.privacy.types import Subject

REMEMBERED_SECONDS = 2.0
_MOST_REMEMBERED = 10_000


class SubjectKeys:
    """The subjects of an installation, as the doors, the ledger and objects see them. Thread-safe.

    `make_store` returns the store of keys, which is opened when it is first needed; `is_there` tells whether it ever
    was.
    """

    kind = KEY_KIND

    def __init__(
        self,
        make_store: Callable[[], SubjectKeyStore],
        is_there: Callable[[], bool],
        consents: ConsentStore,
        masters: KeyWrapper,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_store = make_store
        self._is_there = is_there
        self._store: SubjectKeyStore | None = None
        self._opening = threading.Lock()
        self._consents = consents
        self._masters = masters
        self._clock = clock
        self._monotonic = monotonic
        self._secrets: dict[str, bytes] = {}
        self._remembered: dict[bytes, tuple[bytes, float]] = {}
        self._required: dict[str, tuple[bool, float]] = {}

    @property
    def store(self) -> SubjectKeyStore:
        """The store of keys, open. Raises SubjectsUnavailable where there is none, and StorageUnavailable."""
        with self._opening:
            if self._store is None:
                store = self._make_store()
                store.open()
                self._store = store
            return self._store

    def has_any(self) -> bool:
        """Tell whether a name has ever come."""
        return self._store is not None or self._is_there()

    def close(self) -> None:
        """Give everything back."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def admit(self, workspace: str, name: str | None) -> Subject | None:
        """Return the subject of a question; see the port."""
        required = self._is_required(workspace)
        if name is None:
            if required:
                raise ConsentMissing(
                    "This workspace judges nobody without consent, and the question names no subject.",
                    mend="Name the person: in the header Discern-Subject, or with `--subject`.",
                )
            return None
        reference = self.reference(workspace, name)
        # Before a key is made: whoever is refused leaves nothing behind.
        if required and not self._has_consented(workspace, reference):
            raise _no_consent()
        return self._subject(reference, self._stored(workspace, reference))

    def may_be_unnamed(self, workspace: str) -> bool:
        """Tell without waiting whether a question may go without a subject; see the port."""
        required, until = self._required.get(workspace, (True, 0.0))
        return not required and self._monotonic() < until

    def again(self, workspace: str, reference: str) -> Subject | None:
        """Return a subject who was admitted before; see the port."""
        stored = self.store.get(workspace, reference)
        if stored is None:
            return None
        subject = self._subject(reference, stored)
        return None if self._is_required(workspace) and not self._has_consented(workspace, reference) else subject

    def keys(self, workspace: str, key_ids: Collection[bytes]) -> dict[bytes, bytes]:
        """Return those keys that have not been shredded; see the port."""
        now = self._monotonic()
        found, unknown = {}, []
        for key_id in key_ids:
            key, until = self._remembered.get(key_id, (b"", 0.0))
            if now < until:
                found[key_id] = key
            else:
                unknown.append(key_id)
        if unknown:
            for stored in self.store.some(unknown):
                if stored.workspace == workspace:
                    found[stored.key_id] = self._unwrapped(stored)
        return found

    def reference(self, workspace: str, name: str) -> str:
        """Return what stands for a name. Raises MalformedRequest and StorageUnavailable."""
        check_name(name)
        secret = self._secrets.get(workspace)
        if secret is None:
            secret = self._secrets[workspace] = self._unwrapped(self._stored(workspace, ""))
        return reference_of(secret, workspace, name)

    def shred(self, workspace: str, reference: str, now: datetime) -> bytes | None:
        """Shred the key of a subject and return its id; None where there is none. Raises StorageUnavailable."""
        key_id = self.store.shred(workspace, reference, now)
        if key_id is not None:
            self._remembered.pop(key_id, None)
        self.store.wipe()
        return key_id

    def forget_rules(self, workspace: str) -> None:
        """Look anew at what a workspace asks for."""
        self._required.pop(workspace, None)

    # What the rotation of the master key asks of a table of keys.

    def uses(self) -> dict[str, int]:
        """Return how many keys each version of a master key wraps."""
        return self.store.uses() if self.has_any() else {}

    def pending(self, current: str, after: UUID | None, limit: int) -> list[Wrapping]:
        """Return keys that another version of a master key wraps, in the order of their ids."""
        found = self.store.pending(current, b"" if after is None else after.bytes, limit) if self.has_any() else []
        return [Wrapping(UUID(bytes=one.key_id), one.wrapped, _context(one)) for one in found]

    def replace(self, moved: Sequence[tuple[Wrapping, WrappedKey]]) -> int:
        """Write keys that were wrapped anew, but for such as have changed or gone meanwhile; return how many."""
        return sum(self.store.replace(old.id.bytes, old.key, fresh) for old, fresh in moved)

    # What objects ask of a kind of key: that of a subject wraps the keys of what is kept of them.

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return a key that a subject's key wraps. Raises ObjectRefused where that was shredded."""
        key_id = bytes.fromhex(wrapped.key_id.partition(":")[2])
        held = next(iter(self.store.some([key_id])), None)
        if held is None:
            raise ObjectRefused("What it is about was erased.", mend="Nothing is left of it.", reason="key")
        return HeldKey(wrapped.key_id, self._unwrapped(held)).unwrap(wrapped, context)

    def _stored(self, workspace: str, reference: str) -> StoredKey:
        stored = self.store.get(workspace, reference)
        if stored is None:
            key_id, key = make_key()
            made = StoredKey(workspace, key_id, WrappedKey("", b""))
            made = made._replace(wrapped=self._masters.wrap(key, _context(made)))
            stored = self.store.add(reference, made, self._clock())
        return stored

    def _subject(self, reference: str, stored: StoredKey) -> Subject:
        return Subject(stored.workspace, reference, stored.key_id, self._unwrapped(stored))

    def _unwrapped(self, stored: StoredKey) -> bytes:
        now, place = self._monotonic(), stored.key_id
        key, until = self._remembered.get(place, (b"", 0.0))
        if now >= until:
            key = self._masters.unwrap(stored.wrapped, _context(stored))
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered = {}
        self._remembered[place] = key, now + REMEMBERED_SECONDS
        return key

    def _is_required(self, workspace: str) -> bool:
        now = self._monotonic()
        required, until = self._required.get(workspace, (True, 0.0))
        if now >= until:
            required = self._consents.rules(workspace).consent_required
            self._required[workspace] = required, now + REMEMBERED_SECONDS
        return required

    def _has_consented(self, workspace: str, reference: str) -> bool:
        latest = self._consents.latest(workspace, reference)
        return latest is not None and latest.given


def _context(stored: StoredKey) -> bytes:
    return b"subject\0%s\0%s" % (stored.workspace.encode(), stored.key_id)


def _no_consent() -> ConsentMissing:
    return ConsentMissing(
        "The subject has not consented, or has withdrawn it.",
        mend="Record their consent: POST /v1/privacy/consents, or `discern privacy consent give`.",
    )
