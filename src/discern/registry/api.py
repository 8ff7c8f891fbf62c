"""Routes of the registry: which detectors there are, and what each says of itself."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request

from discern.access.ports import Permit, PrincipalReader
from discern.access.types import Principal, Resource
from discern.core.errors import UnknownDetector
from discern.registry.service import Catalogue
from discern.registry.types import Usable, summary

# What stands where a version would, for other methods.
_NOT_VERSIONS = {
    "jobs": "POST an input to it; `GET /v1/jobs` lists the jobs.",
    "stream": "Connect to it with a client of WebSockets.",
    "verdicts": "POST an input to it; `GET /v1/verdicts` lists the verdicts.",
    "verdicts:batch": "POST inputs to it.",
}


def registry_routes(catalogue: Catalogue, permit: Permit, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes under `/v1/detectors`."""
    router = APIRouter(prefix="/v1/detectors", tags=["detectors"])

    @router.get("", summary="List the detectors")
    async def list_detectors(request: Request) -> dict[str, list[dict[str, Any]]]:
        principal = principal_of(request)
        entries = await to_thread.run_sync(catalogue.all)
        return {"detectors": [summary(entry) for entry in entries if _may_see(permit, principal, entry.name)]}

    @router.get("/{name}", summary="Show the version that answers by default")
    async def show_detector(name: str) -> dict[str, Any]:
        return await to_thread.run_sync(_details, catalogue, name, None)

    @router.get("/{name}/{version}", summary="Show one version")
    async def show_version(name: str, version: str) -> dict[str, Any]:
        if version in _NOT_VERSIONS:
            raise UnknownDetector(f"/v1/detectors/{name}/{version} does not take GET.", mend=_NOT_VERSIONS[version])
        return await to_thread.run_sync(_details, catalogue, name, version)

    return router


def _may_see(permit: Permit, principal: Principal, name: str) -> bool:
    return permit.allows(principal, "detectors.read", Resource("Detector", name, principal.workspace, name))


def details(entry: Usable) -> dict[str, Any]:
    """Return everything there is to say of one usable bundle, its card included."""
    bundle = entry.bundle
    manifest = bundle.manifest.model_dump(mode="json", exclude_none=True)
    return summary(entry) | {
        "digest": bundle.digest,
        "signer": bundle.signer,
        "manifest": manifest,
        "card": bundle.card(),
    }


def _details(catalogue: Catalogue, name: str, version: str | None) -> dict[str, Any]:
    return details(catalogue.find(name, version))
