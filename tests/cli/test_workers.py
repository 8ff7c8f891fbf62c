"""Several processes under load: replaced, killed and stopped, and both sides agree on what was answered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from discern.app import build_services
from discern.cli.supervisor import SharedCounts
from discern.settings import load_settings
from tests.ports import free_port

pytestmark = pytest.mark.system
RECORD = b'{"a": 1.0, "b": -2.0, "c": 0.5}'


@dataclass
class Running:
    """A supervisor with two workers."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def statistics(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.secret}"}
        answer = httpx2.get(f"{self.url}/v1/statistics", headers=headers, timeout=60)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@dataclass
class Load:
    """Clients that ask one question after the other on a connection each, until they are told to stop."""

    running: Running
    answered: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stops: threading.Event = field(default_factory=threading.Event)

    def client(self) -> None:
        headers = {"Authorization": f"Bearer {self.running.secret}"}
        address = f"{self.running.url}/v1/detectors/toy-record/verdicts"
        with httpx2.Client(headers=headers, timeout=60) as client:
            while not self.stops.is_set():
                try:
                    answer = client.post(address, content=RECORD)
                except httpx2.ConnectError as error:
                    self.refused.append(str(error))
                except httpx2.TransportError as error:
                    self.broken.append(type(error).__name__)
                else:
                    assert answer.status_code == 200, answer.text
                    self.answered.append(answer.json()["id"])

    def during(self, what: Callable[[], None]) -> None:
        threads = [threading.Thread(target=self.client) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        try:
            what()
        finally:
            self.stops.set()
            for thread in threads:
                thread.join()


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    secret = services.keys.issue("default", "test", role="owner").secret
    services.close()
    port = free_port()
    environment = {"DISCERN_HOME": str(home), "DISCERN_PORT": str(port), "DISCERN_CACHE_ENTRIES": "0", "PATH": ""}
    environment["DISCERN_HANG_SECONDS"] = "5"
    command = [sys.executable, "-m", "discern.cli.main", "up", "--workers", "2"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Running(process, port, home, secret)
    with httpx2.Client(timeout=60) as client:
        until(lambda: _is_ready(client, found.url))
        until(lambda: _all_answer(found))
    yield found
    if process.poll() is None:
        process.kill()
        process.wait()


def _is_ready(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _all_answer(running: Running) -> bool:
    """Tell whether both workers are ready: each has a listener of its own, and the kernel chooses among them."""
    return {running.statistics()["slot"] for _ in range(20)} == {0, 1}


def on_the_ledger(running: Running, ids: list[str]) -> int:
    services = build_services(load_settings({"DISCERN_HOME": str(running.home)}))
    services.open()
    try:
        return sum(services.verdicts.get("default", UUID(one)) is not None for one in ids)
    finally:
        services.close()


def test_replacing_all_processes_breaks_no_request(running: Running) -> None:
    load, before = Load(running), set(running.workers())

    def replace_all() -> None:
        running.process.send_signal(signal.SIGHUP)
        until(lambda: len(running.workers()) == 2 and not before & set(running.workers()))

    load.during(replace_all)
    assert (load.broken, load.refused) == ([], [])
    assert len(load.answered) > 50
    assert on_the_ledger(running, load.answered) == len(load.answered)


def test_the_log_s_levels_are_changed_while_it_runs(running: Running) -> None:
    before = set(running.workers())
    levels = f'log_file = "{running.home}/log.json"\nlog_level = "error"\nlog_levels = "http=info"\n'
    (running.home / "discern.toml").write_text(levels)
    running.process.send_signal(signal.SIGHUP)
    until(lambda: len(running.workers()) == 2 and not before & set(running.workers()))
    headers = {"Authorization": f"Bearer {running.secret}", "X-Request-Id": "mine-1"}
    answer = httpx2.post(f"{running.url}/v1/detectors/none/verdicts", content=RECORD, headers=headers, timeout=60)
    assert answer.status_code == 404
    lines = "".join(path.read_text() for path in running.home.glob("log-*.json")).splitlines()
    found = [(line["event"], line["level"], line.get("request")) for line in map(json.loads, lines)]
    assert found == [("request_refused", "info", "mine-1")]


def test_a_killed_process_is_replaced_and_its_absence_counted(running: Running) -> None:
    load = Load(running)
    victim = running.workers()[0]

    def kill_one() -> None:
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(running.workers()) == 2 and victim not in running.workers())
        until(lambda: running.statistics()["workers"]["absent_seconds"] > 0)

    load.during(kill_one)
    assert load.refused == []
    # At most what was in work at the one that was killed: one request a client.
    assert len(load.broken) <= 6
    assert on_the_ledger(running, load.answered) == len(load.answered)
    assert running.statistics()["workers"]["deaths"] == 1


def test_a_process_that_lets_nothing_happen_is_replaced_and_that_is_on_record(running: Running) -> None:
    victim = running.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    until(lambda: len(running.workers()) == 2 and victim not in running.workers())
    until(lambda: _all_answer(running))
    headers = {"Authorization": f"Bearer {running.secret}"}

    def recorded() -> list[dict[str, Any]]:
        found = httpx2.get(f"{running.url}/v1/health", headers=headers, timeout=60).json()
        return [one["facts"] for one in found["happenings"] if one["kind"] == "worker.replaced"]

    until(lambda: len(recorded()) == 1)
    assert recorded() == [{"manner": "hung", "pid": victim, "exit": -signal.SIGKILL}]


def test_told_to_stop_under_load_it_answers_what_it_has_taken(running: Running) -> None:
    load = Load(running)

    def stop() -> None:
        running.process.terminate()
        load.stops.wait(1.5)
        load.stops.set()

    load.during(stop)
    assert running.process.wait(30) == 0
    # Whoever has been taken gets an answer. A fresh connection that nobody had taken yet when the sockets were closed
    # may break, once for each client; after that nobody is there.
    assert len(load.broken) <= 6
    assert len(load.refused) > 0
    assert on_the_ledger(running, load.answered) == len(load.answered)


def test_a_stop_that_comes_while_it_starts_is_not_lost(home: Path) -> None:
    # The stop comes at the last moment before the server runs.
    start = """
import gc, os, signal
gc.freeze = lambda: os.kill(os.getpid(), signal.SIGTERM)
from discern.cli.main import build_cli
build_cli()(["up"])
"""
    environment = {"DISCERN_HOME": str(home), "DISCERN_PORT": "0", "PATH": ""}
    ended = subprocess.run([sys.executable, "-c", start], env=environment, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_processes_end_with_their_supervisor(running: Running) -> None:
    workers = running.workers()
    assert len(workers) == 2
    assert all(map(_is_alive, workers))
    running.process.kill()
    running.process.wait()
    until(lambda: not any(map(_is_alive, workers)))
    assert [pid for pid in workers if _is_alive(pid)] == []


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_both_sides_read_the_same_counts() -> None:
    supervisor = SharedCounts(2)
    worker = SharedCounts(2, os.dup(supervisor.fd))
    supervisor.write(3, 1.5)
    assert worker.read() == (3, 1.5)
    assert supervisor.silent_seconds(1, since=time.monotonic() - 100) >= 100
    worker.beat(1)
    assert supervisor.silent_seconds(1, since=0.0) < 50
    assert supervisor.silent_seconds(0, since=time.monotonic() - 100) >= 100
