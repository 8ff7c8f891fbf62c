"""The Open Inference Protocol in one process; `test_tritonclient.py` has a real client and a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from discern.app import Services

pytestmark = pytest.mark.system

INFER = "/v2/models/toy-record/infer"


def columns(**values: list[float]) -> dict[str, Any]:
    given = {"a": [1.0], "b": [2.0], "c": [3.0]} | values
    inputs = [{"name": name, "datatype": "FP64", "shape": [len(data)], "data": data} for name, data in given.items()]
    return {"inputs": inputs}


def test_health_is_answered_without_a_key(stranger: TestClient, services: Services) -> None:
    assert stranger.get("/v2/health/live").json() == {"live": True}
    assert stranger.get("/v2/health/ready").json() == {"ready": True}
    services.database.close()
    ready = stranger.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    assert stranger.get("/v2/health/live").status_code == 200


def test_every_row_is_on_the_ledger(client: TestClient) -> None:
    answer = client.post(INFER, json=columns(a=[1.0, 2.0], b=[0.0, 1.0], c=[0.5, 0.5]) | {"id": "7"})
    assert answer.status_code == 200, answer.text
    assert "inference-header-content-length" not in answer.headers
    told = answer.json()
    outputs = {output["name"]: output["data"] for output in told["outputs"]}
    assert (told["model_name"], told["model_version"], told["id"]) == ("toy-record", "1.0.0", "7")
    for row, verdict_id in enumerate(outputs["verdict_id"]):
        kept = client.get(f"/v1/verdicts/{verdict_id}").json()
        assert (kept["score"], kept["decision"]) == (outputs["score"][row], outputs["decision"][row])


def test_a_missing_value_is_a_fault_of_its_row(client: TestClient) -> None:
    answer = client.post(INFER, json=columns(a=[1.0, None], b=[0.0, 1.0], c=[0.5, 0.5]))  # type: ignore[list-item]
    assert answer.status_code == 400
    assert "1 of 2 rows cannot be judged: row 1:" in answer.json()["error"]
    assert "The other 1 rows were judged" in answer.json()["error"]
    assert len(client.get("/v1/verdicts").json()["verdicts"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/models/nobody", 404, "unknown_detector"),
        ("GET", "/v2/models/toy-record/versions/9.9.9", 404, "unknown_detector"),
        ("GET", "/v2/models/nobody/ready", 404, "unknown_detector"),
        ("POST", "/v2/models/nobody/infer", 404, "unknown_detector"),
        ("POST", "/v2/models/toy-record/versions/9.9.9/infer", 404, "unknown_detector"),
        ("POST", INFER, 400, "malformed_request"),
        ("GET", INFER, 405, "method_not_allowed"),
        ("GET", "/v2/nothing", 404, "not_found"),
        ("POST", "/v2/repository/models/toy-record/load", 404, "not_found"),
    ],
)
def test_errors_have_the_shape_of_the_protocol(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json().keys() == {"error", "code"}
    assert answer.json()["code"] == code
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_wrong_key_is_said_in_the_protocols_words(stranger: TestClient) -> None:
    answer = stranger.post(INFER, json=columns())
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthenticated"


def test_a_defect_of_ours_tells_nothing_in_the_protocols_words(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(services.catalogue, "all", explode)
    answer = client.post("/v2/repository/index")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_a_ledger_that_is_down_keeps_its_reason_to_itself(client: TestClient, services: Services) -> None:
    client.post(INFER, json=columns())
    services.database.close()
    answer = client.post(INFER, json=columns())
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert "discern.db" not in answer.text


def test_limits_are_named(client: TestClient, services: Services) -> None:
    rows = services.settings.batch_records + 1
    body = {"inputs": [{"name": "a", "datatype": "FP64", "shape": [rows], "data": [1.0]}]}
    answer = client.post(INFER, json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "input_too_large")
    assert "batch_records" in answer.json()["error"]
    answer = client.post(INFER, content=b"", headers={"Content-Length": "100000001"})
    assert (answer.status_code, "batch_bytes" in answer.json()["error"]) == (413, True)


def test_the_routes_stand_in_the_description(stranger: TestClient) -> None:
    document = stranger.get("/openapi.json").json()
    for path, method in (
        ("/v2", "get"),
        ("/v2/models/{name}", "get"),
        ("/v2/models/{name}/infer", "post"),
        ("/v2/models/{name}/versions/{version}/infer", "post"),
    ):
        operation = document["paths"][path][method]
        assert operation["security"] == [{"key": []}, {"session": []}]
        schema = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/InferenceError"}
    assert "security" not in document["paths"]["/v2/health/live"]["get"]
    assert "InferenceError" in document["components"]["schemas"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=5).map(
        lambda value: json.dumps({"inputs": value}).encode()
    ),
    length=st.none() | st.integers(-2, 300),
    encoding=st.sampled_from(["identity", "gzip", "deflate", "br"]),
    model=st.sampled_from(["toy-record", "toy-image"]),
)
def test_no_request_is_a_defect_of_ours(
    client: TestClient, content: bytes, length: int | None, encoding: str, model: str
) -> None:
    headers = {"Content-Encoding": encoding}
    if length is not None:
        headers["Inference-Header-Content-Length"] = str(length)
    answer = client.post(f"/v2/models/{model}/infer", content=content, headers=headers)
    assert answer.status_code in {400, 413, 415}, answer.text
    assert answer.json()["error"]
