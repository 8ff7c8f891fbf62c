"""Whether somebody may do something, and why: the shipped policies and the operator's, in Cedar.

- What no policy permits is denied; a `forbid` outweighs every `permit`, so files of an operator lift none of ours.
- A policy that cannot be read, or speaks of what there is not, stops the start: Cedar would leave it out silently.
- What was decided is remembered: policies do not change while a process runs, and deciding costs more than a record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from discern.access.rules_factors import no_fresh_proof
from discern.access.types import ACTIONS, ROLES, Action, Explanation, Principal, Resource, Role
from discern.core.errors import Forbidden, InvalidSettings, MissingExtra, SecondFactorNeeded

SHIPPED = Path(__file__).parent / "policies"
_MOST_REMEMBERED = 20_000
_Question = tuple[Principal, Action, Resource]


class Policies:
    """The policies of an installation; `folder` holds the operator's own. Read when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._engine: _Engine | None = None
        self._texts: Mapping[str, str] = {}
        self._remembered: dict[_Question, bool] = {}

    def open(self) -> None:
        """Read them. Raises InvalidSettings where a file is wrong, MissingExtra without the engine."""
        if self._engine is None:
            texts = sources(self.folder)
            self._engine = _Engine(texts)
            self._texts = texts

    def in_force(self) -> Mapping[str, str]:
        """Return the text of each policy file that was read, by its name. Raises what `open` does."""
        self.open()
        return self._texts

    def allows(self, principal: Principal, action: Action, resource: Resource) -> bool:
        """Tell whether `principal` may do `action` to `resource`."""
        question = principal, action, resource
        known = self._remembered.get(question)
        if known is None:
            known = self.explain(principal, action, resource).allowed
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered = {}
            self._remembered[question] = known
        return known

    def explain(self, principal: Principal, action: Action, resource: Resource) -> Explanation:
        """Return whether it is permitted, by which policies, and in words why."""
        self.open()
        assert self._engine is not None  # noqa: S101 - opened
        allowed, names = self._engine.decide(principal, action, resource)
        if allowed:
            sentence = f"Permitted by {_listed(names)}."
        elif names:
            sentence = f"Forbidden by {_listed(names)}."
        else:
            roles = self._roles_that_may(principal, action, resource)
            may = f"of the roles {_listed(roles)} may" if roles else "no role may"
            sentence = f"No policy permits the role {principal.role} to do {action}; {may}."
        return Explanation(allowed=allowed, policies=tuple(names), sentence=sentence)

    def _roles_that_may(self, principal: Principal, action: Action, resource: Resource) -> list[str]:
        assert self._engine is not None  # noqa: S101 - asked by explain alone
        return [role for role in ROLES if self._engine.decide(_as_role(principal, role), action, resource)[0]]


class Access:
    """Permissions as the doors ask for them; `on_denial` puts a denial on record."""

    def __init__(self, policies: Policies, on_denial: Callable[[Principal, str, Resource, str], None]) -> None:
        self._policies = policies
        self._on_denial = on_denial

    def allows(self, principal: Principal, action: Action, resource: Resource) -> bool:
        """Tell whether it is permitted; nothing goes on record."""
        return self._policies.allows(principal, action, resource)

    def check(self, principal: Principal, action: Action, resource: Resource) -> None:
        """Raise Forbidden, which is on record then, unless it is permitted."""
        if self._policies.allows(principal, action, resource):
            return
        found = self._policies.explain(principal, action, resource)
        self._on_denial(principal, action, resource, found.sentence)
        raise Forbidden(
            found.sentence,
            mend="Ask an owner of the workspace for another role or grant.",
            action=action,
            role=principal.role,
            policies=list(found.policies),
        )

    def check_enrolled(self, principal: Principal, route: str) -> None:
        """Raise SecondFactorNeeded, which is on record then, for whoever must enrol a second factor first."""
        if not principal.enrolling:
            return
        detail = f"The role {principal.role} needs a second factor, and you have none yet."
        about = Resource("Workspace", principal.workspace, principal.workspace)
        self._on_denial(principal, "sessions.use", about, f"{detail} Asked for {route}.")
        raise SecondFactorNeeded(detail, mend="Enrol one: POST /v1/factors.", role=principal.role)

    def check_fresh(self, principal: Principal, route: str) -> None:
        """Raise FreshProofNeeded, which is on record then, for a session whose proof is old."""
        if principal.is_fresh or not principal.id.startswith("user:"):
            return
        about = Resource("Workspace", principal.workspace, principal.workspace)
        self._on_denial(principal, "sessions.use", about, f"No fresh proof. Asked for {route}.")
        raise no_fresh_proof()


