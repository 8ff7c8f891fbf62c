"""No workspace takes the place of all: each has a bound of its own on jobs and streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from discern.app import Services, build_services
from discern.app_http import create_app
from discern.settings import Settings

RECORD = {"a": 1, "b": 0.5, "c": -1}
JOBS = "/v1/detectors/toy-record/jobs"
STREAM = "/v1/detectors/toy-record/stream"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings,
        max_waiting_jobs=3,
        max_waiting_jobs_per_workspace=2,
        max_streams=3,
        max_streams_per_workspace=2,
    )


@pytest.fixture
def app(services: Services) -> TestClient:
    services.workspaces.create("acme")
    return TestClient(create_app(services), raise_server_exceptions=False)


@pytest.fixture
def keys(services: Services, app: TestClient) -> dict[str, dict[str, str]]:
    assert app
    secrets = {name: services.keys.issue(name, "k").secret for name in ("default", "acme")}
    return {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}


def test_a_workspace_leaves_room_for_the_jobs_of_others(app: TestClient, keys: Any) -> None:
    assert [app.post(JOBS, json=RECORD, headers=keys["acme"]).status_code for _ in range(2)] == [202, 202]
    refused = app.post(JOBS, json=RECORD, headers=keys["acme"])
    assert (refused.status_code, refused.json()["limit"]) == (503, "max_waiting_jobs_per_workspace")
    assert app.post(JOBS, json=RECORD, headers=keys["default"]).status_code == 202
    refused = app.post(JOBS, json=RECORD, headers=keys["default"])
    assert (refused.status_code, refused.json()["limit"]) == (503, "max_waiting_jobs")


def test_a_job_that_is_still_being_sent_takes_its_place(app: TestClient, keys: Any) -> None:
    async def run() -> list[int]:
        begun, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def slow_body() -> AsyncIterator[bytes]:
            begun.release()
            await go_on.wait()
            yield json.dumps(RECORD).encode()

        transport = httpx2.ASGITransport(app.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=keys["acme"]) as client:
            slow = [asyncio.create_task(client.post(JOBS, content=slow_body())) for _ in range(2)]
            for _ in slow:
                await begun.acquire()
            third = await client.post(JOBS, json=RECORD)
            go_on.set()
            return [third.status_code, *(answer.status_code for answer in await asyncio.gather(*slow))]

    assert asyncio.run(asyncio.wait_for(run(), 30)) == [503, 202, 202]


def test_a_workspace_leaves_room_for_the_streams_of_others(app: TestClient, keys: Any) -> None:
    with app.websocket_connect(STREAM, headers=keys["acme"]):
        with app.websocket_connect(STREAM, headers=keys["acme"]):
            assert limit_of_another(app, keys["acme"]) == "max_streams_per_workspace"
            with app.websocket_connect(STREAM, headers=keys["default"]):
                assert limit_of_another(app, keys["default"]) == "max_streams"
        with app.websocket_connect(STREAM, headers=keys["acme"]):
            pass


def limit_of_another(app: TestClient, headers: dict[str, str]) -> str:
    with pytest.raises(WebSocketDenialResponse) as refusal, app.websocket_connect(STREAM, headers=headers):
        pass
    assert refusal.value.status_code == 503
    return str(refusal.value.json()["limit"])


def test_no_bound_of_its_own_is_set_by_0(settings: Settings, home: Path) -> None:
    services = build_services(replace(settings, home=home, max_waiting_jobs_per_workspace=0))
    services.open()
    with TestClient(create_app(services), raise_server_exceptions=False) as app:
        headers = {"Authorization": f"Bearer {services.keys.issue('default', 'k').secret}"}
        assert [app.post(JOBS, json=RECORD, headers=headers).status_code for _ in range(4)] == [202, 202, 202, 503]
    services.close()
