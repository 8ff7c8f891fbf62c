"""Noticing who feels a detector's way: many questions of one principal that are nearly the same.

- Nobody is kept from asking: what is noticed is put on the audit log and counted, and a person decides.
- Of pictures a sketch of 64 bits is held, of records a sample of their values, in memory and for a while.
- Live streams are left out, for the frames of one camera are alike; so are clips, and what is answered from the cache.
- Each of several processes sees what it answered.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from discern.access.types import Principal
from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.detection.rules_probing import most_alike_pictures, most_alike_records

log = logging.getLogger(__name__)
_WINDOW = 256
_MOST_PENDING = 8192
_MOST_WATCHED = 1000
_EVERY_RECORDS = 4
_AGAIN_SECONDS = 3600.0


class _Who(NamedTuple):
    workspace: str
    principal: str
    detector: str
    of_pictures: bool


class ProbingWatch:
    """Watches the questions of this process. `alike` near duplicates among 256 questions are noticed; 0: none are."""

    def __init__(
        self, alike: int, trail: Trail, counts: Counts, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._alike = alike
        self._trail = trail
        self._counts = counts
        self._monotonic = monotonic
        self._records = 0
        # Filled by whoever answers, emptied by `look`; of a flood the latest are looked at.
        self._pending: deque[tuple[_Who, object]] = deque(maxlen=_MOST_PENDING)
        self._windows: OrderedDict[_Who, deque[object]] = OrderedDict()
        self._noticed: dict[_Who, float] = {}

    def see_picture(self, principal: Principal, detector: str, sketch: int) -> None:
        """Remember a picture that was asked about."""
        if self._alike:
            self._pending.append((_Who(principal.workspace, principal.id, detector, True), sketch))

    def see_record(self, principal: Principal, detector: str, values: Sequence[object]) -> None:
        """Remember a record that was asked about, one of a few."""
        self._records += 1
        if self._alike and self._records % _EVERY_RECORDS == 0:
            self._pending.append((_Who(principal.workspace, principal.id, detector, False), values))

    def look(self) -> None:
        """Look through what was asked since the last time, in a thread. Raises nothing."""
        asked_anew = set()
        while self._pending:
            who, what = self._pending.popleft()
            asked_anew.add(who)
            window = self._windows.setdefault(who, deque(maxlen=_WINDOW))
            window.append(what)
            self._windows.move_to_end(who)
            if len(self._windows) > _MOST_WATCHED:
                self._windows.popitem(last=False)
        now = self._monotonic()
        self._noticed = {who: until for who, until in self._noticed.items() if now < until}
        for who in asked_anew - self._noticed.keys():
            window = self._windows.get(who, deque())
            if len(window) > self._alike:
                self._judge(who, list(window), now)

    def _judge(self, who: _Who, window: list[object], now: float) -> None:
        if who.of_pictures:
            found = most_alike_pictures(np.array(window, np.uint64))
        else:
            found = most_alike_records(np.array(window, np.float32))
        if found < self._alike:
            return
        self._noticed[who] = now + _AGAIN_SECONDS
        self._counts.add("probing.noticed", workspace=who.workspace)
        facts = {"near_duplicates": found, "among": len(window)}
        log.warning("probing_noticed", extra={"principal": who.principal, "detector": who.detector, **facts})
        try:
            self._trail.record(
                Act(who.workspace, who.principal, "detect.probing", f"detector:{who.detector}", after=facts)
            )
        except StorageUnavailable as error:
            del self._noticed[who]
            log.warning("probing_not_recorded", extra={"detail": error.detail})
