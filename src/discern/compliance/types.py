"""The nouns of compliance."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

import msgspec

from discern.core.errors import Fact

Framework = Literal["gdpr", "ccpa", "soc2", "iso27001", "nist-csf"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)

EvidenceName = Literal[
    "version",
    "transport",
    "proxies",
    "limits",
    "durability",
    "audit_log",
    "audit_anchor",
    "users",
    "keys",
    "detectors",
    "retention",
    "policies",
]

State = Literal["shown", "attention", "operator"]
"""`shown`: the evidence is there, which does not say that a control is met. `attention`: somebody should look at it.
`operator`: it is for whoever runs the installation."""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A control or an article: what it asks in few words, and what answers it.

    `shown_by` are commands, routes and pages; `evidence` is what a report looks at; `operator` is what is left to do
    for whoever runs the installation.
    """

    number: str
    asks: str
    discern: str = ""
    shown_by: tuple[str, ...] = ()
    evidence: tuple[EvidenceName, ...] = ()
    operator: str = ""


class Standard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A standard or a law. `scope` says which part of it stands here."""

    title: str
    source: str
    scope: str
    controls: tuple[Control, ...]


class Kept(msgspec.Struct, frozen=True):
    """How long something is kept; without an end where `seconds` is None."""

    what: str
    seconds: float | None


class Installation(msgspec.Struct, frozen=True):
    """The settings in force that a report speaks of: none of them a secret, a name or an address."""

    version: str
    database: Literal["SQLite", "PostgreSQL"]
    durability: str
    has_tls: bool
    takes_client_certificates: bool
    is_local: bool
    trusted_proxies: int
    cors_origins: int
    rate_limits: str
    limits: dict[str, float]
    anchors_in: Literal["home folder", "file", "URL", "object store"]
    anchor_seconds: float


Facts = dict[str, Fact | dict[str, int]]


class Evidence(msgspec.Struct, frozen=True):
    """What was found. `unknown` says what could not be established, if anything."""

    name: EvidenceName
    state: State
    says: str
    facts: Facts = {}
    unknown: str = ""


class Item(msgspec.Struct, frozen=True):
    """A control with its state and the names of the evidence for it."""

    framework: Framework
    number: str
    asks: str
    state: State
    evidence: tuple[EvidenceName, ...]
    shown_by: tuple[str, ...]
    operator: str


class Report(msgspec.Struct, frozen=True):
    """What an installation can show for a workspace. `told_by` is the door it was asked at."""

    made_at: datetime
    version: str
    workspace: str
    told_by: Literal["command line", "server"]
    evidence: tuple[Evidence, ...]
    items: tuple[Item, ...]
    not_established: tuple[str, ...]
