"""What others need of objects, and what objects need of whoever keeps a key.

Keys form a chain: a master key wraps the key of an object, or it wraps the key of a subject, which wraps the keys of
the objects that are about that subject. Whoever wraps is a `KeyWrapper` either way; `begin(..., by=...)` says which
one, and shredding a key in the middle makes unreadable all that hangs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import BinaryIO, Protocol
from uuid import UUID

from discern.objects.rules import unwrap, wrap
from discern.objects.types import Address, KeyVersion, WrappedKey, Wrapping

MASTER_KINDS = ("file", "secret", "vault", "aws")
"""The kinds of key that stand at the top; what is wrapped by them is wrapped anew when they are rotated."""


class KeyWrapper(Protocol):
    """Wraps keys. When it is down it raises ObjectsUnavailable, and nothing is written or read."""

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key of 32 bytes wrapped, bound to `context`."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused where it was changed, or its wrapper is not here."""
        ...


class HeldKey:
    """A key in memory that wraps others, such as a subject's once the master key has unwrapped it."""

    def __init__(self, key_id: str, key: bytes) -> None:
        self.key_id = key_id
        self._key = key

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key wrapped by this one."""
        return WrappedKey(self.key_id, wrap(key, self._key, context))

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused."""
        return unwrap(wrapped.blob, self._key, context)


class KindOfKey(Protocol):
    """Unwraps what was wrapped by keys whose ids begin with `kind` and a colon."""

    @property
    def kind(self) -> str:
        """Return the kind."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused where it was changed, or its wrapper is not here."""
        ...


class MasterKey(KindOfKey, KeyWrapper, Protocol):
    """A key at the top of the chain, in versions: the current one wraps, older ones unwrap until they are removed."""

    def current(self) -> str:
        """Return the id of the version that wraps."""
        ...

    def versions(self) -> Sequence[KeyVersion]:
        """Return the versions it can list."""
        ...

    def version(self, key_id: str) -> KeyVersion | None:
        """Return the version of an id, listed or not; None where it cannot unwrap any more."""
        ...

    def make_version(self) -> str:
        """Make a version, the current one from here on; return its id. Raises CallerError where others make it."""
        ...

    def remove_version(self, key_id: str) -> None:
        """Remove a version for good. Raises CallerError where others do that."""
        ...


class WrappedKeys(Protocol):
    """Some table of wrapped keys. All there are take part when a master key is rotated."""

    def uses(self) -> dict[str, int]:
        """Return how many keys each version of a master key wraps."""
        ...

    def pending(self, current: str, after: UUID | None, limit: int) -> list[Wrapping]:
        """Return keys that another version of a master key wraps, in the order of their ids."""
        ...

    def replace(self, moved: Sequence[tuple[Wrapping, WrappedKey]]) -> int:
        """Write keys that were wrapped anew, but for such as have changed or gone meanwhile; return how many."""
        ...


class Writing(Protocol):
    """An object that is being written: there when `end` has returned, as if it had never been until then."""

    def write(self, content: bytes) -> None:
        """Write on. Raises ObjectsUnavailable."""
        ...

    def end(self, *, replace: bool = True) -> bool:
        """Have it there instead of what was; without `replace` only where nothing was. Tell whether it is.

        Raises ObjectsUnavailable, StorageUnavailable.
        """
        ...

    def abandon(self) -> None:
        """Leave nothing of it. Raises nothing."""
        ...


class Objects(Protocol):
    """Objects that are kept encrypted. When they are down: StorageUnavailable, and nothing is acknowledged."""

    def begin(self, address: Address, *, by: KeyWrapper | None = None) -> Writing:
        """Begin to write an object, its key wrapped by the master key or by `by`."""
        ...

    def put(self, address: Address, content: bytes, *, replace: bool = True) -> bool:
        """Write a small object at once; see `Writing.end`."""
        ...

    def open(self, address: Address) -> BinaryIO:
        """Open an object for reading, with `seek`; its end is known to be its end.

        Raises UnreadableInput where there is none, ObjectRefused where it is not what was written.
        """
        ...

    def names(self, workspace: str, folder: str) -> list[str]:
        """Return the names of a folder's objects, in order."""
        ...

    def erase(self, workspace: str, folder: str, *, but: Sequence[str] = ()) -> int:
        """Erase a folder but for some names; return how many. Their keys are gone when this returns, the bytes soon."""
        ...

    def wipe(self) -> None:
        """Leave nothing of the keys of what was erased in the files of the database; now, and not soon."""
        ...

    def folders(self, prefix: str, before: datetime) -> list[tuple[str, str]]:
        """Return workspace and folder of objects older than a time, of folders that begin with `prefix`."""
        ...
