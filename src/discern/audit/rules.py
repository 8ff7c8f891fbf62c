"""What makes a log hold, and what shows that it does not. Pure.

- The digest of an entry is the SHA-256 of its canonical JSON (UTF-8, members sorted, without the digest itself), and
  that JSON holds the digest before it. Whoever changes an entry has to change all that follow.
- The columns beside the body say what it says, and the body is byte for byte what was written.
- An anchor outside the database fixes the log up to its number: what was rewritten from there on, or cut off, shows.
- A restore cuts the log off. An entry on it, itself anchored, acknowledges that: it names each anchor that was lost, so
  that no other is forgiven, and what it acknowledges is told for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from discern.audit.types import Anchor, Entry, Fault, Gap, Resumption, StoredEntry, Verification
from discern.core.errors import CallerError

NOTHING_BEFORE = "0" * 64
RESUME = "audit.resume"
_MOST_REASON = 300
Head = tuple[int, str]
_decode = msgspec.json.Decoder(Entry).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def sealed(entry: Entry) -> Entry:
    """Return the entry with its digest."""
    return msgspec.structs.replace(entry, digest=digest_of(entry))


def digest_of(entry: Entry) -> str:
    """Return the digest an entry must have."""
    return hashlib.sha256(_encode(msgspec.structs.replace(entry, digest=""))).hexdigest()


def verified(stored: Iterable[StoredEntry], last: Callable[[], Head], anchors: Sequence[Anchor] | None) -> Verification:
    """Return what is found in a log: first where the chain does not hold, in order of its entries, then the anchors.

    `stored` are all entries there are, in the order they are stored in; `last`, asked when they were read, tells the
    number and the digest that the head says the log ends with; `anchors` are those of this workspace.
    """
    found: list[Fault] = []
    gaps: list[Gap] = []
    held = _Anchors(anchors or ())
    count, number, digest = 0, 0, NOTHING_BEFORE
    for one in stored:
        count += 1
        entry = _entry(one)
        if entry is None:
            found.append(Fault(one.number, f"Entry {one.number} was changed: its body is none that Discern writes."))
            number, digest = one.number, ""
            continue
        found += _chain_faults(entry, number, digest)
        found += _column_faults(one, entry)
        held.meet(entry)
        number, digest = entry.number, entry.digest
        if entry.act.act == RESUME:
            gap = gap_of(entry)
            found += [] if gap else [Fault(number, f"Entry {number} continues the log, and does not say from where.")]
            gaps += [gap] if gap else []
    end = last()
    if (number, digest) != end:
        found.append(Fault(number + 1, f"The log ends with entry {number}, its head says {end[0]}."))
    is_whole = not found
    lost = held.lost(number, gaps)
    found += [_lost(one, number) for one in sorted({one for one, _ in lost})]
    if anchors is not None:
        found += [_not_anchored(gap) for gap in gaps if gap.number > max(held.fitting, default=0)]
    return Verification(
        count,
        tuple(found),
        tuple(gaps),
        None if anchors is None else len(anchors),
        is_whole,
        number,
        tuple(lost),
        tuple(held.fitting),
    )


def check_reason(reason: str) -> None:
    """Raise CallerError for what says nothing, or cannot be printed."""
    if not (reason.strip() and reason.isprintable() and len(reason) <= _MOST_REASON):
        raise CallerError(
            f"A reason has 1 to {_MOST_REASON} printable characters.", mend="Say which backup was restored, and why."
        )


def continued_from(seen: Verification) -> int:
    """Return the entry that a log of which anchors were lost goes on from: the last that none of them speaks against.

    Raises CallerError where none were lost, and where the chain itself does not hold: no restore does that.
    """
    if not seen.is_chain_whole:
        raise CallerError(
            f"This log cannot be continued, for a restore does not explain it: {seen.faults[0].what}",
            mend="See `discern audit verify`; restore the database from a backup that holds.",
        )
    if not seen.lost:
        raise CallerError(
            "Nothing that was anchored is lost, so there is nothing to acknowledge.", mend="See `discern audit verify`."
        )
    return min(seen.last, min(number for number, _ in seen.lost) - 1)


class _Anchors:
    """The anchors of a log, met by its entries one after the other."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._open: dict[int, set[str]] = {}
        for anchor in anchors:
            self._open.setdefault(anchor.number, set()).add(anchor.digest)
        self._against: list[tuple[int, str]] = []
        self.fitting: list[int] = []

    def meet(self, entry: Entry) -> None:
        digests = self._open.pop(entry.number, set())
        if entry.digest in digests:
            self.fitting.append(entry.number)
        self._against += [(entry.number, digest) for digest in sorted(digests - {entry.digest})]

    def lost(self, end: int, gaps: Iterable[Gap]) -> list[tuple[int, str]]:
        """Return those that no entry fits and no gap acknowledges."""
        forgiven = {
            (number, digest)
            for gap in gaps
            for number, digest in gap.resumption.lost
            if number > gap.resumption.continued_from
        }
        cut = [(number, digest) for number in sorted(self._open) if number > end for digest in self._open[number]]
        return [one for one in self._against + cut if one not in forgiven]


