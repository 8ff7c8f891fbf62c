from __future__ import annotations

import asyncio
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.verdict import Verdict
from discern.detection.batches import MEDIA_TYPES, RECORD_TYPES
from discern.settings import load_settings
from tests.media import clip, jpeg

pytestmark = pytest.mark.system

RECORDS: list[dict[str, Any]] = [{"a": number / 7, "b": -2, "c": 0.25} for number in range(30)]
NDJSON = "application/x-ndjson"


def post(client: TestClient, detector: str, content: bytes, content_type: str, **headers: str) -> Response:
    return client.post(
        f"/v1/detectors/{detector}/verdicts:batch",
        content=content,
        headers={"Content-Type": content_type} | headers,
    )


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"\n".join(map(msgspec.json.encode, records))


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return out.getvalue()


def stream(records: list[dict[str, Any]]) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    table = pa.Table.from_pylist(records)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return out.getvalue()


@pytest.fixture
def narrow(home: Path) -> Iterator[TestClient]:
    """A client of an installation with small limits on batches."""
    limits = {"RECORDS": "20", "IMAGES": "3", "BYTES": "60000"}
    services = build_services(
        load_settings(
            {"DISCERN_HOME": str(home), "DISCERN_RECORD_BYTES": "10000", "DISCERN_IMAGE_BYTES": "20000"}
            | {f"DISCERN_BATCH_{name}": value for name, value in limits.items()}
        )
    )
    services.open()
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
    yield client
    services.close()


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (msgspec.json.encode(RECORDS), "application/json; charset=utf-8"),
        (msgspec.json.format(msgspec.json.encode(RECORDS)), "Application/JSON"),
        (lines(RECORDS), NDJSON),
        (b"\n\n" + lines(RECORDS).replace(b"\n", b"\r\n \r\n") + b"\n", "application/jsonl"),
        (stream(RECORDS), "application/vnd.apache.arrow.stream"),
    ],
    ids=["json", "json-laid-out", "ndjson", "ndjson-with-blank-lines", "arrow"],
)
def test_records_in_every_format_get_the_verdicts_they_get_alone(
    client: TestClient, content: bytes, content_type: str
) -> None:
    answer = post(client, "toy-record", content, content_type)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["detector"], body["version"]) == ("toy-record", "1.0.0")
    assert (body["count"], body["errors"], len(body["answers"])) == (30, 0, 30)
    for index, (record, one) in enumerate(zip(RECORDS, body["answers"], strict=True)):
        alone = client.post("/v1/detectors/toy-record/verdicts", json=record).json()
        assert one["index"] == index
        assert one["verdict"]["score"] == pytest.approx(alone["score"], abs=1e-6)
        assert one["verdict"]["input"] == alone["input"]


def test_every_verdict_is_on_the_ledger_as_it_was_answered(client: TestClient) -> None:
    answers = post(client, "toy-record", lines(RECORDS), NDJSON).json()["answers"]
    for one in answers:
        kept = client.get(f"/v1/verdicts/{one['verdict']['id']}").json()
        assert kept == one["verdict"]
    assert len(client.get("/v1/verdicts?limit=500").json()["verdicts"]) == len(answers)


def test_one_bad_record_does_not_spoil_the_others(client: TestClient) -> None:
    good = msgspec.json.encode(RECORDS[0])
    long = b'{"a": "' + b"x" * 10_000 + b'"}'
    bad = [b"{", b"[1]", b"7", b'{"a": "x", "b": 1, "c": 1}', b'"\xff"', long]
    body = post(client, "toy-record", b"\n".join([good, *bad, good]), NDJSON).json()
    assert (body["count"], body["errors"]) == (8, 6)
    assert [list(one) for one in body["answers"]] == [
        ["index", "verdict"],
        *[["index", "error"]] * 6,
        ["index", "verdict"],
    ]
    assert [one["error"]["code"] for one in body["answers"][1:-1]] == [
        "malformed_request",
        "malformed_request",
        "malformed_request",
        "invalid_record",
        "malformed_request",
        "input_too_large",
    ]
    assert body["answers"][6]["error"]["limit"] == "record_bytes"
    assert body["answers"][4]["error"].keys() >= {"type", "title", "status", "detail", "faults"}
    assert len(client.get("/v1/verdicts").json()["verdicts"]) == 2


def test_an_error_of_an_item_is_the_problem_document_it_gets_alone(client: TestClient) -> None:
    record = b'{"a": "1", "b": 1e6, "d": 1}'
    alone = client.post("/v1/detectors/toy-record/verdicts", content=record).json()
    assert post(client, "toy-record", b"[" + record + b"]", "application/json").json()["answers"][0]["error"] == alone


