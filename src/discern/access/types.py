"""The nouns of access."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """Who asks, and the workspace the question is asked in. `id` is `key:UUID` or `local` for the command line."""

    id: str
    workspace: str


class ApiKey(msgspec.Struct, frozen=True):
    """An API key as it is stored; the secret itself is not."""

    id: UUID
    workspace: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None


class IssuedKey(msgspec.Struct, frozen=True):
    """A key at the one moment its secret is known."""

    key: ApiKey
    secret: str
