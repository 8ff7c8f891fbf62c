"""Every route, asked by every role, of its own workspace and of another's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from discern.access.types import ROLES, Principal, Role
from discern.app import Services
from discern.app_http import create_app
from discern.core.clock import utc_now
from discern.core.errors import InternalError
from discern.core.ids import uuid7
from discern.http.authentication import is_open
from discern.http.permissions import NEEDS, Permissions
from tests.access.test_policies import MAY
from tests.alerts.parts import fires

pytestmark = pytest.mark.system
RECORD = {"a": 1, "b": 0.5, "c": -1}
DETECTORS = "/v1/detectors/toy-record"


class Ask(NamedTuple):
    """How a route is asked for something that is there, and what answers when it may be."""

    status: int
    path: str = ""
    json: Any = None
    content: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


# A route that is added has no row here, and the test fails.
ASKS: dict[str, Ask] = {
    "GET /v1/whoami": Ask(200),
    "POST /v1/tokens": Ask(201),
    # A key has no session and no password; users are tried in test_users.
    "GET /v1/session": Ask(400),
    "DELETE /v1/session": Ask(400),
    "GET /v1/sessions": Ask(400),
    "DELETE /v1/sessions/{session_id}": Ask(400),
    "POST /v1/password": Ask(400, json={"old": "x", "new": "y"}),
    "POST /v1/session/challenge": Ask(400, json={"kind": "passkey"}),
    "POST /v1/session/proof": Ask(400, json={"password": "x"}),
    "GET /v1/factors": Ask(400),
    "POST /v1/factors": Ask(400, json={"kind": "totp", "name": "n"}),
    "POST /v1/factors/{factor_id}/confirm": Ask(400, json={"code": "000000"}),
    "PATCH /v1/factors/{factor_id}": Ask(400, json={"name": "n"}),
    "DELETE /v1/factors/{factor_id}": Ask(400),
    "POST /v1/recovery-codes": Ask(400),
    "DELETE /v1/users/{user_id}/factors": Ask(204),
    "GET /v1/users": Ask(200),
    "POST /v1/users": Ask(400, json={"name": "n", "role": "reviewer", "password": "short"}),
    "PATCH /v1/users/{user_id}": Ask(200, json={"role": "reviewer"}),
    "POST /v1/detectors/{name}/verdicts": Ask(200, json=RECORD),
    "POST /v1/detectors/{name}/verdicts:batch": Ask(200, json=[RECORD]),
    "POST /v1/detectors/{name}/jobs": Ask(202, json=RECORD),
    "GET /v1/detectors": Ask(200),
    "GET /v1/detectors/{name}": Ask(200),
    "GET /v1/detectors/{name}/{version}": Ask(200),
    "GET /v1/verdicts": Ask(200),
    "GET /v1/verdicts/{verdict_id}": Ask(200),
    "POST /v1/verdicts/{verdict_id}/label": Ask(201, json={"label": None}),
    "GET /v1/verdicts/{verdict_id}/labels": Ask(200),
    "POST /v1/labels": Ask(200, content=b""),
    "GET /v1/labels/wanted": Ask(400),
    "GET /v1/quality": Ask(200),
    "GET /v1/jobs": Ask(200),
    "GET /v1/jobs/{job_id}": Ask(200),
    "GET /v1/jobs/{job_id}/events": Ask(200),
    "GET /v1/jobs/{job_id}/result": Ask(409),
    "POST /v1/jobs/{job_id}/cancel": Ask(200),
    "GET /v1/drift": Ask(200),
    "GET /v1/health": Ask(200),
    "GET /metrics": Ask(200),
    "GET /v1/statistics": Ask(200),
    "GET /v1/keys": Ask(200),
    "POST /v1/keys": Ask(201, json={"name": "n", "role": "device"}),
    "POST /v1/keys/{key_id}/rotate": Ask(201),
    "DELETE /v1/keys/{key_id}": Ask(204),
    "GET /v1/audit": Ask(200),
    "GET /v1/privacy": Ask(200),
    "PUT /v1/privacy": Ask(200, json={"consent_required": False}),
    "POST /v1/privacy/consents": Ask(201, json={"subject": "s", "given": True}),
    "POST /v1/privacy/export": Ask(404, json={"subject": "nobody"}),
    "POST /v1/privacy/erase": Ask(404, json={"subject": "nobody"}),
    "GET /v1/usage": Ask(200),
    "GET /v1/alerts": Ask(200),
    "GET /v1/alerts/{alert_id}": Ask(200),
    "POST /v1/alerts/{alert_id}/acknowledge": Ask(200, json={}),
    "POST /v1/alerts/test": Ask(200, json={"channel": "log"}),
    "GET /v1/silences": Ask(200),
    "POST /v1/silences": Ask(201, json={"matchers": ['a="b"'], "comment": "c", "seconds": 60}),
    "GET /v1/silences/{silence_id}": Ask(200),
    "PATCH /v1/silences/{silence_id}": Ask(200, json={}),
    "DELETE /v1/silences/{silence_id}": Ask(200),
    "GET /v1/analytics": Ask(200),
    "GET /v1/reports": Ask(200),
    "GET /v1/budget": Ask(200),
    "PUT /v1/budget": Ask(200, json={"amount": 5}),
    "GET /v1/retention": Ask(200),
    "PATCH /v1/retention": Ask(200, json={"kind": "runs", "days": 30}),
    "GET /v1/compliance/report": Ask(200),
    "GET /v2": Ask(200),
    "POST /v2/repository/index": Ask(200),
    "GET /v2/models/{name}": Ask(200),
    "GET /v2/models/{name}/ready": Ask(200),
    "GET /v2/models/{name}/versions/{version}": Ask(200),
    "GET /v2/models/{name}/versions/{version}/ready": Ask(200),
    "POST /v2/models/{name}/infer": Ask(400, json={}),
    "POST /v2/models/{name}/versions/{version}/infer": Ask(400, json={}),
}


class Two:
    """A server with two workspaces: what there is in each, and a key of every role in the first."""

    def __init__(self, services: Services) -> None:
        self.services = services
        services.workspaces.create("other")
        self.client = TestClient(create_app(services), raise_server_exceptions=False)
        self.keys = {role: services.keys.issue("default", role, role=role).secret for role in ROLES}
        self.users: dict[str, str] = {}
        self.silences: dict[str, str] = {}
        self.owners = {"default": self.keys["owner"], "other": services.keys.issue("other", "o", role="owner").secret}

    def thing(self, workspace: str) -> dict[str, str]:
        """A verdict, a job that was cancelled and a device's key, made for one question."""
        owner = self.headers(self.owners[workspace])
        verdict = self.client.post(f"{DETECTORS}/verdicts", json=RECORD, headers=owner).json()["id"]
        job = self.client.post(f"{DETECTORS}/jobs", json=RECORD, headers=owner).json()["id"]
        self.client.post(f"/v1/jobs/{job}/cancel", headers=owner)
        key = self.services.keys.issue(workspace, "device", role="device").key.id
        if workspace not in self.users:
            password = "several words of a person"
            user = self.services.users.create(workspace, f"p.{workspace}", password, role="analyst")
            self.users[workspace] = str(user.id)
        asked = {"matchers": ['a="b"'], "comment": "c", "seconds": 60}
        # A workspace has a bounded number of them.
        self.client.delete(f"/v1/silences/{self.silences.get(workspace, uuid7())}", headers=owner)
        silence = self.silences[workspace] = self.client.post("/v1/silences", json=asked, headers=owner).json()["id"]
        alert = fires(self.services, "toy-record", workspace).id
        ids = {"user_id": self.users[workspace], "session_id": str(uuid7()), "factor_id": str(uuid7())}
        return ids | {
            "name": "toy-record",
            "version": "1.0.0",
            "verdict_id": verdict,
            "job_id": job,
            "key_id": str(key),
            "alert_id": str(alert),
            "silence_id": silence,
        }

    @staticmethod
    def headers(secret: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secret}"}

    def ask(self, route: str, secret: str, thing: dict[str, str]) -> Any:
        method, path = route.split(" ", 1)
        given = ASKS[route]
        return self.client.request(method, path.format(**thing), json=given.json, headers=self.headers(secret))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, furnished_home: Any) -> Iterator[Two]:
    import shutil

    from discern.app import build_services
    from discern.settings import load_settings

    home = shutil.copytree(furnished_home, tmp_path_factory.mktemp("two") / "home")
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    yield Two(services)
    services.close()


