"""The route that tells what a workspace has asked for this month."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.quotas.service import Quotas
from discern.routes import answers, json_answer


def usage_routes(quotas: Quotas, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1", tags=["usage"])

    @router.get(
        "/usage",
        summary="What was asked for this month, and what may be?",
        response_class=Response,
        responses=answers("Usage", description="Other processes may have some seconds more to tell."),
    )
    async def show_usage(request: Request) -> Response:
        usage = await to_thread.run_sync(quotas.usage, principal_of(request).workspace)
        return json_answer(usage)

    return router
