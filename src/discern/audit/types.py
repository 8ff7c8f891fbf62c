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


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry as it lies in the database: its body, and beside it what queries filter by.

    `at` is a text where somebody has left one that is no time.
    """

    workspace: str
    number: int
    at: datetime | str
    who: str
    act: str
    outcome: str
    body: bytes


class Continuation(msgspec.Struct, frozen=True):
    """What an anchor says of a log that was continued after a restore: from where, what was lost, by whom and why."""

    continued_from: int
    digest: str
    lost_to: int
    who: str
    reason: str


class Anchor(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a workspace's log had come at a time, kept where whoever can change the database cannot change it.

    `continues` is there where the entry is the one that says that the log was continued.
    """

    workspace: str
    number: int
    digest: str
    at: datetime
    continues: Continuation | None = None


class Resumption(msgspec.Struct, frozen=True):
    """What the entry of an act `audit.resume` holds: the log goes on from an entry, `digest` being that one's.

    `confirmed` is the last entry up to there that an anchor fits, 0 without one; `lost` has the number and the digest
    of each anchor that the log does not hold. These alone are forgiven: any other still shows.
    """

    continued_from: int
    digest: str
    confirmed: int
    lost: tuple[tuple[int, str], ...]


class Fault(msgspec.Struct, frozen=True):
    """Where a log does not hold. `number` is that of the entry, or of the one that should be there."""

    number: int
    what: str


class Gap(msgspec.Struct, frozen=True):
    """Entries that were anchored and are lost, as the entry `number` acknowledges; `resumption` is what that holds."""

    number: int
    resumption: Resumption
    what: str


class Verification(msgspec.Struct, frozen=True):
    """What is found when a log is held against itself and its anchors.

    `anchors` is how many there were, None where they cannot be read back. `is_chain_whole` leaves them out; `lost`
    has those that the log does not hold and that nobody has acknowledged, `fitting` the numbers of those it holds.
    """

    entries: int
    faults: tuple[Fault, ...]
    gaps: tuple[Gap, ...]
    anchors: int | None
    is_chain_whole: bool
    last: int
    lost: tuple[tuple[int, str], ...]
    fitting: tuple[int, ...]


class EntryPage(msgspec.Struct, frozen=True):
    """A page of a log, newest first; `next` is what to ask for as `before` to go on."""

    entries: tuple[Entry, ...]
    next: int | None = None
