"""Routes of the registry: which detectors there are, and what each says of itself."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter

from discern.detectors.bundle import Bundle
from discern.registry.service import Catalogue
from discern.registry.types import Listed, takes


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


def summary(entry: Listed) -> dict[str, Any]:
    """Return what a list says of one bundle."""
    row: dict[str, Any] = {"name": entry.name, "version": entry.version, "origin": entry.origin}
    if entry.bundle is None:
        return row | {"usable": False, "refused": entry.refused}
    manifest = entry.bundle.manifest
    return row | {
        "usable": True,
        "task": manifest.task,
        "takes": takes(manifest),
        "classes": manifest.classes.model_dump(),
    }


def details(entry: Listed, bundle: Bundle) -> dict[str, Any]:
    """Return everything there is to say of one usable bundle, its card included."""
    manifest = bundle.manifest.model_dump(mode="json", exclude_none=True)
    return summary(entry) | {
        "digest": bundle.digest,
        "signer": bundle.signer,
        "manifest": manifest,
        "card": bundle.card(),
    }


def _details(catalogue: Catalogue, name: str, version: str | None) -> dict[str, Any]:
    return details(catalogue.find(name, version), catalogue.usable(name, version))
