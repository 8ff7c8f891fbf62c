"""The route that reads the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.audit.store import AuditStore

_encode = msgspec.json.Encoder().encode


def audit_routes(store: AuditStore, *, workspace_of: Callable[[Any], str]) -> APIRouter:
    """Return the route; `workspace_of` tells the workspace of whoever sent a request."""
    router = APIRouter(prefix="/v1", tags=["audit"])
    schema = {"$ref": "#/components/schemas/EntryPage"}

    @router.get(
        "/audit",
        summary="Read who did what, newest first",
        response_class=Response,
        responses={
            200: {
                "description": "A page; give its `next` as `before` to go on.",
                "content": {"application/json": {"schema": schema}},
            }
        },
    )
    async def read_audit(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    ) -> Response:
        page = await to_thread.run_sync(store.page, workspace_of(request), limit, before)
        return Response(_encode(page), media_type="application/json")

    return router