@pytest.mark.parametrize("container", ["zip", "multipart"])
def test_images_get_the_verdicts_they_get_alone_and_keep_their_names(client: TestClient, container: str) -> None:
    files = {f"folder/photo {number}.jpg": jpeg(number) for number in range(5)} | {"note.txt": b"hello"}
    if container == "zip":
        answer = post(client, "toy-image", archive(files), "application/zip")
    else:
        upload = [("file", (name, content)) for name, content in files.items()]
        answer = client.post("/v1/detectors/toy-image/verdicts:batch", files=upload)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["count"], body["errors"]) == (6, 1)
    assert [one["name"] for one in body["answers"]] == list(files)
    for one, content in zip(body["answers"][:5], files.values(), strict=False):
        alone = client.post("/v1/detectors/toy-image/verdicts", content=content).json()
        assert (one["verdict"]["score"], one["verdict"]["input"]) == (alone["score"], alone["input"])
    assert body["answers"][5]["error"]["code"] == "unsupported_input"


def test_a_clip_among_the_images_is_judged_too(client: TestClient) -> None:
    body = post(client, "toy-image", archive({"a.mp4": clip(), "b.jpg": jpeg()}), "application/zip").json()
    assert [one["verdict"]["input"]["kind"] for one in body["answers"]] == ["video", "image"]


def test_answers_come_as_lines_where_lines_are_accepted(client: TestClient) -> None:
    answer = post(client, "toy-record", lines([*RECORDS, {}]), NDJSON, Accept=f"text/plain, {NDJSON}")
    assert answer.headers["content-type"] == NDJSON
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["index"] for one in found] == list(range(31))
    assert all(msgspec.convert(one["verdict"], Verdict) for one in found[:30])
    assert found[30]["error"]["code"] == "invalid_record"


def test_a_version_can_be_asked_for(client: TestClient) -> None:
    for version, status in (("1.0.0", 200), ("2.0.0", 404)):
        url = f"/v1/detectors/toy-record/verdicts:batch?version={version}"
        assert client.post(url, json=RECORDS[:1]).status_code == status


