"""Requests a time: of keys, workspaces, addresses and routes, in one process and exactly over several."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from discern.access.service_limits import RateLimits, rules_of
from discern.access.types import Principal
from discern.app import build_services
from discern.app_http import create_app
from discern.core.counts import Counts
from discern.core.errors import InvalidSettings, RateLimited
from discern.settings import load_settings
from tests.http.test_streams import Served

pytestmark = pytest.mark.system
RECORD = {"a": 1, "b": 0.5, "c": -1}
DETECTOR = "/v1/detectors/toy-record/verdicts"


class Limited:
    """An installation in one process with limits, and keys of two workspaces."""

    def __init__(self, home: Path, limits: str) -> None:
        self.services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_RATE_LIMITS": limits}))
        self.services.open()
        self.services.workspaces.create("other")
        self.client = TestClient(create_app(self.services), raise_server_exceptions=False)

    def key(self, workspace: str = "default") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.services.keys.issue(workspace, 'k', role='owner').secret}"}


@pytest.fixture
def limited(home: Path) -> Iterator[Limited]:
    limited = Limited(home, "key 5/hour, workspace 8/hour, key 2/hour GET /v1/jobs")
    yield limited
    limited.services.close()


def test_each_key_and_each_workspace_has_its_own_and_is_told_how_it_stands(limited: Limited) -> None:
    one, two, other = limited.key(), limited.key(), limited.key("other")
    answers = [limited.client.get("/v1/whoami", headers=one) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert [int(answer.headers["ratelimit-remaining"]) for answer in answers[:5]] == [4, 3, 2, 1, 0]
    assert answers[0].headers["ratelimit-limit"] == "5"
    assert 3500 < int(answers[0].headers["ratelimit-reset"]) <= 3600
    refused = answers[5]
    assert (refused.json()["code"], refused.json()["rule"]) == ("rate_limited", "key 5/hour")
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    # The workspace has three left, whichever key they come by.
    answers = [limited.client.get("/v1/whoami", headers=two) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["rule"] == "workspace 8/hour"
    assert limited.client.get("/v1/whoami", headers=other).status_code == 200
    assert limited.client.get("/livez").status_code == 200


def test_a_route_may_have_its_own(limited: Limited) -> None:
    key = limited.key()
    assert [limited.client.get("/v1/jobs", headers=key).status_code for _ in range(3)] == [200, 200, 429]
    assert limited.client.get("/v1/whoami", headers=key).status_code == 200


def test_what_is_refused_is_counted_too(home: Path) -> None:
    limited = Limited(home, "key 5/hour")
    device = {"Authorization": f"Bearer {limited.services.keys.issue('default', 'd', role='device').secret}"}
    paths = ["/v1/audit", "/v1/nowhere", "/v1/jobs?x=1", "/v1/whoami?x=1", "/v1/audit", "/v1/audit", "/v1/whoami"]
    answers = [limited.client.get(path, headers=device).status_code for path in paths]
    assert answers == [403, 404, 403, 400, 403, 429, 429]
    long = limited.client.get("/v1/detectors/" + "z" * 15_000, headers=limited.key())
    assert long.status_code == 404
    entries = limited.services.audit_store.page("default", 50, None).entries
    assert sum(entry.act.outcome == "denied" for entry in entries) == 3
    limited.services.close()


def test_an_address_is_counted_before_its_key_is_looked_at(home: Path) -> None:
    limited = Limited(home, "address 3/hour")
    wrong = {"Authorization": "Bearer dsc_" + "a" * 43}
    answers = [limited.client.get("/v1/whoami", headers=wrong).status_code for _ in range(5)]
    assert answers == [401, 401, 401, 429, 429]
    limited.services.close()


@pytest.mark.parametrize(
    "wrong", ["key", "key 5", "key five/second", "planet 5/second", "address 5/second POST /v1/keys", "5/second"]
)
def test_a_limit_that_is_none_is_said(wrong: str) -> None:
    with pytest.raises(InvalidSettings, match="rate_limits"):
        rules_of(wrong)


def test_a_limit_of_a_route_that_there_is_not_stops_the_start(home: Path) -> None:
    settings = {"DISCERN_HOME": str(home), "DISCERN_RATE_LIMITS": "key 5/second POST /v1/kyes"}
    services = build_services(load_settings(settings))
    with pytest.raises(InvalidSettings, match="/v1/kyes"):
        create_app(services)


def test_records_that_are_answered_directly_are_counted_like_the_others(tmp_path: Path, furnished_home: Path) -> None:
    home = Path(shutil.copytree(furnished_home, tmp_path / "home"))
    with Served(home, DISCERN_RATE_LIMITS="key 20/hour") as served, served.client() as client:
        answers = [client.post(DETECTOR, json=RECORD | {"a": number / 100}) for number in range(25)]
    good = [answer for answer in answers if answer.status_code == 200]
    assert any("x-request-id" not in answer.headers for answer in good)  # some were answered directly
    assert [int(answer.headers["ratelimit-remaining"]) for answer in good] == list(range(19, 19 - len(good), -1))
    assert {answer.status_code for answer in answers[len(good) :]} == {429}
    assert all(answer.json()["code"] == "rate_limited" for answer in answers[len(good) :])


_HITS = """
import asyncio, sys
from discern.access import service_limits
from discern.access.service_limits import RateLimits
from discern.access.types import Principal
from discern.core.counts import Counts
from discern.core.errors import RateLimited

# On a busy machine an answer of Redis may take longer than a request would wait for it.
service_limits._WAIT_SECONDS = 60

async def main():
    limits = RateLimits("key 100/hour", sys.argv[1], Counts())
    principal, passed = Principal("key:1", "default"), 0
    for _ in range(90):
        try:
            await limits.hit("GET /v1/whoami", "", principal)
            passed += 1
        except RateLimited:
            pass
    print(passed)

asyncio.run(main())
"""


def test_with_redis_a_limit_holds_exactly_over_processes(redis_server: tuple[object, str]) -> None:
    _, url = redis_server
    processes = [
        subprocess.Popen([sys.executable, "-c", _HITS, url], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert sum(int(process.communicate()[0]) for process in processes) == 100


def test_while_redis_is_silent_each_process_counts_for_itself() -> None:
    counts = Counts()

    async def run() -> list[bool]:
        limits = RateLimits("key 3/hour", "redis://127.0.0.1:1/0", counts)
        passed = []
        for _ in range(5):
            try:
                await limits.hit("GET /v1/whoami", "", Principal("key:1", "default"))
                passed.append(True)
            except RateLimited:
                passed.append(False)
        return passed

    assert asyncio.run(run()) == [True, True, True, False, False]
    assert counts.snapshot()["limits.redis_faults"] == 1
