"""Counts of what happened in one process since it started.

- A count never goes down.
- Any thread may add.
"""

from __future__ import annotations

import threading


class Counts:
    """Named counts. Names are dotted, from the part to the event: `batches.idle`, `cache.hits`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount`, which is not negative, to a count."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + amount

    def snapshot(self) -> dict[str, int]:
        """Return every count by its name, in the order of the names."""
        with self._lock:
            return dict(sorted(self._counts.items()))
