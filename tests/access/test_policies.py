"""Who may do what: the shipped policies role by role, and what an operator's own files can and cannot change."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from discern.access.service_policies import SHIPPED, Access, Policies
from discern.access.types import ACTIONS, ROLES, Action, Principal, Resource, ResourceKind, Role
from discern.core.errors import Forbidden, InvalidSettings

READ: set[Action] = {"detectors.read", "verdicts.read"}
ASK: set[Action] = READ | {"detect", "jobs.read", "jobs.cancel"}
KEYS: set[Action] = {"keys.read", "keys.create", "keys.rotate", "keys.revoke"}
WATCH: set[Action] = {"alerts.read", "analytics.read", "drift.read", "health.read", "statistics.read", "usage.read"}
AUDIT: set[Action] = {"jobs.read", "keys.read", "users.read", "audit.read", "privacy.read", "retention.read"}
AUDIT |= {"compliance.read"}
LABEL: set[Action] = {"verdicts.label"}
QUALITY: set[Action] = {"quality.read"}
# What concerns all workspaces, and is for those of the first one.
OF_ALL: set[Action] = {"metrics.read"}
MAY: dict[Role, set[Action]] = {
    "owner": set(ACTIONS),
    "operator": ASK
    | WATCH
    | OF_ALL
    | KEYS
    | LABEL
    | QUALITY
    | {"privacy.read", "privacy.consent", "privacy.export", "alerts.change"},
    "analyst": ASK | WATCH | LABEL | QUALITY,
    "reviewer": READ | LABEL | QUALITY,
    "auditor": READ | WATCH | OF_ALL | AUDIT | QUALITY,
    "service": ASK | LABEL | {"privacy.consent"},
    "device": {"detect", "detectors.read"},
}


@pytest.fixture(scope="module")
def policies() -> Policies:
    return Policies(SHIPPED / "nowhere")


def about(action: Action, workspace: str = "a", detector: str = "") -> Resource:
    """Something in a workspace that the action can be done to."""
    kinds: dict[str, ResourceKind] = {"verdicts": "Verdict", "jobs": "Job", "keys": "Key", "users": "User"}
    if action in {"detect", "detectors.read"}:
        return Resource("Detector", "card-fraud", workspace, detector or "card-fraud")
    kind = kinds.get(action.partition(".")[0], "Workspace")
    return Resource(kind, "1", workspace, detector, role="device" if kind == "Key" else "")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_role_may_do_what_the_table_says_in_its_own_workspace_and_nothing_in_another(
    policies: Policies, role: Role, action: Action
) -> None:
    principal = Principal("key:1", "default" if action in OF_ALL else "a", role)
    assert policies.allows(principal, action, about(action, principal.workspace)) == (action in MAY[role])
    assert not policies.allows(principal, action, about(action, workspace="b"))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", sorted(OF_ALL))
def test_what_concerns_all_workspaces_is_for_nobody_of_another_or_with_single_detectors(
    policies: Policies, role: Role, action: Action
) -> None:
    assert not policies.allows(Principal("key:1", "a", role), action, about(action, workspace="a"))
    restricted = Principal("key:1", "default", role, ("card-fraud",))
    assert not policies.allows(restricted, action, about(action, workspace="default"))


@pytest.mark.parametrize("role", ROLES)
def test_whoever_was_granted_single_detectors_reaches_these_alone(policies: Policies, role: Role) -> None:
    principal = Principal("key:1", "a", role, ("card-fraud",))
    for action in ("detect", "detectors.read", "verdicts.read", "verdicts.label", "jobs.read", "jobs.cancel"):
        assert policies.allows(principal, action, about(action, detector="card-fraud")) == (action in MAY[role])
        assert not policies.allows(principal, action, about(action, detector="synthetic-face"))
    nothing = Principal("key:1", "a", role, ())
    assert not policies.allows(nothing, "detect", about("detect"))


@pytest.mark.parametrize("role", ROLES)
def test_an_operator_hands_out_the_keys_of_machines_alone(policies: Policies, role: Role) -> None:
    key = Resource("Key", "new", "a", role=role)
    allowed = policies.allows(Principal("key:1", "a", "operator"), "keys.create", key)
    assert allowed == (role in {"service", "device"})
    assert policies.allows(Principal("key:1", "a", "owner"), "keys.create", key)


def test_a_file_of_the_operator_permits_more_and_forbids_more_but_lifts_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.cedar").write_text(
        '@id("reviewers-ask") permit (principal in Role::"reviewer", action == Action::"detect", resource);\n'
        '@id("no-faces") forbid (principal, action == Action::"detect", resource)\n'
        'when { resource.detector == "synthetic-face" };\n'
        "permit (principal, action, resource);\n"
    )
    own = Policies(tmp_path)
    reviewer = Principal("key:1", "a", "reviewer")
    assert own.allows(reviewer, "detect", about("detect"))
    assert not own.allows(Principal("key:1", "a", "owner"), "detect", about("detect", detector="synthetic-face"))
    for action in ACTIONS:
        assert not own.allows(reviewer, action, about(action, workspace="b"))
    narrow = Principal("key:1", "a", "reviewer", ("other",))
    assert not own.allows(narrow, "verdicts.read", about("verdicts.read", detector="card-fraud"))
    found = own.explain(Principal("key:1", "a", "owner"), "detect", about("detect", detector="synthetic-face"))
    assert (found.allowed, found.policies) == (False, ("no-faces",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('permit (principal, action == Action::"detct", resource);', "detct"),
        ("permit (principal, action, resource) when { resource.colour };", "colour"),
        ("permit (principal", "unexpected end"),
    ],
)
def test_a_policy_that_is_wrong_stops_the_start_and_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.cedar").write_text(text)
    with pytest.raises(InvalidSettings, match=r"own\.cedar") as caught:
        Policies(tmp_path).open()
    assert said in str(caught.value)


def test_a_policy_that_cannot_be_evaluated_permits_nothing(tmp_path: Path) -> None:
    # It passes the schema and fails on the values: an overflow.
    (tmp_path / "own.cedar").write_text(
        'forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 && resource.detector == "x" };'
    )
    assert not Policies(tmp_path).allows(Principal("key:1", "a", "owner"), "detect", about("detect"))


def test_every_denial_can_be_explained_and_is_told_of(policies: Policies) -> None:
    told: list[tuple[str, ...]] = []
    access = Access(policies, lambda *what: told.append(tuple(map(str, what))))
    device = Principal("key:7", "a", "device")
    access.check(device, "detect", about("detect"))
    assert told == []
    with pytest.raises(Forbidden) as caught:
        access.check(device, "audit.read", about("audit.read"))
    assert "of the roles owner, auditor may" in caught.value.detail
    assert caught.value.facts == {"action": "audit.read", "role": "device", "policies": []}
    assert len(told) == 1
    with pytest.raises(Forbidden, match="own-workspace-only"):
        access.check(Principal("key:7", "a", "owner"), "detect", about("detect", workspace="b"))


def test_the_schema_knows_every_action_and_every_kind() -> None:
    schema = (SHIPPED / "schema.cedarschema").read_text()
    assert all(f'"{action}"' in schema for action in ACTIONS)
    assert all(kind in schema for kind in get_args(ResourceKind))
