"""The route that tells how good detectors are."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import Permit, PrincipalReader
from discern.access.types import Resource
from discern.monitoring.quality.service import Quality
from discern.routes import answers, json_answer


def quality_routes(quality: Quality, permit: Permit, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1", tags=["monitoring"])

    @router.get(
        "/quality",
        summary="How good are detectors, as scores and labels tell?",
        description="Estimated from scores before labels come, and realised by labels, window by window, with 95 % "
        "intervals; and whether the two contradict each other. It is measured once a minute.",
        response_class=Response,
        responses=answers("QualityReport", description="Windows oldest first; a figure without a value says why."),
    )
    async def show_quality(
        request: Request,
        detector: str | None = None,
        version: str | None = None,
        days: Annotated[int | None, Query(ge=1, le=730)] = None,
    ) -> Response:
        principal = principal_of(request)

        def may(name: str) -> bool:
            return permit.allows(principal, "quality.read", Resource("Detector", name, principal.workspace, name))

        look = partial(quality.report, principal.workspace, detector=detector, version=version, days=days, may=may)
        return json_answer(await to_thread.run_sync(look))

    return router
