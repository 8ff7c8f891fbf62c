"""From a stage that fails in a real server to the webhook, whichever of its processes is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from discern.detectors.bundle import open_bundle
from discern.detectors.packing import pack
from discern.detectors.signing import sign_bundle
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import vetting_mark
from tests.alerts.parts import Posted, webhook
from tests.detectors import models
from tests.http.test_streams import Served

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
TOML = """
[channels.hook]
kind = "webhook"
url = "{url}"
allow = "127.0.0.1/32"
"""


@pytest.fixture
def posted() -> Iterator[Posted]:
    with webhook() as posted:
        yield posted


@pytest.fixture
def served(home: Path, posted: Posted) -> Iterator[Served]:
    """A server of two processes with a detector whose only stage fails on negative numbers."""
    manifest = models.record_manifest(name="toy-root")
    files = {"only.onnx": models.root_model(), "CARD.md": models.CARD.encode()}
    source = models.write_source(home / "sources" / "toy-root", manifest, files)
    root = home / "detectors" / "toy-root" / manifest["version"]
    root.parent.mkdir(parents=True)
    pack(source, root)
    sign_bundle(root, home / "keys" / "local.key")
    (home / "vetted" / vetting_mark(open_bundle(root, TrustStore((home / "trust",))))).touch()
    (home / "alerts.toml").write_text(TOML.format(url=posted.url))
    server = Served(home, DISCERN_WORKERS="2", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    yield server
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)
    shutil.rmtree(home, ignore_errors=True)


def ask(served: Served, value: float) -> int:
    url = f"http://127.0.0.1:{served.port}/v1/detectors/toy-root/verdicts"
    headers = {"Authorization": f"Bearer {served.secret}"}
    return int(httpx2.post(url, json={"a": value, "b": 0.5, "c": -1}, headers=headers, timeout=20).status_code)


def told(posted: Posted, name: str) -> list[dict[str, Any]]:
    return [alert for body in posted.bodies() for alert in body["alerts"] if alert["labels"]["alertname"] == name]


def test_a_stage_that_fails_is_told_and_goes_on_being_known_when_who_evaluated_is_killed(
    served: Served, posted: Posted
) -> None:
    time.sleep(12)  # until the second look at the rules, as in a server that has been running
    began = time.monotonic()
    until = began + 60
    while not told(posted, "DiscernStageFailing") and time.monotonic() < until:
        ask(served, -1.0)
        time.sleep(0.2)
    first = told(posted, "DiscernStageFailing")[0]
    assert (first["labels"]["detector"], first["labels"]["stage"], first["status"]) == ("toy-root", "only", "firing")
    (alert,) = [one for one in served.get("/v1/alerts")["alerts"] if one["rule"] == "stage-failing"]
    details = served.get(f"/v1/alerts/{alert['id']}")
    assert [one["what"] for one in details["history"]] == ["fired"]
    assert {one["channel"] for one in details["deliveries"]} == {"hook", "log"}
    for pid in {served.get("/v1/statistics")["pid"] for _ in range(40)}:
        os.kill(pid, signal.SIGKILL)
    deaths: list[Any] = []
    while not deaths and time.monotonic() < until + 60:
        time.sleep(0.5)
        deaths = told(posted, "DiscernWorkerDeaths")
    assert deaths[0]["labels"]["severity"] == "warning"
    (same,) = [one for one in served.get("/v1/alerts")["alerts"] if one["rule"] == "stage-failing"]
    assert same["id"] == alert["id"]
    keys = [headers["Discern-Delivery"] for headers, _ in posted.requests]
    assert len(keys) == len(set(keys))
