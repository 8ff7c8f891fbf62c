"""The metrics of an installation as they are exported: of all processes of this machine, and of the database.

- Whoever reads within a second of somebody else gets what they got, so that nobody reads the database to death.
- What does not stand in the catalogue, or has other labels, is not exported, and the log has it.
- A part that does not answer keeps one reader waiting for `_WAIT_SECONDS`: it is not asked again before it has
  answered, and nobody waits for it meanwhile. What it said last is told for `_KEPT_SECONDS`, then it is absent. Where
  the database is down, what the processes know is told all the same.
- Workspaces are named as the database last had them: one that goes away for a moment makes no series begin or end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import discern
from discern.core.errors import StorageUnavailable
from discern.monitoring.metrics.report import bounded, fits, text_of
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.ports import Collector
from discern.monitoring.types import Sample

log = logging.getLogger(__name__)
_FRESH_SECONDS = 1.0
# Together with what else a reading takes, less than `scrape_timeout` in deploy/monitoring/prometheus.yaml.
_WAIT_SECONDS = 1.5
_KEPT_SECONDS = 5.0
Supervised = Callable[[], tuple[int, float]]
Workspaces = Callable[[], Sequence[str]]
"""Returns those workspaces that are named in the export, fewer than there may be."""
_Source = Callable[[], Iterable[Any]]


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
        self._named: frozenset[str] | None = None
        self._collectors = tuple(collectors)
        self._threads = ThreadPoolExecutor(1 + len(self._collectors), thread_name_prefix="collect")
        self._asked: dict[_Source, Future[list[Any] | None]] = {}
        self._told: dict[_Source, tuple[float, list[Any]]] = {}

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
                told = self._answers()
                if self._workspaces in told:
                    self._named = frozenset(told[self._workspaces])
                found = [sample for collector in self._collectors for sample in told.get(collector, ())]
                self._known = self._monotonic(), list(_fitting([*self._of_the_machine(), *found]))
            return self._known[1]

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as Prometheus reads them, and the media type. Raises MissingExtra."""
        samples = self.read()
        return text_of(bounded(samples, self._named), accept)

    def _of_the_machine(self) -> Iterator[Sample]:
        samples, processes = self._process.read()
        yield from samples
        yield Sample("discern_build_info", (discern.__version__,), 1.0)
        yield Sample("discern_workers", (), processes)
        deaths = 0 if self._supervised is None else self._supervised()[0]
        yield Sample("discern_worker_deaths_total", (), deaths)

    def _answers(self) -> dict[_Source, list[Any]]:
        """Return what each says, or has said a moment ago."""
        self._take_answers()
        asked = [source for source in (self._workspaces, *self._collectors) if source not in self._asked]
        self._asked |= {source: self._threads.submit(_ask, source) for source in asked}
        wait([self._asked[source] for source in asked], timeout=_WAIT_SECONDS)
        self._take_answers()
        now = self._monotonic()
        return {source: found for source, (at, found) in self._told.items() if 0 <= now - at < _KEPT_SECONDS}

    def _take_answers(self) -> None:
        for source in [source for source, answer in self._asked.items() if answer.done()]:
            answer = self._asked.pop(source)
            self._told.pop(source, None)
            defect = answer.exception()
            if defect is not None:
                log.error("defect", extra={"collector": str(source)}, exc_info=defect)
            elif (found := answer.result()) is not None:
                self._told[source] = self._monotonic(), found


def _fitting(samples: Iterable[Sample]) -> Iterator[Sample]:
    for sample in samples:
        if fits(sample):
            yield sample
        else:
            log.error("defect", extra={"metric": sample.name, "labels": len(sample.labels)})


def _ask(source: _Source) -> list[Any] | None:
    try:
        return list(source())
    except StorageUnavailable:
        return None
