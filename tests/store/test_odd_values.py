"""Values that a database does not take: an error of whoever sent them, on either database."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from discern.app import Services
from discern.app_http import create_app

pytestmark = pytest.mark.system
ASKED: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/verdicts?detector=%00", None),
    ("GET", "/v1/analytics?detector=%00", None),
    ("GET", "/v1/reports?detector=%00", None),
    ("GET", "/v1/drift?detector=%00", None),
    ("GET", "/v1/quality?detector=%00", None),
    ("GET", "/v1/audit?action=%00", None),
    ("POST", "/v1/keys", {"name": "a\0b", "role": "device"}),
    ("POST", "/v1/users", {"name": "a\0b", "password": "several words of a person", "role": "analyst"}),
    ("POST", "/v1/silences", {"matchers": ['a="b\0"'], "comment": "c", "seconds": 60}),
    ("POST", "/v1/labels", {"labels": [{"verdict_id": "a\0b", "label": "odd"}]}),
)


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_a_nul_is_the_error_of_whoever_sent_it(two_workspaces: Services, method: str, path: str, body: Any) -> None:
    client = TestClient(create_app(two_workspaces), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {two_workspaces.keys.issue('default', 'test', role='owner').secret}"
    answer = client.request(method, path, json=body)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["code"] not in {"storage_unavailable", "internal"}
