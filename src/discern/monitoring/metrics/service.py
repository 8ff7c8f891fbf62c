"""The metrics of an installation as they are exported: of all processes of this machine, and of the database.

- Whoever reads within a second of somebody else gets what they got, so that nobody reads the database to death.
- What does not stand in the catalogue, or has other labels, is not exported, and the log has it.
- A part that does not answer is absent, and keeps the others waiting for `_WAIT_SECONDS` at most; it is not asked again
  before it has answered. Where the database is down, what the processes know is told all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import discern
from discern.core.errors import StorageUnavailable
from discern.monitoring.metrics.report import bounded, fits, text_of
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.ports import Collector
from discern.monitoring.types import Sample

log = logging.getLogger(__name__)
_FRESH_SECONDS = 1.0
_WAIT_SECONDS = 3.0
Supervised = Callable[[], tuple[int, float]]
Workspaces = Callable[[], Sequence[str]]
"""Returns those workspaces that are named in the export, fewer than there may be."""


class Metrics:
    """All metrics. Thread-safe; the first read starts a thread for each collector."""

    def __init__(
        self,
        process: ProcessMetrics,
        collectors: Sequence[Collector],
        workspaces: Workspaces,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._workspaces = workspaces
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: tuple[float, list[Sample]] | None = None
        self._supervised: Supervised | None = None
        self._threads = ThreadPoolExecutor(max(1, len(collectors)), thread_name_prefix="collect")
        self._collectors = tuple(collectors)
        self._asked: dict[Collector, Future[list[Sample]]] = {}

    def open(self, folder: Path | None, supervised: Supervised | None) -> None:
        """Share with the other processes of a folder; `supervised` tells the deaths of processes."""
        self._supervised = supervised
        if folder is not None:
            self._process.open(folder)

    def close(self) -> None:
        """Leave what was measured to the others, and ask nobody any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._process.close()

    def read(self) -> list[Sample]:
        """Return every sample, of all processes together."""
        with self._lock:
            now = self._monotonic()
            if self._known is None or not 0 <= now - self._known[0] < _FRESH_SECONDS:
                self._known = now, [*self._of_the_machine(), *self._collected()]
            return self._known[1]

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as Prometheus reads them, and the media type. Raises MissingExtra."""
        try:
            named = frozenset(self._workspaces())
        except StorageUnavailable:
            named = frozenset()  # then nothing is told of any
        return text_of(bounded(self.read(), named), accept)

    def _of_the_machine(self) -> Iterator[Sample]:
        samples, processes = self._process.read()
        yield from samples
        yield Sample("discern_build_info", (discern.__version__,), 1.0)
        yield Sample("discern_workers", (), processes)
        deaths = 0 if self._supervised is None else self._supervised()[0]
        yield Sample("discern_worker_deaths_total", (), deaths)

    def _collected(self) -> Iterator[Sample]:
        for collector in self._collectors:
            if collector not in self._asked:
                self._asked[collector] = self._threads.submit(_ask, collector)
        done, _ = wait(self._asked.values(), timeout=_WAIT_SECONDS)
        for collector, asked in list(self._asked.items()):
            if asked not in done:
                continue
            del self._asked[collector]
            defect = asked.exception()
            if defect is None:
                yield from _fitting(asked.result())
            else:
                log.error("defect", extra={"collector": str(collector)}, exc_info=defect)


def _fitting(samples: Sequence[Sample]) -> Iterator[Sample]:
    for sample in samples:
        if fits(sample):
            yield sample
        else:
            log.error("defect", extra={"metric": sample.name, "labels": len(sample.labels)})


def _ask(collector: Collector) -> list[Sample]:
    try:
        return list(collector())
    except StorageUnavailable:
        return []
