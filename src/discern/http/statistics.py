"""What the process that answers has counted since it started, and what its supervisor has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from discern.core.counts import Counts


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands: its slot, and what tells the deaths of processes and the seconds a slot had none."""

    slot: int = 0
    supervised: Callable[[], tuple[int, float]] | None = None


def statistics_routes(counts: Counts, place: Place) -> APIRouter:
    """Return the route that tells."""
    router = APIRouter(prefix="/v1", tags=["health"])

    @router.get(
        "/statistics",
        summary="What has the process that answers counted?",
        description="Each of several processes counts for itself: `slot` and `pid` say which one answered.",
        response_class=Response,
    )
    async def statistics() -> Response:
        body: dict[str, object] = {"slot": place.slot, "pid": os.getpid(), "counts": counts.snapshot()}
        if place.supervised is not None:
            deaths, absent_seconds = place.supervised()
            body["workers"] = {"deaths": deaths, "absent_seconds": round(absent_seconds, 3)}
        return Response(msgspec.json.encode(body), media_type="application/json")

    return router
