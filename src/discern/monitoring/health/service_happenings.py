"""Writing down what an installation noticed and did by itself.

- Whoever tells waits for nothing: it is written by a loop, a second later at most.
- While the database does not answer it is kept, the newest `MOST_WAITING`; how many were lost is itself written down.
- Each is in the log at once.
- What happened `KEPT` ago is forgotten.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import datetime, timedelta
from typing import Any

from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.health.store import HappeningStore
from discern.monitoring.types import Happening

log = logging.getLogger(__name__)
MOST_WAITING = 1000
KEPT = timedelta(days=90)
_TIDY = timedelta(hours=1)


class HappeningLog:
    """Takes happenings from any thread; `flush` writes them."""

    def __init__(self, store: HappeningStore, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[Happening] = deque(maxlen=MOST_WAITING)
        self._lost = 0
        self._tidied: datetime | None = None

    def tell(self, kind: str, about: str, *, workspace: str = DEFAULT_WORKSPACE, **facts: Any) -> None:  # noqa: ANN401
        """Note a happening."""
        one = Happening(kind, about, self._clock(), workspace, facts)
        with self._lock:
            self._lost += len(self._waiting) == MOST_WAITING
            self._waiting.append(one)
        log.warning("happening", extra={"kind": kind, "about": about, "workspace": workspace, **facts})

    def flush(self) -> None:
        """Write what waits. What cannot be written waits on."""
        with self._lock:
            found, lost = list(self._waiting), self._lost
            self._waiting.clear()
            self._lost = 0
        told = (
            [Happening("happenings.lost", "happenings", found[0].at, DEFAULT_WORKSPACE, {"lost": lost})] if lost else []
        )
        try:
            if found:
                self._store.append([*told, *found])
        except StorageUnavailable:
            with self._lock:
                too_many = max(0, len(found) + len(self._waiting) - MOST_WAITING)
                self._lost += lost + too_many
                self._waiting.extendleft(reversed(found[too_many:]))
            return
        self._tidy()

    def _tidy(self) -> None:
        now = self._clock()
        # A clock that went back is no reason to wait until it is where it was.
        if self._tidied is not None and abs(now - self._tidied) < _TIDY:
            return
        self._tidied = now
        try:
            self._store.forget(now - KEPT)
        except StorageUnavailable:
            self._tidied = None