def test_every_route_stands_in_the_table_and_in_this_matrix(two: Two) -> None:
    paths = two.client.get("/openapi.json").json()["paths"]
    there = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
    assert {route for route in there if not is_open(route.split(" ")[1])} == set(NEEDS) == set(ASKS)


def test_what_is_no_route_of_the_table_is_not_let_through(two: Two) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("it was let through")

    gate = TestClient(_Known(Permissions(never, two.services.access, two.services.rate_limits, {"GET /v1/jobs": []})))
    assert gate.get("/v1/elsewhere").status_code == 404
    assert (gate.delete("/v1/jobs").status_code, gate.delete("/v1/jobs").headers["allow"]) == (405, "GET")


class _Known:
    """Stands for authentication: everybody is an owner."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"principal": Principal("key:1", "default", "owner")}
        await self._app(scope, receive, send)


def test_a_route_that_the_table_forgets_stops_the_start(two: Two) -> None:
    with pytest.raises(InternalError, match="GET /v1/new"):
        Permissions(two.client.app, two.services.access, two.services.rate_limits, {"GET /v1/new": []})


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("route", ASKS)
def test_a_role_may_what_its_actions_say_and_reaches_nothing_of_another_workspace(
    two: Two, route: str, role: Role
) -> None:
    needed = NEEDS[route]
    own = two.ask(route, two.keys[role], two.thing("default"))
    if needed is None or needed in MAY[role]:
        assert own.status_code == ASKS[route].status, own.text
    else:
        code = "forbidden" in own.text
        assert (own.status_code, code) == (403, True), own.text
    if "_id}" in route and needed is not None:
        other = two.ask(route, two.keys[role], two.thing("other"))
        expected = 404 if needed is None or needed in MAY[role] else 403
        assert other.status_code == expected, other.text


@pytest.mark.parametrize("role", ROLES)
def test_a_stream_needs_the_right_to_ask(two: Two, role: Role) -> None:
    connected = two.client.websocket_connect(f"{DETECTORS}/stream", headers=two.headers(two.keys[role]))
    if "detect" in MAY[role]:
        with connected as stream:
            stream.send_json(RECORD)
            assert stream.receive_json()["type"] == "verdict"
    else:
        with pytest.raises(WebSocketDenialResponse) as refused, connected:
            pass
        assert refused.value.status_code == 403


def test_two_workspaces_see_nothing_of_each_other(two: Two) -> None:
    ids = {workspace: two.thing(workspace) for workspace in two.owners}
    for workspace, other in (("default", "other"), ("other", "default")):
        headers = two.headers(two.owners[workspace])
        seen = "".join(
            two.client.get(path, headers=headers).text
            for path in ("/v1/verdicts?limit=500", "/v1/jobs?limit=500", "/v1/keys", "/v1/audit?limit=500")
        )
        for name in ("verdict_id", "job_id", "key_id"):
            assert ids[workspace][name] in seen
            assert ids[other][name] not in seen


def test_whoever_was_granted_one_detector_sees_that_one_alone(two: Two) -> None:
    owner = two.headers(two.owners["default"])
    faces = two.services.keys.issue("default", "faces", role="owner", detectors=("toy-image",))
    headers = two.headers(faces.secret)
    thing = two.thing("default")
    assert two.client.post(f"{DETECTORS}/verdicts", json=RECORD, headers=headers).status_code == 403
    assert two.client.get(DETECTORS, headers=headers).status_code == 403
    assert two.client.get(f"/v1/verdicts/{thing['verdict_id']}", headers=headers).status_code == 404
    assert two.client.get(f"/v1/jobs/{thing['job_id']}", headers=headers).status_code == 404
    assert two.client.get("/v1/verdicts", headers=headers).json()["verdicts"] == []
    assert two.client.get("/v1/verdicts?detector=toy-record", headers=headers).json()["verdicts"] == []
    assert two.client.get("/v1/jobs", headers=headers).json()["jobs"] == []
    names = {one["name"] for one in two.client.get("/v1/detectors", headers=headers).json()["detectors"]}
    assert names == {"toy-image"}
    assert {one["name"] for one in two.client.post("/v2/repository/index", headers=headers).json()} == {"toy-image"}
    # Nor do they make a key that may more than they.
    wide = two.client.post("/v1/keys", json={"name": "wide", "role": "device"}, headers=headers)
    assert (wide.status_code, wide.json()["code"]) == (403, "forbidden")
    narrow = {"name": "narrow", "role": "device", "detectors": ["toy-image"]}
    assert two.client.post("/v1/keys", json=narrow, headers=headers).status_code == 201
    assert two.client.get("/v1/verdicts", headers=owner).json()["verdicts"] != []


def test_a_key_is_rotated_with_an_overlap_and_ends_when_it_says(two: Two) -> None:
    owner = two.headers(two.owners["default"])
    made = two.client.post("/v1/keys", json={"name": "n", "expires_in_seconds": 3600}, headers=owner).json()
    assert made["key"]["role"] == "service"
    assert made["key"]["expires_at"] is not None
    rotated = two.client.post(f"/v1/keys/{made['key']['id']}/rotate?overlap_seconds=0", headers=owner).json()
    assert two.client.get("/v1/whoami", headers=two.headers(made["secret"])).status_code == 401
    me = two.client.get("/v1/whoami", headers=two.headers(rotated["secret"])).json()
    assert (me["workspace"], me["role"], me["detectors"]) == ("default", "service", None)
    again = two.client.post(f"/v1/keys/{made['key']['id']}/rotate", headers=owner)
    assert (again.status_code, again.json()["code"]) == (404, "unknown_key")
    lasting = two.services.keys.issue("default", "n", role="device", expires_at=utc_now() + timedelta(hours=1)).key
    replaced = two.client.post(f"/v1/keys/{lasting.id}/rotate", headers=owner).json()["key"]
    ends, begins = (datetime.fromisoformat(replaced[name]) for name in ("expires_at", "created_at"))
    assert abs(ends - begins - timedelta(hours=1)) < timedelta(seconds=1)
    assert two.client.get(f"/v1/audit?before={2**63}", headers=owner).status_code == 422
    for body in (b"", b"[]", b'{"name": "x", "role": "god"}', b'{"name": "x", "colour": 1}', b"x" * 100_000):
        answer = two.client.post("/v1/keys", content=body, headers=owner)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_an_unknown_query_parameter_is_refused(two: Two) -> None:
    headers = two.headers(two.keys["owner"])
    for path in ("/v1/jobs?state=failed", "/v1/verdicts?limt=1", "/v1/whoami?x"):
        answer = two.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request"), path
    answer = two.client.post(f"{DETECTORS}/verdicts?versoin=1.0.0", json=RECORD, headers=headers)
    assert (answer.status_code, "version" in answer.json()["mend"]) == (400, True)
    answer = two.client.get("/v1/verdicts?limit=1&limit=500", headers=headers)
    assert (answer.status_code, "more than once" in answer.json()["detail"]) == (400, True)


def test_denials_and_privileged_acts_are_on_record_with_where_they_came_from(two: Two) -> None:
    made = two.services.keys.issue("default", "rotated", role="device").key.id
    two.client.post(f"/v1/keys/{made}/rotate", headers=two.headers(two.keys["operator"]))
    two.client.get("/v1/audit", headers=two.headers(two.keys["device"]))
    entries = two.client.get("/v1/audit?limit=500", headers=two.headers(two.keys["auditor"])).json()["entries"]
    latest = entries[0]["act"]
    assert (latest["act"], latest["outcome"], latest["target"]) == ("audit.read", "denied", "workspace:default")
    assert any(entry["act"]["act"] == "keys.rotate" and entry["act"]["before"] for entry in entries)
    assert all(entry["act"]["workspace"] == "default" for entry in entries)
    secrets = [*two.keys.values(), *two.owners.values()]
    assert not any(secret in str(entries) for secret in secrets)
    assert two.services.audit.verify("default").faults == ()
