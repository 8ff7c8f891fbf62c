"""Reading the metrics hurts nobody: neither those who read nor what is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml

from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.monitoring.metrics import service
from discern.monitoring.metrics.service import Metrics
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.ports import Collector
from discern.monitoring.types import Sample

WAITING = Sample("discern_jobs_waiting", (), 3.0)
PROMETHEUS = Path(__file__).parents[3] / "deploy" / "monitoring" / "prometheus.yaml"
[SCRAPE] = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["scrape_configs"]
SCRAPE_TIMEOUT = float(SCRAPE["scrape_timeout"].removesuffix("s"))


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


def test_nobody_waits_again_for_a_part_that_hangs_and_not_for_the_names_of_workspaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[int] = []

    def noted(asked: list[Future[list[Sample]]], timeout: float) -> None:
        assert timeout < SCRAPE_TIMEOUT
        waited.append(len(asked))

    goes_on = threading.Event()

    def names() -> list[str]:
        goes_on.wait(30)
        return []

    def collector() -> list[Sample]:
        goes_on.wait(30)
        return []

    monkeypatch.setattr(service, "wait", noted)
    counts, clock = Counts(), [0.0]
    metrics = Metrics(ProcessMetrics(counts.measures, counts), [collector], names, lambda: clock[0])
    for _ in range(2):
        clock[0] += 2.0
        assert "discern_workers 1.0\n" in metrics.text("")[0].decode()
    assert waited == [2, 0]
    goes_on.set()
    metrics.close()


def test_what_a_part_has_said_is_told_for_a_moment_while_it_hangs() -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def collector() -> list[Sample]:
        if hangs.is_set():
            goes_on.wait(30)
        return [WAITING]

    metrics, clock = reading(collector)
    assert WAITING in metrics.read()
    hangs.set()
    told = []
    for clock[0] in (2.0, 4.0, 6.0):
        told.append(WAITING in metrics.read())
    assert told == [True, True, False]
    goes_on.set()
    metrics.close()


def test_what_does_not_stand_in_the_catalogue_is_not_exported_and_breaks_nothing() -> None:
    wrong = [Sample("discern_of_nobody", (), 1.0), Sample("discern_jobs_waiting", ("label",), 1.0)]
    metrics, _ = reading(lambda: [*wrong, WAITING])
    text = metrics.text("")[0].decode()
    assert "discern_jobs_waiting 3.0\n" in text
    assert "of_nobody" not in text
    metrics.close()


def test_what_a_process_has_measured_wrongly_breaks_nothing_either() -> None:
    counts = Counts()
    counts.measures.count("discern_limits_total", "image_bytes", "one label too many")
    counts.add("limits.header_bytes")
    metrics = Metrics(ProcessMetrics(counts.measures, counts), [], lambda: ())
    text = metrics.text("")[0].decode()
    assert 'discern_limits_total{limit="header_bytes"} 1.0' in text
    assert "too many" not in text
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


def test_where_the_database_goes_away_the_same_workspaces_are_named() -> None:
    counts, clock, is_down = Counts(), [0.0], [True]

    def named() -> list[str]:
        if is_down[0]:
            raise StorageUnavailable("The database did not answer.", mend="See to it.")
        return ["acme"]

    samples = [Sample("discern_verdicts_total", (name, "toy", "1.0.0", "flag"), 2.0) for name in ("acme", "small")]
    metrics = Metrics(ProcessMetrics(counts.measures, counts), [lambda: samples], named, lambda: clock[0])
    told = []
    for is_down[0] in (True, False, True):
        clock[0] += 10.0
        text = metrics.text("")[0].decode()
        assert "discern_workers 1.0\n" in text
        told.append([word for word in ("acme", "_others") if f'workspace="{word}"}} 2.0' in text])
        assert "small" not in text
    assert told == [[], ["acme", "_others"], ["acme", "_others"]]
    metrics.close()
