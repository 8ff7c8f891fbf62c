"""What makes a log hold, and what shows that it does not. Pure.

- The digest of an entry is the SHA-256 of its canonical JSON (UTF-8, members sorted, without the digest itself), and
  that JSON holds the digest before it. Whoever changes an entry has to change all that follow.
- An anchor outside the database fixes the log up to its number: what was rewritten from there on, or cut off, shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from discern.audit.types import Anchor, Entry, Fault

NOTHING_BEFORE = "0" * 64
_encode = msgspec.json.Encoder(order="sorted").encode


def sealed(entry: Entry) -> Entry:
    """Return the entry with its digest."""
    return msgspec.structs.replace(entry, digest=digest_of(entry))


def digest_of(entry: Entry) -> str:
    """Return the digest an entry must have."""
    return hashlib.sha256(_encode(msgspec.structs.replace(entry, digest=""))).hexdigest()


def faults_of(entries: Iterable[Entry], last: tuple[int, str], anchors: Sequence[Anchor]) -> list[Fault]:
    """Return where a log does not hold, in order of the entries; none for a log that holds.

    `entries` are all there are, in the order they are stored in; `last` is the number and the digest that the head
    says the log ends with; `anchors` are those of this workspace.
    """
    found: list[Fault] = []
    fixed: dict[int, set[str]] = {}
    for anchor in anchors:
        fixed.setdefault(anchor.number, set()).add(anchor.digest)
    number, digest = 0, NOTHING_BEFORE
    for entry in entries:
        if entry.number != number + 1:
            found.append(Fault(number + 1, _missing(number + 1, entry.number)))
        elif entry.previous != digest:
            found.append(Fault(entry.number, f"Entry {entry.number} does not follow the one before it."))
        if digest_of(entry) != entry.digest:
            found.append(Fault(entry.number, f"Entry {entry.number} was changed: its digest does not fit it."))
        if fixed.pop(entry.number, {entry.digest}) != {entry.digest}:
            found.append(Fault(entry.number, f"Entry {entry.number} is not the one that was anchored."))
        number, digest = entry.number, entry.digest
    if (number, digest) != last:
        found.append(Fault(number + 1, f"The log ends with entry {number}, its head says {last[0]}."))
    cut = [beyond for beyond in sorted(fixed) if beyond > number]
    found += [Fault(one, f"Entry {one} was anchored and is gone: the log ends with {number}.") for one in cut]
    return found


def _missing(expected: int, found: int) -> str:
    if found < expected:
        return f"Entry {found} stands where {expected} should: the order was changed."
    last = f" to {found - 1}" if found - 1 > expected else ""
    return f"Entry {expected}{last} is gone."
