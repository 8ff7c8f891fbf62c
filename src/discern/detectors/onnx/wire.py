"""The wire format of protocol buffers, read field by field without building messages.

Source: the encoding specification of Protocol Buffers (protobuf.dev/programming-guides/encoding). A library would
build an object for every two bytes that a hostile file spends on an empty message; here memory stays that of the
file, time is bounded by a budget of fields, and nothing recurses.

- A field is given as its place in the buffer; no bytes are copied.
- Whatever is not well-formed raises `Malformed`; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_HIGH = bytes(range(0x80, 0x100))

Field = tuple[int, int, int, int]
"""Number, wire type, and for VARINT (value, end), otherwise (begin, end) of the payload."""


class Malformed(Exception):
    """The bytes are not a message; `position` is where that shows."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at byte {position}")
        self.position = position


class OverBudget(Exception):
    """The buffer holds more fields than the reader may look at."""


class WireReader:
    """Reads messages out of `content`, at most `budget` fields in all."""

    def __init__(self, content: bytes, budget: int) -> None:
        self.content = content
        self.budget = budget

    def fields(self, begin: int, end: int, runs: re.Pattern[bytes] | None = None) -> Iterator[Field]:
        """Yield the fields of the message in [begin, end).

        `runs` matches whole fields that the caller has no use for; a run of them costs one step.
        """
        content, position = self.content, begin
        while position < end:
            if runs is not None and (run := runs.match(content, position, end)) is not None and run.end() > position:
                position = run.end()
                continue
            self.budget -= 1
            if self.budget < 0:
                raise OverBudget
            tag, after = self.varint(position, end)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise Malformed("a field has the number 0", position)
            if wire == VARINT:
                value, position = self.varint(after, end)
                yield number, wire, value, position
                continue
            if wire == LENGTH:
                size, after = self.varint(after, end)
            elif wire in _FIXED:
                size = _FIXED[wire]
            else:
                raise Malformed(f"a field has the wire type {wire}", position)
            position = after + size
            if position > end:
                raise Malformed("a field reaches past the end of its message", after)
            yield number, wire, after, position

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """Return the unsigned 64-bit value at `position` and the place after it."""
        content, value, shift = self.content, 0, 0
        while position < end and shift < 70:
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
        raise Malformed("a number has no end", position)

    def packed(self, begin: int, end: int) -> Iterator[int]:
        """Yield the unsigned values of a packed field of varints."""
        position = begin
        while position < end:
            self.budget -= 1
            if self.budget < 0:
                raise OverBudget
            value, position = self.varint(position, end)
            yield value

    def count_packed(self, begin: int, end: int) -> int:
        """Return how many varints a packed field holds."""
        return len(self.content[begin:end].translate(None, _HIGH))

    def text(self, begin: int, end: int) -> str:
        """Return a string field; bytes that are not UTF-8 are replaced, for they are only shown or compared."""
        return self.content[begin:end].decode("utf-8", errors="replace")


def signed(value: int) -> int:
    """Return the int64 that a varint field holds."""
    return value - (1 << 64) if value >> 63 else value
