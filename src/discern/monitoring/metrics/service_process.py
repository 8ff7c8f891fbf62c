"""What one process has measured, added up, and put together with what the others on its machine have.

- What was noted is added up once a second, and once more by whoever reads.
- A count never goes down, and the buckets of a histogram hold what its count says.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import numpy as np

from discern.core.counts import Counts
from discern.core.measures import Measures
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.metrics.sources_processes import Key, ProcessFiles, Together
from discern.monitoring.types import Metric, Sample

log = logging.getLogger(__name__)
_CACHE, _JOBS = "discern_cache_lookups_total", "discern_jobs_total"
_COUNTED: dict[str, Key] = {
    "access.denials": ("discern_denials_total", ()),
    "batches.deadline": ("discern_batches_total", ("deadline",)),
    "batches.full": ("discern_batches_total", ("full",)),
    "batches.idle": ("discern_batches_total", ("idle",)),
    "cache.hits": (_CACHE, ("hit",)),
    "cache.misses": (_CACHE, ("miss",)),
    "cache.shared_hits": (_CACHE, ("shared_hit",)),
    "jobs.cancelled": (_JOBS, ("cancelled",)),
    "jobs.done": (_JOBS, ("done",)),
    "jobs.failed": (_JOBS, ("failed",)),
    "jobs.submitted": (_JOBS, ("submitted",)),
    "ledger.commits": ("discern_ledger_commits_total", ()),
    "limits.rate_limits": ("discern_rate_limited_total", ()),
}
"""The metric that a count of the statistics is exported as."""
_COUNTED_ALL = {
    "authentication.": "discern_authentication_failures_total",
    "limits.": "discern_limits_total",
}
"""The same of all counts whose names begin so: the rest is the label."""
_NOT_COUNTED = {"limits.redis_faults"}
_ONCE = ("discern_stream_windows_total", "discern_spans_exported_total")
_GAUGES = [metric.name for metric in CATALOGUE.values() if metric.kind == "gauge"]
_LARGEST = [metric.name for metric in CATALOGUE.values() if metric.together == "largest"]
_BOUNDS = {metric.name: np.array(metric.buckets) for metric in CATALOGUE.values() if metric.kind == "histogram"}
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessMetrics:
    """What was measured here, and in the files of a folder what the other processes have. Thread-safe."""

    def __init__(self, measures: Measures, counts: Counts) -> None:
        self._measures = measures
        self._counts = counts
        self._lock = threading.Lock()
        self._files: ProcessFiles | None = None
        self._values: dict[Key, float] = dict.fromkeys([*_COUNTED.values(), *((name, ()) for name in _ONCE)], 0.0)

    def open(self, folder: Path) -> None:
        """Share what is measured with the other processes of a folder, from here on.

        Without prometheus-client each process goes on by itself, and the log says so.
        """
        with self._lock:
            try:
                self._files = ProcessFiles(folder, _GAUGES, _LARGEST)
            except ImportError:
                log.warning("metrics_not_shared", extra={"mend": "Install the extra `server`."})
                return
            self._files.write(self._values)

    def close(self) -> None:
        """Leave what was measured to the others."""
        self.fold()
        with self._lock:
            if self._files is not None:
                self._files.close()
                self._files = None

    def fold(self) -> None:
        """Add up what was noted since the last time."""
        with self._lock:
            self._fold()

    def read(self) -> tuple[list[Sample], int]:
        """Return the samples of all processes together, and how many processes live."""
        with self._lock:
            self._fold()
            together = Together(self._values, 1)
            if self._files is not None:
                with suppress(OSError):  # the folder went with the server, which is about to end
                    together = self._files.read()
            return list(_samples(together.values)), together.processes

    def _fold(self) -> None:
        changed: dict[Key, float] = {}
        for name, labels, noted in self._measures.taken():
            self._add_up(name, labels, noted, changed)
        changed |= {key: float(value) for key, value in self._measures.counted().items()}
        counts = self._counts.snapshot()
        for name, count in counts.items():
            exported = _exported(name)
            if exported is not None:
                changed[exported] = float(count)
        for name, ask in self._measures.gauges.items():
            changed[name, ()] = float(ask())
        for tell in self._measures.labelled:
            changed |= {(name, labels): value for name, labels, value in tell()}
        streams = counts.get("streams.opened", 0) - counts.get("streams.closed", 0)
        changed["discern_streams_open", ()] = float(streams)
        changed["discern_process_cpu_seconds_total", ()] = time.process_time()
        changed["discern_process_memory_bytes", ()] = float(_memory_bytes())
        self._values |= changed
        if self._files is not None:
            self._files.write(changed)

    def _add_up(self, name: str, labels: tuple[str, ...], noted: list[float], changed: dict[Key, float]) -> None:
        bounds = _BOUNDS[name]
        values = np.array(noted)
        found = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
        for bucket, count in enumerate(found.tolist()):
            if count:
                key = f"{name}_bucket", (*labels, str(bucket))
                changed[key] = self._values.get(key, 0.0) + count
        key = f"{name}_sum", labels
        changed[key] = self._values.get(key, 0.0) + float(values.sum())


def _exported(name: str) -> Key | None:
    found = _COUNTED.get(name)
    if found is not None or name in _NOT_COUNTED:
        return found
    for prefix, metric in _COUNTED_ALL.items():
        if name.startswith(prefix):
            return metric, (name.removeprefix(prefix),)
    return None


def _memory_bytes() -> int:
    """Return what of this process is in memory."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):  # not on Linux
        return 0


def _samples(values: dict[Key, float]) -> Iterator[Sample]:
    for (name, labels), value in values.items():
        if name in CATALOGUE:
            yield Sample(name, labels, value)
        elif name.endswith("_sum"):
            yield from _histogram(CATALOGUE[name.removesuffix("_sum")], labels, value, values)


def _histogram(metric: Metric, labels: tuple[str, ...], total: float, values: dict[Key, float]) -> Iterator[Sample]:
    bounds = (*metric.buckets, float("inf"))
    found = (values.get((f"{metric.name}_bucket", (*labels, str(bucket))), 0.0) for bucket in range(len(bounds)))
    count = 0.0
    for bound, reached in zip(bounds, accumulate(found), strict=True):
        count = reached
        yield Sample(f"{metric.name}_bucket", (*labels, "+Inf" if bound == float("inf") else repr(bound)), reached)
    yield Sample(f"{metric.name}_sum", labels, total)
    yield Sample(f"{metric.name}_count", labels, count)