def sources(folder: Path) -> dict[str, str]:
    """Return the text of every policy file by its name: ours first, then the operator's in order of their names."""
    found = {"roles.cedar (shipped)": (SHIPPED / "roles.cedar").read_text(encoding="utf-8")}
    for path in sorted(folder.glob("*.cedar")) if folder.is_dir() else ():
        try:
            found[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"{path} cannot be read: {error}.", mend="Correct it or move it away.") from error
    return found


class _Engine:
    """Cedar with policies that have been read and checked."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        try:
            import cedarpy  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra(
                "A server needs the policy engine Cedar, which is not installed.",
                mend="Install it: pip install 'discern-detectors[server]'.",
                extra="server",
            ) from error
        self._cedar = cedarpy
        schema = (SHIPPED / "schema.cedarschema").read_text(encoding="utf-8")
        for name, text in texts.items():
            _refuse_faults(cedarpy, name, text, schema)
        everything = "\n".join(texts.values())
        self._policies = cedarpy.PolicySet.from_str(everything)
        self._names = _names(cedarpy, everything)

    def decide(self, principal: Principal, action: Action, resource: Resource) -> tuple[bool, list[str]]:
        """Return whether it is permitted, and the names of the policies that decided; none where none permits."""
        who = {"type": "Principal", "id": principal.id}
        what = {"type": resource.kind, "id": resource.id}
        entities: list[dict[str, Any]] = [
            {
                "uid": who,
                "attrs": {
                    "workspace": principal.workspace,
                    "restricted": principal.detectors is not None,
                    "detectors": list(principal.detectors or ()),
                },
                "parents": [{"type": "Role", "id": principal.role}],
            },
            {
                "uid": what,
                "attrs": {"workspace": resource.workspace, "detector": resource.detector, "role": resource.role},
                "parents": [],
            },
        ]
        request = {"principal": who, "action": {"type": "Action", "id": action}, "resource": what, "context": {}}
        result = self._cedar.is_authorized(request, self._policies, entities)
        # A policy that cannot be evaluated counts for nothing in Cedar; a `forbid` that counts for nothing permits.
        if result.diagnostics.errors:
            return False, [f"error: {error}" for error in result.diagnostics.errors]
        return bool(result.allowed), [self._names[policy] for policy in result.diagnostics.reasons]


def _refuse_faults(cedar: Any, name: str, text: str, schema: str) -> None:  # noqa: ANN401 - it has no types
    if not text.strip():
        return
    try:
        cedar.PolicySet.from_str(text)
        found = cedar.validate_policies(text, schema)
    except ValueError as error:
        raise _faulty(name, str(error)) from error
    if not found.validation_passed:
        raise _faulty(name, "; ".join(error.error for error in found.errors))


def _faulty(name: str, reason: str) -> InvalidSettings:
    return InvalidSettings(
        f"The policies of {name} are wrong: {reason[:500]}.",
        mend=f"Correct the file. There are the actions {', '.join(ACTIONS)}; `discern access policies` shows ours.",
    )


def _names(cedar: Any, text: str) -> dict[str, str]:  # noqa: ANN401
    """Return the `@id` of each policy by the number Cedar gives it."""
    read = json.loads(cedar.policies_to_json_str(text))["staticPolicies"]
    return {number: policy.get("annotations", {}).get("id", number) for number, policy in read.items()}


def _as_role(principal: Principal, role: Role) -> Principal:
    return Principal(principal.id, principal.workspace, role, principal.detectors)


def _listed(names: list[str]) -> str:
    return ", ".join(names)
