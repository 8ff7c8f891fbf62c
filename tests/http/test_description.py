from __future__ import annotations

import json
import re

import pytest
from starlette.testclient import TestClient

from discern.app import Services
from discern.core.errors import DiscernError
from discern.http.problems import PROBLEMS, problem_of

pytestmark = pytest.mark.system


def test_the_page_and_its_files_come_from_this_server_alone(stranger: TestClient) -> None:
    page = stranger.get("/")
    assert page.url.path == "/docs"
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert link.startswith("/docs/")
        assert stranger.get(link).status_code == 200


def test_the_document_describes_verdicts_errors_and_the_key(stranger: TestClient) -> None:
    document = stranger.get("/openapi.json").json()
    assert {"Verdict", "VerdictPage", "Problem", "StageReading"} <= document["components"]["schemas"].keys()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    ask = document["paths"]["/v1/detectors/{name}/verdicts"]["post"]
    assert {"application/octet-stream", "multipart/form-data", "application/json"} <= set(ask["requestBody"]["content"])
    assert ask["security"] == [{"key": []}, {"session": []}]


def test_every_schema_that_is_spoken_of_is_there(stranger: TestClient) -> None:
    text = stranger.get("/openapi.json").text
    spoken_of = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert spoken_of <= set(json.loads(text)["components"]["schemas"])


def test_every_kind_of_error_has_its_own_row_in_the_table() -> None:
    waiting, kinds = [DiscernError], []
    while waiting:
        kind = waiting.pop()
        kinds.append(kind)
        waiting.extend(kind.__subclasses__())
    assert {kind for kind in kinds if kind.__module__ == "discern.core.errors"} <= PROBLEMS.keys()
    for kind in kinds:
        assert 400 <= problem_of(kind("something")).status < 600


def test_health_is_answered_without_a_key(stranger: TestClient) -> None:
    assert stranger.get("/livez").json() == {"status": "alive"}
    ready = stranger.get("/readyz")
    assert (ready.status_code, ready.json()["parts"]) == (200, {"database": "ok", "detectors": "ok", "objects": "ok"})


def test_a_part_that_cannot_work_makes_it_not_ready(stranger: TestClient, services: Services) -> None:
    services.database.close()
    ready = stranger.get("/readyz")
    assert (ready.status_code, ready.json()["parts"]["database"]) == (503, "storage_unavailable")
    assert stranger.get("/livez").status_code == 200