def _entry(stored: StoredEntry) -> Entry | None:
    """Return what a body holds; None for one that was not written as entries are, byte for byte."""
    try:
        entry = _decode(stored.body)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    return entry if _encode(entry) == stored.body else None


def _chain_faults(entry: Entry, number: int, digest: str) -> list[Fault]:
    found = []
    if entry.number != number + 1:
        found.append(Fault(number + 1, _missing(number + 1, entry.number)))
    elif entry.previous != digest:
        found.append(Fault(entry.number, f"Entry {entry.number} does not follow the one before it."))
    if digest_of(entry) != entry.digest:
        found.append(Fault(entry.number, f"Entry {entry.number} was changed: its digest does not fit it."))
    return found


def _column_faults(stored: StoredEntry, entry: Entry) -> list[Fault]:
    """Return where the columns, which queries filter by, differ from the body, which the chain holds."""
    act = entry.act
    pairs = {
        "workspace": (stored.workspace, act.workspace),
        "number": (stored.number, entry.number),
        "at": (stored.at, entry.at),
        "who": (stored.who, act.who),
        "act": (stored.act, act.act),
        "outcome": (stored.outcome, act.outcome),
    }
    return [
        Fault(entry.number, f"Entry {entry.number} was changed: its column `{name}` says {column}, its body {body}.")
        for name, (column, body) in pairs.items()
        if column != body
    ]


def gap_of(entry: Entry) -> Gap | None:
    """Return what an entry `audit.resume` acknowledges; None where it cannot be read."""
    try:
        held = msgspec.convert(entry.act.after, Resumption)
    except msgspec.ValidationError:
        return None
    first, last = held.continued_from + 1, max((number for number, _ in held.lost), default=0)
    lost = f"Entries {first} to {last} were" if last > first else f"Entry {first} was"
    fitting = f"the last before it that an anchor fits is {held.confirmed}" if held.confirmed else "no anchor fits it"
    when = entry.at.isoformat(timespec="seconds")
    what = (
        f"{lost} anchored and lost. Entry {entry.number}, {when}, by {entry.act.who}, "
        f"continues the log from entry {held.continued_from} ({fitting}): {entry.act.reason}"
    )
    return Gap(entry.number, held, what)


def _lost(number: int, end: int) -> Fault:
    if number <= end:
        return Fault(number, f"Entry {number} is not the one that was anchored.")
    return Fault(number, f"Entry {number} was anchored and is gone: the log ends with {end}.")


def _not_anchored(gap: Gap) -> Fault:
    return Fault(gap.number, f"Entry {gap.number} continues the log, and no anchor holds it or one after it.")


def _missing(expected: int, found: int) -> str:
    if found < expected:
        return f"Entry {found} stands where {expected} should: the order was changed."
    last = f" to {found - 1}" if found - 1 > expected else ""
    return f"Entry {expected}{last} is gone."
