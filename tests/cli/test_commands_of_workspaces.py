"""Commands that look into a workspace: the ledger, people, retention, and who may do what there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from discern.access.types_factors import Factor, FactorKind, KeptFactor
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.settings import load_settings
from tests.commands import Run

pytestmark = pytest.mark.system
RECORD = {"a": 1, "b": 0.5, "c": -1}


@pytest.fixture
def there(home: Path) -> Iterator[Services]:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.workspaces.create("acme")
    yield services
    services.close()


def asked(services: Services, workspace: str) -> tuple[str, str]:
    """Return the ids of a verdict and of a job in a workspace."""
    key = services.keys.issue(workspace, "asks").secret
    with TestClient(create_app(services), headers={"Authorization": f"Bearer {key}"}) as client:
        verdict = client.post("/v1/detectors/toy-record/verdicts", json=RECORD).json()
        job = client.post("/v1/detectors/toy-record/jobs", json=RECORD).json()
    return verdict["id"], job["id"]


def test_verdicts_of_a_workspace_are_listed_and_shown_there_alone(run: Run, there: Services) -> None:
    verdict, _ = asked(there, "acme")
    assert verdict not in run("verdicts", "list").out
    listed = [json.loads(line)["id"] for line in run("verdicts", "list", "-w", "acme", "--json").out.splitlines()]
    assert verdict in listed
    assert verdict in run("verdicts", "list", "--workspace", "acme").out
    assert run("verdicts", "show", verdict).code == 1
    assert json.loads(run("verdicts", "show", verdict, "--workspace", "acme").out)["id"] == verdict
    assert "There is no workspace nowhere" in run("verdicts", "list", "--workspace", "nowhere").err


def test_what_is_kept_for_ever_has_one_word(run: Run) -> None:
    assert run("retention", "set", "jobs", "30").code == 0
    refused = run("retention", "set", "jobs", "for-ever")
    assert refused.code == 1
    assert "Write a number such as 90, or none." in refused.err
    assert "30 days" in run("retention", "show").out
    assert "keeps its jobs for ever" in run("retention", "set", "jobs", "none").out
    assert "30 days" not in run("retention", "show").out


def test_users_are_listed_with_the_kinds_of_their_second_factors(run: Run, there: Services) -> None:
    for name in ("ann", "ben"):
        there.users.create("default", f"{name}@example.org", f"several words of {name}", role="analyst")
    ann = there.users.named("default", "ann@example.org")
    with there.factors._store.holding(ann.id) as held:
        kinds: tuple[FactorKind, ...] = ("totp", "sms", "totp")
        for kind in kinds:
            kept = KeptFactor(Factor(uuid7(), kind, "mine", utc_now()), b"sealed", None, 0)
            held.begin_enrolment(kept)
            held.confirm(kept, utc_now())
    (_, of_ann, of_ben) = run("user", "list").out.splitlines()
    assert "sms, totp" in of_ann
    assert "totp" not in of_ben


def test_what_is_explained_is_looked_up_first(run: Run, there: Services) -> None:
    verdict, job = asked(there, "default")
    key = there.keys.issue("default", "narrow", role="analyst", detectors=("card-fraud",)).key.id
    for action, resource in (("verdicts.read", f"verdict:{verdict}"), ("jobs.read", f"job:{job}")):
        assert run("access", "explain", "reviewer", "verdicts.read", "workspace").code == 0
        allowed = run("access", "explain", "analyst", action, resource)
        assert (allowed.code, allowed.out.startswith("Permitted by ")) == (0, True), allowed
        # The detector that it came from is known without being named, and this key was not granted it.
        assert run("access", "explain", f"key:{key}", action, resource).code == 1
    for gone in (
        "detector:no-such",
        "verdict:01a1fb4b-0233-7998-8f07-5b5ac3979bc9",
        "job:x",
        "key:01a1fb4b-0233-7998-8f07-5b5ac3979bc9",
        "user:nobody",
        "workspace:nowhere",
    ):
        ran = run("access", "explain", "owner", "verdicts.read", gone)
        assert ran.code == 1
        assert f"There is no {gone} in any workspace." in ran.err
    assert "is nothing there is" in run("access", "explain", "owner", "verdicts.read", "verdict:").err


def test_what_belongs_to_another_workspace_is_said_to(run: Run, there: Services) -> None:
    verdict, job = asked(there, "acme")
    key = there.keys.issue("acme", "theirs").key.id
    there.users.create("acme", "ann@example.org", "several words of ann", role="analyst")
    for action, resource in (
        ("verdicts.read", f"verdict:{verdict}"),
        ("jobs.read", f"job:{job}"),
        ("keys.revoke", f"key:{key}"),
        ("users.change", "user:ann@example.org"),
        ("audit.read", "workspace:acme"),
    ):
        ran = run("access", "explain", "owner", action, resource)
        assert ran.code == 1
        said = ran.out.splitlines()
        assert said[0] == f"{resource} belongs to the workspace acme, not to default."
        assert "own-workspace-only" in said[1]
        assert run("access", "explain", "owner", action, resource, "--workspace", "acme").code == 0
