"""Counts of what happened in one process since it started.

- A count never goes down.
- Any thread may add.
- What belongs to one workspace is counted for it too, so that nobody needs to be shown what others do.

Durations and sizes are noted beside the counts (`measures.py`): whoever is given the one has the other.
"""

from __future__ import annotations

import threading

from discern.core.measures import Measures


class Counts:
    """Named counts. Names are dotted, from the part to the event: `batches.idle`, `cache.hits`."""

    def __init__(self) -> None:
        self.measures = Measures()
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._of: dict[str, dict[str, int]] = {}

    def add(self, name: str, amount: int = 1, *, workspace: str | None = None) -> None:
        """Add `amount`, which is not negative, to a count; where `workspace` is named, to its own as well."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + amount
            if workspace is not None:
                own = self._of.setdefault(workspace, {})
                own[name] = own.get(name, 0) + amount

    def snapshot(self) -> dict[str, int]:
        """Return every count by its name, in the order of the names."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def of(self, workspace: str) -> dict[str, int]:
        """Return what was counted for a workspace, likewise."""
        with self._lock:
            return dict(sorted(self._of.get(workspace, {}).items()))
