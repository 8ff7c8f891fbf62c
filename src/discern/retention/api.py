"""Routes of retention, for the owners of a workspace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.retention.service import Retention
from discern.retention.types import Keeping, KeepingChange

BodyReader = Callable[[Request, type[KeepingChange]], Awaitable[KeepingChange]]
"""Reads the JSON body of a request. Raises MalformedRequest and SlowSender."""


def retention_routes(retention: Retention, *, principal_of: PrincipalReader, body_of: BodyReader) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["retention"])
    keeping = {"application/json": {"schema": {"$ref": "#/components/schemas/Keeping"}}}
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "Days by kind; null means for ever.", "content": keeping}
    }

    @router.get("/retention", summary="For how many days is what kept?", response_class=Response, responses=responses)
    async def show_retention(request: Request) -> Response:
        return _json(await to_thread.run_sync(retention.show, principal_of(request).workspace))

    @router.patch(
        "/retention",
        summary="Keep one kind for another number of days",
        response_class=Response,
        responses=responses,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/KeepingChange"}}},
            }
        },
    )
    async def change_retention(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, KeepingChange)
        changed = await to_thread.run_sync(retention.change, principal.workspace, asked.kind, asked.days, principal)
        return _json(changed)

    return router


def _json(keeping: Keeping) -> Response:
    return Response(msgspec.json.encode(keeping), media_type="application/json")
