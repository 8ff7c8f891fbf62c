"""The nouns of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

Outcome = Literal["done", "denied", "failed"]


class Act(msgspec.Struct, frozen=True):
    """What somebody did or was kept from doing.

    `who` is a principal's id, `act` a verb such as `keys.create`, `target` what it was done to, as `kind:id`. `before`
    and `after` hold what changed; never a secret.
    """

    workspace: str
    who: str
    act: str
    target: str
    outcome: Outcome = "done"
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str | None = None


class Entry(msgspec.Struct, frozen=True):
    """An act on record. `number` counts from 1 in its workspace; `previous` and `digest` are SHA-256 in hexadecimal.

    `address` and `request_id` say where it came from; the command line's is `local`.
    """

    number: int
    at: datetime
    address: str
    request_id: str
    act: Act
    previous: str
    digest: str = ""


class Anchor(msgspec.Struct, frozen=True):
    """How far a workspace's log had come at a time, kept where whoever can change the database cannot change it."""

    workspace: str
    number: int
    digest: str
    at: datetime


class Fault(msgspec.Struct, frozen=True):
    """Where a log does not hold. `number` is that of the entry, or of the one that should be there."""

    number: int
    what: str


class EntryPage(msgspec.Struct, frozen=True):
    """A page of a log, newest first; `next` is what to ask for as `before` to go on."""

    entries: tuple[Entry, ...]
    next: int | None = None
