"""NDJSON in pieces: one record a line.

- A line that is too long is a bad row; no more of it than the limit is held.
- Empty lines are no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from discern.core.errors import DiscernError, InputTooLarge

PART_LINES = 8_192
PART_BYTES = 4 * 1024**2
_SKIP_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class LinesPart:
    """Lines from row `start` on; an error stands for a line that was not read."""

    start: int
    lines: list[bytes | DiscernError]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.lines)


def lines_of(file: BinaryIO, skip: int, most_bytes: int) -> Iterator[LinesPart]:
    """Yield the lines from row `skip` on; a line has at most `most_bytes`."""
    lines: list[bytes | DiscernError] = []
    size = row = 0
    start = skip
    while line := file.readline(most_bytes + 1):
        if not line.strip():
            continue
        row += 1
        content: bytes | DiscernError = line
        if len(line) > most_bytes and line.rstrip(b"\r\n") == line:
            while line and not line.endswith(b"\n"):
                line = file.readline(_SKIP_BYTES)
            content = InputTooLarge(
                f"The line has more than {most_bytes:,} bytes.",
                mend="Send less, or raise `record_bytes`.",
                limit="record_bytes",
                allowed=most_bytes,
            )
        if row <= skip:
            continue
        lines.append(content)
        size += len(content) if isinstance(content, bytes) else 0
        if len(lines) == PART_LINES or size >= PART_BYTES:
            yield LinesPart(start, lines)
            start += len(lines)
            lines, size = [], 0
    if lines:
        yield LinesPart(start, lines)
