"""Ledger, tallies, labels, audit log, quality, drift, statistics and metrics agree after kills under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select

from discern.access.types import Principal
from discern.app import build_services
from discern.detection.store import verdicts
from discern.review.store import labels
from discern.settings import load_settings
from tests.cli.test_workers import RECORD, Load, Running, until
from tests.ports import free_port

pytestmark = pytest.mark.system
KILLS = 2
TOKEN = "a word that only Prometheus knows"
Found = dict[tuple[str, ...], float]


@pytest.fixture
def environment(request: pytest.FixtureRequest, home: Path) -> dict[str, str]:
    """What the servers and the test see; on SQLite unless a test says otherwise."""
    given = {"DISCERN_HOME": str(home)}
    if getattr(request, "param", "sqlite") == "postgresql":
        given["DISCERN_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    return given


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[Running]:
    services = build_services(load_settings(environment))
    services.open()
    secret = services.keys.issue("default", "test", role="owner").secret
    services.close()
    port = free_port()
    more = {"DISCERN_PORT": str(port), "DISCERN_CACHE_ENTRIES": "0", "DISCERN_METRICS_TOKEN": TOKEN}
    more |= {"PATH": "", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    process = subprocess.Popen(
        [sys.executable, "-m", "discern.cli.main", "up", "--workers", "2"],
        env=environment | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = Running(process, port, Path(environment["DISCERN_HOME"]), secret)
    try:
        until(lambda: read(found).get("discern_workers") == {(): 2})
        yield found
    finally:
        process.kill()
        process.wait()


def read(running: Running) -> dict[str, Found]:
    """Every sample, by its name and the values of its labels in the order of their names; nothing while it starts."""
    try:
        answer = httpx2.get(f"{running.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    except httpx2.TransportError:
        return {}
    found: dict[str, Found] = {}
    for family in text_string_to_metric_families(answer.raise_for_status().text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def whole(running: Running) -> dict[str, Found]:
    """Likewise, once the database was among those that answered in time."""
    found: dict[str, Found] = {}

    def is_whole() -> bool:
        nonlocal found
        found = read(running)
        return "discern_verdicts_total" in found

    until(is_whole)
    return found


class Labelling(Load):
    """Clients that say the truth about every verdict they get."""

    def __init__(self, running: Running) -> None:
        super().__init__(running)
        self.labelled: list[str] = []
        self.cut_off: list[str] = []

    def client(self) -> None:
        headers = {"Authorization": f"Bearer {self.running.secret}"}
        with httpx2.Client(base_url=self.running.url, headers=headers, timeout=60) as client:
            while not self.stops.is_set():
                asked = self._asked(client, "/v1/detectors/toy-record/verdicts", RECORD, self.broken)
                if asked is None:
                    continue
                self.answered.append(asked["id"])
                told = self._asked(client, f"/v1/verdicts/{asked['id']}/label", b'{"label": "odd"}', self.cut_off)
                if told is not None:
                    self.labelled.append(asked["id"])

    def _asked(self, client: httpx2.Client, path: str, body: bytes, broken: list[str]) -> dict[str, Any] | None:
        try:
            answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        except httpx2.ConnectError as error:
            self.refused.append(str(error))
            return None
        except httpx2.TransportError as error:
            broken.append(type(error).__name__)
            return None
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found


def looked_at(running: Running) -> int:
    """Return how many verdicts drift has in the windows that are open."""
    headers = {"Authorization": f"Bearer {running.secret}"}
    found = httpx2.get(f"{running.url}/v1/drift", headers=headers, timeout=60).raise_for_status().json()
    return sum(one["open_verdicts"] for one in found["releases"])


def rows_of(running: Running) -> dict[int, int]:
    """Return what each process says of the rows it has judged, by its id."""
    found: dict[int, int] = {}

    def both() -> bool:
        told = running.statistics()
        found[told["pid"]] = told["counts"].get("rows", 0)
        return len(found) == 2

    until(both)
    return found


class Told(NamedTuple):
    """What stands in the database once the server has ended."""

    ledger: dict[str, int]
    tallied: dict[str, int]
    labels: int
    audit: dict[tuple[str, ...], int]
    of_quality: int
    labels_of_quality: int
    of_drift: int


def told_by_the_database(environment: dict[str, str]) -> Told:
    services = build_services(load_settings(environment))
    services.open()
    try:
        with services.database.read() as connection:
            rows = select(verdicts.c.decision, func.count().label("verdicts")).group_by(verdicts.c.decision)
            ledger = {row.decision: row.verdicts for row in connection.execute(rows)}
            given = connection.execute(select(func.count()).select_from(labels)).scalar_one()
        tallied = Counter[str]()
        for row in services.monitoring.tallies.ever():
            tallied[row.decision] += row.verdicts
        audit = Counter[tuple[str, ...]]((one.act.act, one.act.outcome) for one in services.audit_store.all("default"))
        services.monitoring.quality.refresh()
        windows = [one for release in services.monitoring.quality.report("default").releases for one in release.windows]
        owner = Principal("key:test", "default", "owner")
        drift = services.monitoring.drift.report(owner).releases
    finally:
        services.close()
    of_quality, labelled = sum(one.verdicts for one in windows), sum(one.labels for one in windows)
    return Told(ledger, tallied, given, audit, of_quality, labelled, sum(one.open_verdicts for one in drift))


@pytest.mark.parametrize("environment", ["sqlite", "postgresql"], indirect=True)
def test_after_kills_under_load_nothing_differs(running: Running, environment: dict[str, str]) -> None:
    load = Labelling(running)

    def kill_some() -> None:
        for number in range(KILLS):
            os.kill(running.workers()[number % 2], signal.SIGKILL)
            dead = number + 1
            until(lambda: read(running).get("discern_worker_deaths_total") == {(): dead})  # noqa: B023 - asked at once
            until(lambda: read(running).get("discern_workers") == {(): 2})
            time.sleep(0.2)
        # Drift looks at a part of it, once whoever folded has its turn again or another takes it.
        until(lambda: looked_at(running) > 0)

    load.during(kill_some)
    assert len(load.answered) > 50
    time.sleep(1.1)  # what was read a moment ago is told again for a second
    found = whole(running)
    # What is no more than noted may lack the last second of each that was killed, and never has too much.
    noted = sum(found["discern_verdict_duration_seconds_count"].values())
    assert found["discern_http_requests_in_progress"][()] >= 1
    assert found["discern_waiting_rows"] == {(): 0}
    assert len(list((running.home / "metrics").glob("*/*.db"))) == 3  # of two that live, and of all that are dead
    running.process.terminate()
    assert running.process.wait(30) == 0
    told = told_by_the_database(environment)
    # What was answered is on the ledger; what was cut off may be. So with labels.
    total = sum(told.ledger.values())
    assert len(load.answered) <= total <= len(load.answered) + len(load.broken)
    assert len(load.labelled) <= told.labels <= len(load.labelled) + len(load.cut_off)
    # Ledger, tallies, labels, quality and the audit log, and what is exported of each.
    assert told.tallied == told.ledger
    assert told.of_quality == total
    assert told.labels_of_quality == told.labels
    assert told.audit["verdicts.label", "done"] == told.labels
    assert {labels[0]: value for labels, value in found["discern_verdicts_total"].items()} == told.ledger
    assert sum(found["discern_stage_exits_total"].values()) == total
    assert sum(found["discern_labels_total"].values()) == told.labels
    assert found["discern_audit_entries_total"] == told.audit
    assert 0 < noted <= total
    assert 0 < told.of_drift <= total


def test_after_a_kill_what_each_process_tells_adds_up(running: Running) -> None:
    Load(running).during(lambda: os.kill(running.workers()[0], signal.SIGKILL))
    until(lambda: read(running).get("discern_worker_deaths_total") == {(): 1})
    until(lambda: read(running).get("discern_workers") == {(): 2})
    time.sleep(2.2)  # what was noted is added up after a second, and told again for another
    rows, before, load = rows_of(running), whole(running), Load(running)
    load.during(lambda: time.sleep(0.5))
    assert (load.broken, load.refused) == ([], [])
    time.sleep(2.2)
    after, answered = whole(running), len(load.answered)
    again = rows_of(running)
    assert again.keys() == rows.keys()
    assert sum(again.values()) - sum(rows.values()) == answered
    for name in ("discern_verdicts_total", "discern_verdict_duration_seconds_count", "discern_stage_exits_total"):
        assert sum(after[name].values()) - sum(before[name].values()) == answered, name
    asked = ("POST", "/v1/detectors/{name}/verdicts", "200")
    requests = "discern_http_request_duration_seconds_count"
    assert after[requests][asked] - before[requests][asked] == answered


def test_replaced_processes_leave_what_they_counted(running: Running) -> None:
    load, before = Load(running), set(running.workers())

    def replace_all() -> None:
        running.process.send_signal(signal.SIGHUP)
        until(lambda: len(running.workers()) == 2 and not before & set(running.workers()))
        until(lambda: read(running).get("discern_workers") == {(): 2})

    load.during(replace_all)
    assert (load.broken, load.refused) == ([], [])
    time.sleep(2.2)  # what was noted is added up after a second, and told again for another
    found = read(running)
    answered = float(len(load.answered))
    assert sum(found["discern_verdicts_total"].values()) == answered
    assert sum(found["discern_verdict_duration_seconds_count"].values()) == answered
    ok = found["discern_http_request_duration_seconds_count"]["POST", "/v1/detectors/{name}/verdicts", "200"]
    assert ok == answered
    assert found["discern_worker_deaths_total"] == {(): 0}


def test_the_folder_goes_with_the_server(running: Running) -> None:
    assert len(list((running.home / "metrics").iterdir())) == 1
    running.process.terminate()
    assert running.process.wait(30) == 0
    assert list((running.home / "metrics").iterdir()) == []
