"""The route that tells people how an installation is."""

from __future__ import annotations

from collections.abc import Callable

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.access.types import Principal
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.health.service import HealthService
from discern.routes import answers, json_answer


def health_page_routes(
    health: HealthService,
    slot: int,
    supervised: Callable[[], tuple[int, float]] | None,
    *,
    principal_of: PrincipalReader,
) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1", tags=["health"])
    threads = CapacityLimiter(2)

    @router.get(
        "/health",
        summary="How is the installation?",
        description="Parts with the reason where one does not answer, circuit breakers of the process that answers, "
        "and what the installation noticed and did by itself. A workspace sees what happened to it; owners and "
        "operators of the workspace `default` see all.",
        response_class=Response,
        responses=answers("Health"),
    )
    async def show_health(request: Request) -> Response:
        workspace = _seen_by(principal_of(request))
        return json_answer(await to_thread.run_sync(health.look, workspace, slot, supervised, limiter=threads))

    return router


def _seen_by(principal: Principal) -> str | None:
    sees_all = principal.role in {"owner", "operator"} and principal.detectors is None
    return None if sees_all and principal.workspace == DEFAULT_WORKSPACE else principal.workspace