@pytest.mark.parametrize(
    ("detector", "content_type", "content", "status", "code"),
    [
        ("toy-record", "application/json", b"", 400, "malformed_request"),
        ("toy-record", "application/json", b"[]", 400, "empty_input"),
        ("toy-record", "application/json", b"[1,", 400, "malformed_request"),
        ("toy-record", "application/json", b'{"a": 1}', 400, "malformed_request"),
        ("toy-record", "application/json", b"[" * 200_000, 400, "malformed_request"),
        ("toy-record", "application/json", b"\xff\xfe", 400, "malformed_request"),
        ("toy-record", NDJSON, b"", 400, "empty_input"),
        ("toy-record", NDJSON, b"\n \n", 400, "empty_input"),
        ("toy-record", "application/vnd.apache.arrow.stream", b"nothing", 400, "malformed_request"),
        ("toy-record", "application/vnd.apache.arrow.stream", stream([{"q": 1}]), 422, "invalid_record"),
        ("toy-record", "application/zip", b"", 415, "unsupported_input"),
        ("toy-record", "text/csv", b"a,b", 415, "unsupported_input"),
        ("toy-image", "application/json", b"[]", 415, "unsupported_input"),
        ("toy-image", "application/zip", b"PK", 400, "malformed_request"),
        ("toy-image", "application/zip", archive({}), 400, "empty_input"),
        ("toy-image", "multipart/form-data", b"x", 400, "malformed_request"),
        ("toy-image", "multipart/form-data; boundary=x", b"--x\r\n", 400, "malformed_request"),
        ("nobody", "application/json", b"[]", 404, "unknown_detector"),
    ],
)
def test_what_is_wrong_with_the_whole_is_a_problem_document(
    client: TestClient, detector: str, content_type: str, content: bytes, status: int, code: str
) -> None:
    answer = post(client, detector, content, content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/verdicts").json()["verdicts"] == []


@pytest.mark.parametrize(("detector", "taken"), [("toy-record", RECORD_TYPES), ("toy-image", MEDIA_TYPES)])
def test_a_missing_content_type_gets_a_list_of_what_is_taken(
    client: TestClient, detector: str, taken: dict[str, str]
) -> None:
    answer = client.post(f"/v1/detectors/{detector}/verdicts:batch", content=b"x")
    assert answer.status_code == 415
    assert answer.json()["taken"] == list(taken)
    assert "missing" in answer.json()["detail"]


def test_a_body_that_is_packed_is_refused(client: TestClient) -> None:
    answer = post(client, "toy-record", b"x", NDJSON, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["taken"]) == (415, ["identity"])


def test_only_posts_are_taken_and_a_key_is_needed(client: TestClient, stranger: TestClient) -> None:
    url = "/v1/detectors/toy-record/verdicts:batch"
    answer = client.get(url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert stranger.post(url, json=RECORDS).status_code == 401


@pytest.mark.parametrize(
    ("detector", "content_type", "content", "limit"),
    [
        ("toy-record", NDJSON, lines(RECORDS[:21]), "batch_records"),
        ("toy-record", NDJSON, b"\n" * 2000, "batch_records"),
        ("toy-record", "application/json", msgspec.json.encode(RECORDS[:21]), "batch_records"),
        ("toy-record", "application/json", b"[" + b"1," * 3000 + b"1]", "batch_records"),
        ("toy-record", "application/vnd.apache.arrow.stream", stream(RECORDS[:21]), "batch_records"),
        ("toy-record", NDJSON, b"1" * 60_001, "batch_bytes"),
        ("toy-image", "application/zip", archive({str(number): b"x" for number in range(4)}), "batch_images"),
        ("toy-image", "application/zip", b"PK\x01\x02" * 2000, "batch_images"),
    ],
)
def test_a_limit_on_the_whole_is_named_by_its_setting(
    narrow: TestClient, detector: str, content_type: str, content: bytes, limit: str
) -> None:
    answer = post(narrow, detector, content, content_type)
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_large"), answer.text
    assert answer.json()["limit"] == limit
    assert limit in answer.text


def test_a_zip_bomb_is_refused_before_it_goes_off(narrow: TestClient) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb", b"\0" * 40_000_000)
    answer = post(narrow, "toy-image", out.getvalue(), "application/zip")
    assert (answer.status_code, answer.json()["limit"]) == (413, "batch_bytes")
    assert answer.json()["found"] == 40_000_000


def test_one_image_over_the_limit_is_its_own_error(narrow: TestClient) -> None:
    body = post(narrow, "toy-image", archive({"a": jpeg() + b"\0" * 400_000, "b": jpeg()}), "application/zip")
    assert body.json()["limit"] == "batch_bytes"
    large = jpeg() + b"\0" * 30_000
    wide = narrow.post("/v1/detectors/toy-image/verdicts:batch", files=[("f", ("a", large)), ("f", ("b", jpeg()))])
    # A detector that takes clips takes files of a clip's size; what is too large for a picture is said when it is read.
    assert [next(iter(one.keys() - {"index", "name"})) for one in wide.json()["answers"]] == ["error", "verdict"]
    assert wide.json()["answers"][0]["error"]["limit"] == "image_bytes"


def test_a_line_without_end_is_refused_at_the_limit_and_not_read_on(services: Services) -> None:
    secret = services.keys.issue("default", "endless", role="owner").secret
    sent: list[Message] = []
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1_000_000
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/detectors/toy-record/verdicts:batch",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", NDJSON.encode()), (b"authorization", f"Bearer {secret}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    asyncio.run(create_app(services)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["limit"] == "batch_bytes"
    assert received <= services.settings.batch_bytes + 1_000_000


def test_media_never_touch_the_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an upload was written to a temporary file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    large = jpeg() + b"\0" * 150_000
    upload = [("file", (str(number), large)) for number in range(20)]
    assert client.post("/v1/detectors/toy-image/verdicts:batch", files=upload).json()["errors"] == 0
    packed = archive({str(number): large for number in range(20)})
    assert post(client, "toy-image", packed, "application/zip").json()["errors"] == 0


def test_when_the_ledger_fails_nothing_is_answered(client: TestClient, services: Services) -> None:
    post(client, "toy-record", lines(RECORDS), NDJSON)
    services.database.close()
    answer = post(client, "toy-record", lines(RECORDS), NDJSON)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")


def test_the_route_stands_in_the_description(stranger: TestClient) -> None:
    document = stranger.get("/openapi.json").json()
    ask = document["paths"]["/v1/detectors/{name}/verdicts:batch"]["post"]
    assert set(ask["requestBody"]["content"]) == {*RECORD_TYPES, *MEDIA_TYPES}
    assert ask["security"] == [{"key": []}, {"session": []}]
    assert {"200", "default"} <= ask["responses"].keys()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300)
    | st.lists(st.sampled_from([b"{}", b"[", b"1,", b'"', b"\n", b"PK\x01\x02"])).map(b"".join),
    content_type=st.sampled_from([*RECORD_TYPES, *MEDIA_TYPES, "multipart/form-data; boundary=x"]),
    detector=st.sampled_from(["toy-record", "toy-image"]),
)
def test_no_body_is_a_defect_of_ours(client: TestClient, content: bytes, content_type: str, detector: str) -> None:
    answer = post(client, detector, content, content_type)
    assert answer.status_code in {200, 400, 413, 415, 422}, answer.text
