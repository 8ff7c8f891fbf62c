"""The nouns of access."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, get_args
from uuid import UUID

import msgspec

from discern.core.workspace import DEFAULT_WORKSPACE

Role = Literal["owner", "operator", "analyst", "reviewer", "auditor", "device", "service"]
ROLES: tuple[Role, ...] = get_args(Role)

Action = Literal[
    "alerts.change",
    "alerts.read",
    "analytics.read",
    "audit.read",
    "budgets.change",
    "compliance.read",
    "detect",
    "detectors.read",
    "drift.read",
    "health.read",
    "jobs.cancel",
    "jobs.read",
    "keys.create",
    "keys.read",
    "keys.revoke",
    "keys.rotate",
    "metrics.read",
    "privacy.change",
    "privacy.consent",
    "privacy.erase",
    "privacy.export",
    "privacy.read",
    "quality.read",
    "retention.change",
    "retention.read",
    "statistics.read",
    "usage.read",
    "users.change",
    "users.create",
    "users.read",
    "users.remove",
    "verdicts.label",
    "verdicts.read",
]
ACTIONS: tuple[Action, ...] = get_args(Action)

ResourceKind = Literal["Workspace", "Detector", "Verdict", "Job", "Key", "User"]


class Principal(msgspec.Struct, frozen=True):
    """Who asks, and the workspace the question is asked in.

    `id` is `key:UUID`, `user:UUID`, `local` for the command line or `library` for Python code. `detectors` are those
    that were granted; None means all. Who `is_fresh` has proved a few minutes ago who they are. Who is
    `enrolling` has come in by a password alone where their role demands a
    second factor: they may enrol one, and nothing else.
    """

    id: str
    workspace: str
    role: Role = "service"
    detectors: tuple[str, ...] | None = None
    enrolling: bool = False
    is_fresh: bool = False


LOCAL = Principal("local", DEFAULT_WORKSPACE, "owner")
"""Whoever may read the files of the installation, on the command line."""


class Workspace(msgspec.Struct, frozen=True):
    """A tenant."""

    name: str
    created_at: datetime


# Of what somebody asked about, which may be anything, goes on record.
_MOST_SHOWN = 100


class Resource(NamedTuple):
    """What is asked about. `detector` is the one it is or came from, `role` the role of a key or a user."""

    kind: ResourceKind
    id: str
    workspace: str
    detector: str = ""
    role: str = ""

    def __str__(self) -> str:
        return f"{self.kind.lower()}:{self.id[:_MOST_SHOWN]}"


class ApiKey(msgspec.Struct, frozen=True):
    """An API key as it is stored; the secret itself is not. `detectors` None means all.

    `certificate_sha256` is that of the client certificate that may be shown instead of the secret.
    """

    id: UUID
    workspace: str
    name: str
    role: Role
    created_at: datetime
    detectors: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    certificate_sha256: str | None = None


class IssuedKey(msgspec.Struct, frozen=True):
    """A key at the one moment its secret is known."""

    key: ApiKey
    secret: str


class Explanation(msgspec.Struct, frozen=True):
    """Why something is permitted or not: the names of the policies that decided, and a sentence."""

    allowed: bool
    policies: tuple[str, ...]
    sentence: str


class User(msgspec.Struct, frozen=True):
    """A person, who comes in with a password. `name` is one over all workspaces; `detectors` None means all.

    Who comes from an identity provider has no password here: `provider` is its name, `subject` who they are to it.
    """

    id: UUID
    workspace: str
    name: str
    role: Role
    created_at: datetime
    detectors: tuple[str, ...] | None = None
    disabled_at: datetime | None = None
    failures: int = 0
    locked_until: datetime | None = None
    provider: str | None = None
    subject: str | None = None


class Session(msgspec.Struct, frozen=True):
    """A browser that somebody has signed in with. `agent` is what it calls itself.

    `factor` is the second factor that was shown, None for a password alone; `proven_at` is when whoever is in it last
    proved who they are. `ends_at` is when it ends however much it is used, where that is sooner than for all.
    """

    id: UUID
    workspace: str
    user_id: UUID
    address: str
    agent: str
    created_at: datetime
    used_at: datetime
    ended_at: datetime | None = None
    factor: str | None = None
    proven_at: datetime | None = None
    ends_at: datetime | None = None


class SignedIn(msgspec.Struct, frozen=True):
    """A session at the one moment its secret is known. Requests that change something send `csrf_token` along."""

    session: Session
    principal: Principal
    secret: str
    csrf_token: str


class Token(msgspec.Struct, frozen=True):
    """A token to send instead of a key until `expires_at`; `key_id` names the key that signed it."""

    token: str
    expires_at: datetime
    key_id: str
