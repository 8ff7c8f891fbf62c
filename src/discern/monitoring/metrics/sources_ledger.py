"""Metrics of what stands in the database: verdicts, stages, the audit log, jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from discern.monitoring.types import Sample, TallyRow


def verdict_samples(ever: Callable[[], Iterable[TallyRow]]) -> Iterator[Sample]:
    """Yield the metrics of verdicts and of stages: sums of the tallies."""
    sums: dict[tuple[str, tuple[str, ...]], float] = {}

    def add(name: str, labels: tuple[str, ...], amount: float) -> None:
        sums[name, labels] = sums.get((name, labels), 0) + amount

    for row in ever():
        of = row.workspace, row.detector, row.version
        add("discern_verdicts_total", (*of, row.decision), row.verdicts)
        add("discern_verdicts_cached_total", of, row.verdicts if row.cached else 0)
        add("discern_verdicts_degraded_total", of, row.verdicts if row.degraded else 0)
        add("discern_verdict_seconds_total", of, row.milliseconds / 1000)
        add("discern_stage_exits_total", (row.detector, row.version, row.decided_by), row.verdicts)
        for stage in row.stages:
            add("discern_stage_inputs_total", (row.detector, row.version, stage), row.verdicts)
    return (Sample(name, labels, value) for (name, labels), value in sums.items())


def audit_samples(counted: Callable[[], Mapping[tuple[str, str], int]]) -> Iterator[Sample]:
    """Yield how many entries of the audit log there are, by what was done and what came of it."""
    return (Sample("discern_audit_entries_total", key, count) for key, count in counted().items())


def job_samples(waiting: Callable[[], int]) -> Iterator[Sample]:
    """Yield how many jobs wait."""
    yield Sample("discern_jobs_waiting", (), waiting())
