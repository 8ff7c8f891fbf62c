"""What is measured in one process: durations and sizes, each noted where it happens and added up elsewhere.

- Noting costs no more than an append: there is no lock, and nothing is added up on the way of a request.
- What nobody comes for is bounded: of a series the latest `_MOST_NOTED` are kept.
- There are at most `_MOST_SERIES` series of a metric: what comes after them is noted with empty labels.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

_MOST_NOTED = 50_000
_MOST_SERIES = 1_000
Labels = tuple[str, ...]
Note = Callable[[float], None]
"""Notes one value of a series, from any thread."""


class Measures:
    """Names are those of the metrics that are exported, labels in their order. Any thread may note."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[tuple[str, Labels], deque[float]] = {}
        self._notes: dict[tuple[str, Labels], Note] = {}
        self._series: Counter[str] = Counter()
        self._counted: Counter[tuple[str, Labels]] = Counter()
        self.gauges: dict[str, Callable[[], float]] = {}
        """What tells the present value of a gauge without labels, by its name; asked from any thread."""
        self.labelled: list[Callable[[], Iterable[tuple[str, Labels, float]]]] = []
        """What tells the present values of gauges with labels; asked from any thread."""

    def noting(self, name: str, *labels: str) -> Note:
        """Return what notes the values of a series of a histogram."""
        return self._notes.get((name, labels)) or self._begin(name, labels)

    def count(self, name: str, *labels: str, amount: int = 1) -> None:
        """Add to a counter: for what is rare, for it takes a lock."""
        with self._lock:
            key = name, labels
            if key not in self._counted and not self._has_room(name):
                key = name, ("",) * len(labels)
            self._counted[key] += amount

    def taken(self) -> Iterator[tuple[str, Labels, list[float]]]:
        """Yield what was noted since this was last asked, a series at a time. For one thread at a time."""
        for (name, labels), noted in list(self._noted.items()):
            values = [noted.popleft() for _ in range(len(noted))]
            if values:
                yield name, labels, values

    def counted(self) -> dict[tuple[str, Labels], int]:
        """Return what was counted since the process began."""
        with self._lock:
            return dict(self._counted)

    def _begin(self, name: str, labels: Labels) -> Note:
        with self._lock:
            key = name, labels
            if key not in self._notes and not self._has_room(name):
                key = name, ("",) * len(labels)
            if key not in self._notes:
                self._noted[key] = deque(maxlen=_MOST_NOTED)
                self._notes[key] = self._noted[key].append
            return self._notes[key]

    def _has_room(self, name: str) -> bool:
        self._series[name] += 1
        return self._series[name] <= _MOST_SERIES
