from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from discern.app import Services
from discern.app_http import create_app
from discern.http.authentication import OPEN_PATHS

pytestmark = pytest.mark.system


def test_every_route_but_health_and_the_description_asks_for_a_key(stranger: TestClient) -> None:
    document = stranger.get("/openapi.json").json()
    closed = 0
    for path, operations in document["paths"].items():
        for method in operations:
            ids = ("verdict_id", "job_id", "key_id", "user_id", "session_id", "factor_id", "alert_id", "silence_id")
            given = dict.fromkeys(ids, "01a1fb4b-0233-7998-8f07-5b5ac3979bc9")
            given |= {"provider": "nobody"}
            answer = stranger.request(method, path.format(name="toy-image", version="1.0.0", **given))
            if path.startswith("/v1/login") or (path, method) == ("/v1/sign-in/{provider}", "post"):
                assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_input")
            elif path in OPEN_PATHS:
                assert answer.status_code == 200, path
            elif path.startswith("/v1/sign-in/"):
                assert (answer.status_code, answer.json()["code"]) == (404, "unknown_provider"), path
            else:
                closed += 1
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
                assert answer.headers["www-authenticate"].startswith("Bearer")
    assert closed >= 6


def test_a_path_that_does_not_exist_asks_for_a_key_too(stranger: TestClient) -> None:
    assert stranger.get("/v1/secrets").status_code == 401
    assert stranger.get("/docs/files/../../v1/verdicts").status_code in {401, 404}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer dsc_wrong",
        "Basic ZHNjOjE=",
        "dsc_" + "a" * 43,
        "Bearer dsc_" + "a" * 43,
        "Bearer " + "a" * 5000,
    ],
)
def test_a_wrong_key_is_refused_in_every_form(stranger: TestClient, header: str) -> None:
    answer = stranger.get("/v1/verdicts", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "mend" in answer.json()


def test_a_revoked_key_is_refused_at_the_next_request(services: Services, stranger: TestClient) -> None:
    issued = services.keys.issue("default", "short-lived", role="owner")
    headers = {"Authorization": f"bearer {issued.secret}"}
    assert stranger.get("/v1/verdicts", headers=headers).status_code == 200
    services.keys.revoke("default", issued.key.id)
    assert stranger.get("/v1/verdicts", headers=headers).status_code == 401


def test_the_key_is_checked_before_the_body_is_read(services: Services) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/detectors/toy-image/verdicts",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-length", b"100")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    asyncio.run(create_app(services)(scope, receive, send))
    assert sent[0]["status"] == 401


def test_a_key_in_the_query_is_no_key(services: Services, stranger: TestClient) -> None:
    secret = services.keys.issue("default", "misplaced", role="owner").secret
    assert stranger.get("/v1/verdicts", params={"key": secret, "authorization": f"Bearer {secret}"}).status_code == 401
