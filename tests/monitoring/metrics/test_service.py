"""Reading the metrics hurts nobody: neither those who read nor what is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.monitoring.metrics import service
from discern.monitoring.metrics.service import Metrics
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.ports import Collector
from discern.monitoring.types import Sample

WAITING = Sample("discern_jobs_waiting", (), 3.0)


def reading(*collectors: Collector, workspaces: tuple[str, ...] = ("default",)) -> tuple[Metrics, list[float]]:
    counts, clock = Counts(), [0.0]
    metrics = Metrics(ProcessMetrics(counts.measures, counts), collectors, lambda: workspaces, lambda: clock[0])
    return metrics, clock


def down() -> Iterator[Sample]:
    raise StorageUnavailable("The database did not answer.", mend="See to it.")
    yield WAITING


def broken() -> Iterator[Sample]:
    yield WAITING
    raise ZeroDivisionError


def test_whoever_reads_within_a_second_gets_what_the_last_one_got() -> None:
    asked: list[int] = []

    def collector() -> list[Sample]:
        asked.append(1)
        return [WAITING]

    metrics, clock = reading(collector)
    for now, expected in ((0.0, 1), (0.9, 1), (1.1, 2), (1.2, 2), (-5.0, 3)):
        clock[0] = now
        assert WAITING in metrics.read()
        assert len(asked) == expected
    metrics.close()


def test_a_part_that_fails_is_absent_and_the_rest_is_told() -> None:
    metrics, clock = reading(down, broken, lambda: [WAITING])
    for now in (0.0, 2.0):
        clock[0] = now
        assert metrics.read().count(WAITING) == 1
        assert "discern_workers" in {sample.name for sample in metrics.read()}
    metrics.close()


def test_a_part_that_hangs_keeps_others_waiting_for_a_moment_and_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "_WAIT_SECONDS", 0.05)
    goes_on, asked = threading.Event(), []

    def hangs() -> list[Sample]:
        asked.append(1)
        goes_on.wait(30)
        return [Sample("discern_audit_entries_total", ("keys.create", "done"), 1.0)]

    metrics, clock = reading(hangs, lambda: [WAITING])
    for number in range(3):
        clock[0] = number * 2.0
        assert WAITING in metrics.read()
    assert len(asked) == 1
    goes_on.set()
    until = time.monotonic() + 30
    while "discern_audit_entries_total" not in {sample.name for sample in metrics.read()}:
        assert time.monotonic() < until
        clock[0] += 2.0
    metrics.close()


def test_what_does_not_stand_in_the_catalogue_is_not_exported_and_breaks_nothing() -> None:
    wrong = [Sample("discern_of_nobody", (), 1.0), Sample("discern_jobs_waiting", ("label",), 1.0)]
    metrics, _ = reading(lambda: [*wrong, WAITING])
    text = metrics.text("")[0].decode()
    assert "discern_jobs_waiting 3.0\n" in text
    assert "of_nobody" not in text
    metrics.close()


def test_workspaces_beyond_the_bound_are_told_together() -> None:
    def tenants() -> list[Sample]:
        return [Sample("discern_verdicts_total", (f"t-{one}", "toy", "1.0.0", "flag"), 2.0) for one in range(5_000)]

    metrics, _ = reading(tenants, workspaces=("t-7", "t-8"))
    lines = [line for line in metrics.text("")[0].decode().splitlines() if line.startswith("discern_verdicts_total")]
    assert sorted(line.split('workspace="')[1] for line in lines) == ['_others"} 9996.0', 't-7"} 2.0', 't-8"} 2.0']
    # Whoever is alerted is alerted of any.
    assert sum(sample.name == "discern_verdicts_total" for sample in metrics.read()) == 5_000
    metrics.close()


def test_where_the_database_is_down_no_workspace_is_named() -> None:
    counts = Counts()

    def unknown() -> list[str]:
        raise StorageUnavailable("The database did not answer.", mend="See to it.")

    sample = Sample("discern_verdicts_total", ("acme", "toy", "1.0.0", "flag"), 2.0)
    metrics = Metrics(ProcessMetrics(counts.measures, counts), [lambda: [sample]], unknown)
    text = metrics.text("")[0].decode()
    assert "acme" not in text
    assert "discern_workers 1.0\n" in text
    metrics.close()
