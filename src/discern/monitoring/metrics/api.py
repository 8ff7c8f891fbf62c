"""The route that Prometheus reads."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.monitoring.metrics.service import Metrics


def metrics_routes(metrics: Metrics) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        summary="What is measured, for Prometheus",
        description="Of all processes of the machine that answers, and of the whole installation: for owners, "
        "operators and auditors of the workspace `default`, and whoever has `metrics_token`. OpenMetrics where the "
        "header `Accept` asks for it.",
        response_class=Response,
        responses={200: {"description": "As it is.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def show_metrics(request: Request) -> Response:
        text, media_type = await to_thread.run_sync(metrics.text, request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return router
