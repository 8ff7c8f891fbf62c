"""The route that tells whether detectors are shown, and say, what they were made on."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.monitoring.drift.service import Drift
from discern.routes import answers, json_answer

_Name = Annotated[str | None, Query(max_length=100)]


def drift_routes(drift: Drift, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1", tags=["monitoring"])

    @router.get(
        "/drift",
        summary="Have inputs or answers changed?",
        description="With `subject` the answer has the hours and days of that subject, for which `detector` and, where "
        "several are watched, `version` must be named.",
        response_class=Response,
        responses=answers("DriftReport", description="As the last windows had it, some seconds old at most."),
    )
    async def show_drift(
        request: Request, detector: _Name = None, version: _Name = None, subject: _Name = None
    ) -> Response:
        return json_answer(await to_thread.run_sync(drift.report, principal_of(request), detector, version, subject))

    return router
