"""What `discern access explain` is asked about, looked up where it is."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from discern.access.types import Resource, ResourceKind
from discern.app import Services
from discern.core.errors import UnknownKey


def find_resource(services: Services, kind: ResourceKind, name: str, workspace: str) -> Resource | None:
    """Return a resource, of `workspace` or else of whichever it belongs to; None where there is none.

    `name` is its id, or what a detector, a user or a workspace is called; of the workspace itself it may be empty.
    """
    known = [one.name for one in services.workspaces.list()]
    if kind == "Workspace":
        return Resource(kind, name or workspace, name or workspace) if (name or workspace) in known else None
    if kind == "Detector":  # one of the installation, which every workspace has
        is_there = any(one.name == name for one in services.catalogue.all())
        return Resource(kind, name, workspace, name) if is_there else None
    find = _FINDERS[kind]
    found = (find(services, name, one) for one in sorted(known, key=lambda one: one != workspace))
    return next((one for one in found if one is not None), None)


def _verdict(services: Services, name: str, workspace: str) -> Resource | None:
    verdict_id = _id(name)
    found = None if verdict_id is None else services.verdicts.get(workspace, verdict_id)
    return None if found is None else Resource("Verdict", name, workspace, found.detector)


def _job(services: Services, name: str, workspace: str) -> Resource | None:
    job_id = _id(name)
    found = None if job_id is None else services.job_store.get(workspace, job_id)
    return None if found is None else Resource("Job", name, workspace, found.detector)


def _key(services: Services, name: str, workspace: str) -> Resource | None:
    key_id = _id(name)
    if key_id is None:
        return None
    try:
        return Resource("Key", name, workspace, role=services.keys.get(workspace, key_id).role)
    except UnknownKey:
        return None


def _user(services: Services, name: str, workspace: str) -> Resource | None:
    for user in services.users.list(workspace):
        if name in {user.name, str(user.id)}:
            return Resource("User", str(user.id), workspace, role=user.role)
    return None


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


_FINDERS: dict[ResourceKind, Callable[[Services, str, str], Resource | None]] = {
    "Verdict": _verdict,
    "Job": _job,
    "Key": _key,
    "User": _user,
}
