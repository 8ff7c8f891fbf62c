"""The nouns of objects and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class Address(NamedTuple):
    """Where an object is found: what of a workspace belongs together has one `folder`."""

    workspace: str
    folder: str
    name: str


class WrappedKey(NamedTuple):
    """A key that only what `key_id` names can unwrap. `key_id` is `kind:name`, at most 300 characters."""

    key_id: str
    blob: bytes

    @property
    def kind(self) -> str:
        """What kind of key it is wrapped by."""
        return self.key_id.partition(":")[0]


class Kept(NamedTuple):
    """An object that is kept, and what its key is wrapped by. The bytes lie under `id`."""

    id: UUID
    address: Address
    key: WrappedKey


class Wrapping(NamedTuple):
    """A wrapped key among others, and what it was bound to when it was wrapped."""

    id: UUID
    key: WrappedKey
    context: bytes


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a master key. `made_at` is None where only others know."""

    id: str
    made_at: datetime | None = None
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A version, whether it is here, and how many keys it wraps."""

    version: KeyVersion
    is_here: bool
    uses: int


class Rewrapped(NamedTuple):
    """What came of wrapping keys anew: the version they are wrapped by, how many, and how many could not be."""

    key_id: str
    keys: int
    failed: int
