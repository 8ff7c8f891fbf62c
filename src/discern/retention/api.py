"""Routes of retention, for the owners of a workspace."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.retention.service import Retention
from discern.retention.types import KeepingChange
from discern.routes import answers, body_of, json_answer, takes


def retention_routes(retention: Retention, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["retention"])
    responses = answers("Keeping", description="Days by kind; null means for ever.")

    @router.get("/retention", summary="For how many days is what kept?", response_class=Response, responses=responses)
    async def show_retention(request: Request) -> Response:
        return json_answer(await to_thread.run_sync(retention.show, principal_of(request).workspace))

    @router.patch(
        "/retention",
        summary="Keep one kind for another number of days",
        response_class=Response,
        responses=responses,
        openapi_extra=takes("KeepingChange"),
    )
    async def change_retention(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, KeepingChange)
        changed = await to_thread.run_sync(retention.change, principal.workspace, asked.kind, asked.days, principal)
        return json_answer(changed)

    return router
