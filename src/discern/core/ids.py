"""Identifiers: UUID version 7 (RFC 9562, section 5.7), which sort by the time they were made.

- Two identifiers made one after the other by one process compare in that order, also within one millisecond.
"""

from __future__ import annotations

import os
import threading
import time
import uuid

_RANDOM_BYTES = 10
_lock = threading.Lock()
_last = 0
# Random bytes are fetched for many identifiers at once: a system call gives the interpreter to another thread.
_random = b""


def _forget_in_a_child() -> None:
    global _lock, _random
    _lock, _random = threading.Lock(), b""


os.register_at_fork(after_in_child=_forget_in_a_child)


def uuid7() -> uuid.UUID:
    """Return a fresh UUIDv7.

    The 12 bits after the timestamp and the top of the random part count up within a millisecond (RFC 9562, section 6.2,
    method 2: the random part is incremented by a random amount), so the order of creation is the order of the values.
    """
    return uuid.UUID(int=_next_value())


def uuid7_text() -> str:
    """Return a fresh UUIDv7 in its 36 characters, quicker than by way of a UUID."""
    text = f"{_next_value():032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _next_value() -> int:
    global _last, _random  # noqa: PLW0603 - the monotonic state of the process
    milliseconds = time.time_ns() // 1_000_000
    with _lock:
        if not _random:
            _random = os.urandom(_RANDOM_BYTES * 400)
        random_part = int.from_bytes(_random[:_RANDOM_BYTES], "big") >> 6
        _random = _random[_RANDOM_BYTES:]
        value = (milliseconds << 74) | random_part
        if value <= _last:
            value = _last + 1 + (random_part >> 42)
        _last = value
    timestamp, rest = value >> 74, value & ((1 << 74) - 1)
    high, low = rest >> 62, rest & ((1 << 62) - 1)
    return (timestamp << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low
