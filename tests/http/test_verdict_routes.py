from __future__ import annotations

import json
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from discern.app import Services
from discern.cli.main import main
from discern.core.verdict import Verdict
from discern.library import Discern
from discern.settings import Settings
from tests.media import clip, encoded, jpeg, picture

pytestmark = pytest.mark.system

RECORD = {"a": 1.5, "b": -2, "c": 0.25}


def post(client: TestClient, detector: str, content: bytes, **headers: str) -> Response:
    return client.post(f"/v1/detectors/{detector}/verdicts", content=content, headers=headers)


@pytest.mark.parametrize(
    ("detector", "content"), [("toy-image", jpeg(4)), ("toy-cascade", jpeg(2)), ("toy-image", clip())]
)
def test_raw_bytes_get_a_verdict_that_can_be_read_again(client: TestClient, detector: str, content: bytes) -> None:
    answer = post(client, detector, content)
    assert answer.status_code == 200
    verdict = msgspec.json.decode(answer.content, type=Verdict)
    assert verdict.detector == detector
    again = client.get(f"/v1/verdicts/{verdict.id}")
    assert again.content == answer.content


def test_every_door_gives_the_same_score_to_the_last_bit(
    client: TestClient,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = jpeg(6)
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    url = "/v1/detectors/toy-cascade/verdicts"
    verdicts = [
        client.post(url, content=content, headers={"Content-Type": "text/plain"}).json(),
        client.post(url, files={"file": ("x.pdf", content, "application/pdf")}).json(),
    ]
    with Discern(settings) as discern:
        verdicts += [msgspec.to_builtins(discern.detect(given, "toy-cascade")) for given in (content, path)]
    monkeypatch.setenv("DISCERN_HOME", str(settings.home))
    monkeypatch.setattr(sys, "argv", ["discern", "detect", str(path), "-d", "toy-cascade", "--json"])
    with pytest.raises(SystemExit):
        main()
    verdicts.append(json.loads(capsys.readouterr().out))
    assert len(verdicts) == 5
    assert {verdict["score"] for verdict in verdicts} == {verdicts[0]["score"]}
    assert all(verdict["input"] == verdicts[0]["input"] for verdict in verdicts)
    assert len(client.get("/v1/verdicts").json()["verdicts"]) == 5


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", "image/jpeg"])
def test_a_record_is_judged_whatever_its_header_says(client: TestClient, content_type: str) -> None:
    answer = post(client, "toy-record", msgspec.json.encode(RECORD), **{"Content-Type": content_type})
    assert answer.status_code == 200
    assert answer.json()["input"]["kind"] == "record"


def test_a_record_may_come_as_an_upload(client: TestClient) -> None:
    answer = client.post("/v1/detectors/toy-record/verdicts", files={"file": msgspec.json.encode(RECORD)})
    assert answer.status_code == 200


def test_a_version_can_be_asked_for(client: TestClient) -> None:
    assert client.post("/v1/detectors/toy-record/verdicts?version=1.0.0", json=RECORD).status_code == 200
    answer = client.post("/v1/detectors/toy-record/verdicts?version=2.0.0", json=RECORD)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_detector")
    assert "1.0.0" in answer.json()["mend"]


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("detector", "content", "status", "code"),
    [
        ("toy-image", b"", 400, "empty_input"),
        ("toy-record", b"", 400, "empty_input"),
        ("toy-image", b"%PDF-1.7 nothing to see", 415, "unsupported_input"),
        ("toy-image", b'{"a": 1}', 415, "unsupported_input"),
        ("toy-image", jpeg()[: len(jpeg()) // 2], 422, "unreadable_input"),
        ("toy-image", bomb(), 413, "input_too_large"),
        ("toy-image", jpeg() + b"\0" * 250_000, 413, "input_too_large"),
        ("toy-image", b"\0" * 500_000, 413, "input_too_large"),
        ("toy-record", jpeg(), 400, "malformed_request"),
        ("toy-record", b"[1, 2]", 400, "malformed_request"),
        ("toy-record", b'{"a": NaN, "b": 1, "c": 1}', 400, "malformed_request"),
        ("toy-record", b'{"a": 1', 400, "malformed_request"),
        ("toy-record", b"[" * 100_000, 413, "input_too_large"),
        ("toy-record", b"[" * 9_000, 400, "malformed_request"),
        ("toy-record", b'{"a": 1e999, "b": 1, "c": 1}', 400, "malformed_request"),
        ("toy-record", b'{"a": 1e300, "b": 1, "c": 1}', 422, "invalid_record"),
        ("toy-record", b'{"a": "1", "b": 1e6, "d": 1}', 422, "invalid_record"),
        ("nobody", jpeg(), 404, "unknown_detector"),
    ],
)
def test_bad_input_gets_a_problem_document_and_nothing_goes_on_the_ledger(
    client: TestClient, detector: str, content: bytes, status: int, code: str
) -> None:
    answer = post(client, detector, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "mend"} <= answer.json().keys()
    assert client.get("/v1/verdicts").json() == {"verdicts": [], "next": None}


def test_every_fault_of_a_record_is_named_at_once(client: TestClient) -> None:
    faults = post(client, "toy-record", b'{"a": "1", "b": 1e6, "d": 1}').json()["faults"]
    assert [fault.split(":")[0] for fault in faults] == ["a", "b", "c", "d"]


def test_a_limit_that_fires_is_named_by_its_setting(client: TestClient) -> None:
    answer = post(client, "toy-record", b"[" * 20_000)
    assert (answer.json()["limit"], answer.json()["allowed"]) == ("record_bytes", 10_000)
    answer = post(client, "toy-image", b"\0" * 500_000)
    assert (answer.json()["limit"], answer.json()["allowed"]) == ("video_bytes", 400_000)


@pytest.mark.parametrize(
    "parts",
    [{"note": (None, b"no file")}, {"a": ("a.jpg", b"one"), "b": ("b.jpg", b"two")}],
    ids=["none", "two"],
)
def test_an_upload_needs_exactly_one_file(client: TestClient, parts: dict[str, Any]) -> None:
    answer = client.post("/v1/detectors/toy-image/verdicts", files=parts)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_a_multipart_body_without_a_boundary_is_named(client: TestClient) -> None:
    answer = post(client, "toy-image", b"x", **{"Content-Type": "multipart/form-data"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_an_upload_larger_than_memory_buffers_stays_off_the_disk(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an upload was written to a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    content = encoded(picture(1, 500, 400), "PNG", compress_level=0)[:390_000]
    answer = client.post("/v1/detectors/toy-image/verdicts", files={"file": content})
    assert answer.status_code in {413, 422}


def test_pages_follow_one_another(client: TestClient) -> None:
    ids = [post(client, "toy-record", msgspec.json.encode(RECORD | {"a": number})).json()["id"] for number in range(5)]
    first = client.get("/v1/verdicts?limit=3").json()
    rest = client.get(f"/v1/verdicts?limit=3&after={first['next']}").json()
    assert [verdict["id"] for verdict in first["verdicts"] + rest["verdicts"]] == ids[::-1]
    assert rest["next"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "after=x", "decision=maybe"])
def test_wrong_parameters_are_named(client: TestClient, query: str) -> None:
    answer = client.get(f"/v1/verdicts?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert query.split("=", maxsplit=1)[0] in answer.json()["detail"]


def test_a_verdict_that_is_not_there(client: TestClient) -> None:
    answer = client.get(f"/v1/verdicts/{uuid4()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_verdict")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/v3", 404, "not_found"), ("PUT", "/v1/verdicts", 405, "method_not_allowed")],
)
def test_the_frameworks_own_errors_have_the_same_shape(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_defect_tells_the_caller_nothing_of_the_inside(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(services.verdicts, "page", explode)
    answer = client.get("/v1/verdicts")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
