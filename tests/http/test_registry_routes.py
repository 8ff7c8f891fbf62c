from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from discern.detectors.packing import pack
from discern.detectors.signing import sign_bundle
from tests.detectors import models

pytestmark = pytest.mark.system


def test_the_list_shows_what_each_detector_takes(client: TestClient) -> None:
    rows = {row["name"]: row for row in client.get("/v1/detectors").json()["detectors"]}
    assert rows["toy-record"]["takes"] == ["record"]
    assert rows["toy-image"]["takes"] == ["image", "video"]
    assert rows["toy-image"]["classes"] == {"negative": "dark", "positive": "bright"}


def test_a_detector_shows_its_manifest_and_its_card(client: TestClient) -> None:
    by_name = client.get("/v1/detectors/toy-cascade").json()
    assert by_name == client.get("/v1/detectors/toy-cascade/1.0.0").json()
    assert [stage["name"] for stage in by_name["manifest"]["stages"]] == ["screen", "expert"]
    assert by_name["card"].startswith("#")
    assert len(by_name["digest"]) == 64


def test_a_detector_that_is_not_there(client: TestClient) -> None:
    for path in ("/v1/detectors/nobody", "/v1/detectors/toy-image/9.9.9"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_detector")


def test_a_bundle_added_from_outside_answers_a_moment_later(client: TestClient, home: Path, tmp_path: Path) -> None:
    before = client.post("/v1/detectors/toy-record/verdicts", json={"a": 1, "b": 1, "c": 1}).json()
    assert before["version"] == "1.0.0"
    root = tmp_path / "later"
    pack(models.write_source(tmp_path / "source", models.record_manifest(version="1.10.0"), models.RECORD_FILES), root)
    sign_bundle(root, home / "keys" / "local.key")
    coming = home / "detectors" / "toy-record" / ".coming"
    shutil.copytree(root, coming)
    coming.rename(coming.with_name("1.10.0"))
    time.sleep(0.15)  # what was known of the folder a tenth of a second ago is still believed
    after = client.post("/v1/detectors/toy-record/verdicts", json={"a": 1, "b": 1, "c": 1}).json()
    assert after["version"] == "1.10.0"


def test_a_flipped_byte_takes_the_version_out_and_says_why(client: TestClient, home: Path) -> None:
    model = home / "detectors" / "toy-record" / "1.0.0" / "only.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    answer = client.post("/v1/detectors/toy-record/verdicts", json={"a": 1, "b": 1, "c": 1})
    assert (answer.status_code, answer.json()["code"]) == (503, "bundle_refused")
    rows = {row["name"]: row for row in client.get("/v1/detectors").json()["detectors"]}
    assert rows["toy-record"]["usable"] is False
    assert "only.onnx" in rows["toy-record"]["refused"]
    assert client.post("/v1/detectors/toy-image/verdicts", content=b"").json()["code"] == "empty_input"
