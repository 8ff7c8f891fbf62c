"""The route that reads the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.audit.store import AuditStore
from discern.routes import answers, json_answer


def audit_routes(store: AuditStore, *, workspace_of: Callable[[Any], str]) -> APIRouter:
    """Return the route; `workspace_of` tells the workspace of whoever sent a request."""
    router = APIRouter(prefix="/v1", tags=["audit"])

    @router.get(
        "/audit",
        summary="Read who did what, newest first",
        response_class=Response,
        responses=answers("EntryPage", description="A page; give its `next` as `before` to go on."),
    )
    async def read_audit(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    ) -> Response:
        page = await to_thread.run_sync(store.page, workspace_of(request), limit, before)
        return json_answer(page)

    return router
