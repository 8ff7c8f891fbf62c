"""What a verdict says over HTTP, and on the ledger, of the models that ran and of the thresholds that decided."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from discern.app import build_services
from discern.app_http import create_app
from discern.core.verdict import Verdict
from discern.settings import load_settings
from tests.detectors import models
from tests.homes import take_in

pytestmark = pytest.mark.system

TURNED = {
    "variants": [{"name": "turned", "models": {"only": "turned/only.onnx"}, "evidence": {"margin": 0.01}}],
    "serves": "turned",
}
BANDS = {
    "field": "c",
    "steps": [
        {"from": 10.1, "review_from": 0.3, "flag_from": 0.6},
        {"from": 50, "review_from": 0.1, "flag_from": 0.2},
    ],
}
TOYS: dict[str, dict[str, Any]] = {
    "toy-turned": TURNED,
    "toy-bands": {"decision": {"review_from": 0.4, "flag_from": 0.8, "bands": BANDS}},
}
JSON = {"Content-Type": "application/json"}
FILES = {**models.RECORD_FILES, "turned/only.onnx": models.record_model(weights=(-1.0, 2.0, -0.5))}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Path:
    home = Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("served") / "home"))
    for name, changes in TOYS.items():
        manifest = models.record_manifest(name=name, **changes)
        files = FILES if "variants" in changes else models.RECORD_FILES
        take_in(home, manifest, files)
    return home


@pytest.fixture(params=["served", "fp32"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(home: Path, variant: str) -> Iterator[TestClient]:
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_VARIANT": variant}))
    services.open()
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
    yield client
    services.close()


def test_a_verdict_and_the_ledger_name_the_variant_that_ran_and_no_other(client: TestClient, variant: str) -> None:
    record = {"a": 1.0, "b": 0.0, "c": 0.0}
    answer = client.post("/v1/detectors/toy-turned/verdicts", json=record)
    many = client.post(
        "/v1/detectors/toy-turned/verdicts:batch", content=msgspec.json.encode([record, record]), headers=JSON
    )
    assert (answer.status_code, many.status_code) == (200, 200)
    verdicts = [answer.json(), *(one["verdict"] for one in many.json()["answers"])]
    for verdict in verdicts:
        assert (verdict["score"] < 0.5) == (variant == "served")
        if variant == "served":
            assert verdict["variant"] == "turned"
        else:
            assert "variant" not in verdict
        assert client.get(f"/v1/verdicts/{verdict['id']}").json() == verdict
    assert "variant" not in client.post("/v1/detectors/toy-record/verdicts", json=record).json()


def test_a_known_answer_keeps_its_variant(client: TestClient, variant: str) -> None:
    record = {"a": 0.25, "b": 0.5, "c": 0.0}
    first, second = (client.post("/v1/detectors/toy-turned/verdicts", json=record).json() for _ in range(2))
    assert second["cached"]
    assert first.get("variant") == second.get("variant") == ("turned" if variant == "served" else None)


def test_a_verdict_that_was_kept_before_variants_were_named_is_read() -> None:
    old = b"""{"id": "x", "workspace": "default", "detector": "d", "version": "1.0.0", "decision": "clear",
    "label": null, "score": 0.1, "thresholds": {"review_from": 0.2, "flag_from": 0.3}, "decided_by": "only",
    "stages": [], "input": {"kind": "record", "sha256": "", "bytes": 1},
    "created_at": "2026-01-01T00:00:00Z", "milliseconds": 1.0}"""
    verdict = msgspec.json.decode(old, type=Verdict)
    assert verdict.variant is msgspec.UNSET
    assert b"variant" not in msgspec.json.encode(verdict)


@pytest.mark.parametrize(
    ("amount", "thresholds", "decision"),
    [
        (-5.0, (0.4, 0.8), "review"),
        (10.0, (0.4, 0.8), "review"),
        (10.1, (0.3, 0.6), "review"),
        (49.99, (0.3, 0.6), "review"),
        (50, (0.1, 0.2), "flag"),
        (99.0, (0.1, 0.2), "flag"),
    ],
)
@pytest.mark.parametrize("variant", ["served"], indirect=True)
def test_a_record_is_decided_by_the_band_of_its_amount_and_told_its_thresholds(
    client: TestClient, amount: float, thresholds: tuple[float, float], decision: str
) -> None:
    # The model weighs c by a half: what a loses for it leaves every record at a score of one half.
    record = {"a": -amount / 2, "b": 0.0, "c": amount}
    answer = client.post("/v1/detectors/toy-bands/verdicts", json=record)
    assert answer.status_code == 200
    verdict = answer.json()
    assert verdict["score"] == pytest.approx(0.5, abs=1e-4)
    assert (verdict["thresholds"]["review_from"], verdict["thresholds"]["flag_from"]) == thresholds
    assert verdict["decision"] == decision
    assert client.get(f"/v1/verdicts/{verdict['id']}").json() == verdict
    content = msgspec.json.encode([record])
    (other,) = client.post("/v1/detectors/toy-bands/verdicts:batch", content=content, headers=JSON).json()["answers"]
    assert (other["verdict"]["decision"], other["verdict"]["thresholds"]) == (decision, verdict["thresholds"])
