"""Real Prometheus and Alertmanager, with the shipped files, over a real server: they see, they tell, they agree.

Two things are shorter here than in what is shipped, so that the end of an alert need not be waited for three minutes:
the minute over which failures of a stage are counted and for which the alert goes on, and the pause between two notices
of a group. How long it takes with what is shipped, `python -m bench.alerts --prometheus` measures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.monitoring.dashboards.detectors import CASCADE, DETECTOR, DRIFT
from deploy.monitoring.dashboards.operations import BUSINESS, SECURITY
from deploy.monitoring.dashboards.panels import RECORDED, Board
from deploy.monitoring.dashboards.service import SERVICE
from discern.app import build_services
from discern.settings import load_settings
from tests.deploy.monitoring.stack import TOKEN, Stack, stack_of, until
from tests.detectors import models
from tests.homes import take_in
from tests.http.test_streams import Served, jpeg

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
SHORTER = {
    "increase(discern_stage_failures_total[1m])": "increase(discern_stage_failures_total[15s])",
    "keep_firing_for: 1m": "keep_firing_for: 2s",
    "group_interval: 1m": "group_interval: 2s",
}
CHOSEN = {"$__rate_interval": "30s", "$__range": "1m", "$workspace": ".*", "$detector": ".*"}
BOARDS = (SERVICE, DETECTOR, CASCADE, DRIFT, SECURITY, BUSINESS)
RECORD = {"a": 0.5, "b": 0.5, "c": -1}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Served]:
    """A server with a detector whose only stage fails on negative numbers, and with windows of drift that are short."""
    home = Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("monitored") / "home"))
    failing = {"only.onnx": models.root_model(), "CARD.md": models.CARD.encode()}
    take_in(home, models.record_manifest(name="toy-root"), failing)
    settings = {"METRICS_TOKEN": TOKEN, "DRIFT_WINDOW_VERDICTS": "20", "DRIFT_WINDOW_SECONDS": "0"}
    settings |= {"DRIFT_BASELINE_WINDOWS": "1"}
    path = os.environ.get("PYTHONPATH", "")
    environment: dict[str, Any] = {f"DISCERN_{name}": value for name, value in settings.items()}
    server = Served(home, home.parent / "log", PYTHONPATH=path, **environment)
    yield server
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Iterator[Stack]:
    with stack_of(tmp_path_factory.mktemp("prometheus"), served.port, SHORTER) as stack:
        until(lambda: stack.value("up") == 1, 30, "Prometheus did not read the metrics")
        yield stack


def client_of(served: Served) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {served.secret}"}
    return httpx2.Client(base_url=f"http://127.0.0.1:{served.port}", headers=headers, timeout=20)


@pytest.fixture(scope="module")
def used(served: Served, stack: Stack) -> Stack:
    """The same after a little of everything: questions, known answers, cascades, jobs, labels, strangers."""
    for turn in range(3):
        with client_of(served) as client:
            use(client, turn)
        # What grows is seen once it has grown since the last time it was read.
        before = stack.value("sum(discern_verdicts_total)") or 0
        asked = served_verdicts(served)
        until(
            lambda: (stack.value("sum(discern_verdicts_total)") or 0) >= asked > before,  # noqa: B023 - asked at once
            20,
            "Prometheus did not see what was asked",
        )
    return stack


def use(client: httpx2.Client, turn: int) -> None:
    for number in range(24):
        verdict = client.post("/v1/detectors/toy-record/verdicts", json=RECORD | {"a": number + turn / 10}).json()
        label = {"label": "odd" if number % 2 else "fine"}
        client.post(f"/v1/verdicts/{verdict['id']}/label", json=label).raise_for_status()
    client.post("/v1/detectors/toy-record/verdicts", json=RECORD)
    for name in ("toy-image", "toy-cascade"):
        for side in (36, 40, 64):
            client.post(f"/v1/detectors/{name}/verdicts", content=jpeg(side)).raise_for_status()
    client.post("/v1/detectors/toy-image/jobs", content=jpeg()).raise_for_status()
    client.get("/v1/verdicts", headers={"Authorization": "Bearer dsc_wrong"})
    client.get("/wp-admin")


def served_verdicts(served: Served) -> int:
    services = build_services(load_settings({"DISCERN_HOME": str(served.home)}))
    services.open()
    try:
        with services.database.read() as connection:
            from sqlalchemy import func, select

            from discern.detection.store import verdicts

            return int(connection.execute(select(func.count()).select_from(verdicts)).scalar_one())
    finally:
        services.close()


def test_prometheus_counts_what_the_ledger_has(used: Stack, served: Served) -> None:
    ledger = served_verdicts(served)
    assert used.value("sum(discern_verdicts_total)") == ledger
    assert used.value("sum(discern_stage_exits_total)") == ledger


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_panel_has_data_or_says_why_not(used: Stack, board: Board) -> None:
    lacking = []
    for _, panels in board.rows:
        for panel in panels:
            for curve in panel.curves:
                expression = re.sub(r"\$\w+", lambda found: CHOSEN[found[0]], curve.expression)
                if not used.query(expression) and not panel.may_lack:
                    lacking.append(f"{panel.title}: {expression}")
    assert lacking == []


@pytest.mark.parametrize("name", RECORDED)
def test_what_looks_back_over_days_is_recorded_as_it_was_when_it_was(used: Stack, name: str) -> None:
    until(lambda: used.query(name), 40, f"{name} is not recorded")
    at = used.value(f"max(timestamp({name}))")
    recorded = used.values(name, at)
    assert recorded
    assert recorded == pytest.approx(used.values(RECORDED[name], at))


def test_a_stage_that_fails_is_told_by_mail_and_webhook_and_so_is_its_end(used: Stack, served: Served) -> None:
    stop = threading.Event()

    def fail() -> None:
        with client_of(served) as client:
            while not stop.wait(0.5):
                client.post("/v1/detectors/toy-root/verdicts", json=RECORD | {"a": -1})

    failing = threading.Thread(target=fail)
    failing.start()
    try:
        until(lambda: used.told("firing"), 60, "nothing came by the webhook")
        until(lambda: used.mail.envelopes, 60, "no mail came")
    finally:
        stop.set()
        failing.join()
    (alert, *_) = used.told("firing")
    assert (alert["labels"]["alertname"], alert["labels"]["severity"]) == ("DiscernStageFailing", "critical")
    assert alert["annotations"]["summary"] == "Stage only of toy-root fails"
    assert re.match(r"It gave no score for [\d.]+ inputs", alert["annotations"]["description"])
    headers, body = used.posted.requests[0]
    assert headers["Authorization"] == "Bearer a word"
    assert json.loads(body)["receiver"] == "on-call"
    sender, receivers, message = used.mail.envelopes[0]
    assert (sender, receivers) == ("discern@example.org", ["ops@example.org"])
    assert "DiscernStageFailing" in message["Subject"]
    until(lambda: used.told("resolved"), 90, "its end was not told by the webhook")
    until(lambda: any("RESOLVED" in one["Subject"] for *_, one in used.mail.envelopes), 30, "nor by mail")
