"""What a process has counted, as each workspace is told it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from discern.access.types import Role
from discern.app import Services
from discern.app_http import create_app
from discern.core.counts import Counts
from discern.http.statistics import Place

RECORD = {"a": 1, "b": 0.5, "c": -1}


@pytest.fixture
def app(services: Services) -> TestClient:
    for workspace in ("acme", "other"):
        services.workspaces.create(workspace)
    place = Place(supervised=lambda: (3, 1.5))
    return TestClient(create_app(services, place), raise_server_exceptions=False)


def key(services: Services, workspace: str, role: Role = "owner", **grants: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {services.keys.issue(workspace, 'k', role=role, **grants).secret}"}


def ask(app: TestClient, headers: dict[str, str]) -> None:
    assert app.post("/v1/detectors/toy-record/verdicts", json=RECORD, headers=headers).status_code == 200


def statistics(app: TestClient, headers: dict[str, str]) -> Any:
    return app.get("/v1/statistics", headers=headers).json()


def test_a_workspace_sees_its_own_counts_alone(app: TestClient, services: Services) -> None:
    acme, other = key(services, "acme"), key(services, "other")
    ask(app, acme)
    ask(app, acme)
    assert statistics(app, other)["counts"] == {}
    ask(app, other)
    assert statistics(app, acme)["counts"] == {"cache.hits": 1, "cache.misses": 1, "ledger.verdicts": 2}
    assert statistics(app, other)["counts"] == {"cache.misses": 1, "ledger.verdicts": 1}
    assert "workers" not in statistics(app, acme)


def test_owners_and_operators_of_the_first_workspace_see_the_whole(app: TestClient, services: Services) -> None:
    ask(app, key(services, "acme"))
    for role in ("owner", "operator"):
        whole = statistics(app, key(services, "default", role))
        assert whole["counts"]["ledger.verdicts"] == 1
        assert whole["counts"]["ledger.commits"] == 1
        assert whole["workers"] == {"deaths": 3, "absent_seconds": 1.5}
    for headers in (
        key(services, "default", "analyst"),
        key(services, "default", "auditor"),
        key(services, "default", detectors=("toy-record",)),
    ):
        told = statistics(app, headers)
        assert told["counts"] == {}
        assert "workers" not in told


def test_what_belongs_to_a_workspace_is_counted_for_all_and_for_it() -> None:
    counts = Counts()
    counts.add("jobs.done", workspace="acme")
    counts.add("jobs.done", 2, workspace="other")
    counts.add("batches.idle")
    assert counts.snapshot() == {"batches.idle": 1, "jobs.done": 3}
    assert counts.of("acme") == {"jobs.done": 1}
    assert counts.of("nobody") == {}
