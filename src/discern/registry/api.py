"""Routes of the registry: which detectors there are, and what each says of itself."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter

from discern.registry.service import Catalogue
from discern.registry.types import Usable, summary


def registry_routes(catalogue: Catalogue) -> APIRouter:
    """Return the routes under `/v1/detectors`."""
    router = APIRouter(prefix="/v1/detectors", tags=["detectors"])

    @router.get("", summary="List the detectors")
    async def list_detectors() -> dict[str, list[dict[str, Any]]]:
        return {"detectors": [summary(entry) for entry in await to_thread.run_sync(catalogue.all)]}

    @router.get("/{name}", summary="Show the version that answers by default")
    async def show_detector(name: str) -> dict[str, Any]:
        return await to_thread.run_sync(_details, catalogue, name, None)

    @router.get("/{name}/{version}", summary="Show one version")
    async def show_version(name: str, version: str) -> dict[str, Any]:
        return await to_thread.run_sync(_details, catalogue, name, version)

    return router


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
