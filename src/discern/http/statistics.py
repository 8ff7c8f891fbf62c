"""What the process that answers has counted since it started, and what its supervisor has.

- A workspace is told what was counted for it. What concerns all is for those who look after the installation: owners
  and operators of the workspace that it started with, unless they were granted single detectors.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.access.types import Principal, Role
from discern.core.counts import Counts
from discern.core.workspace import DEFAULT_WORKSPACE

_OPERATORS: frozenset[Role] = frozenset({"owner", "operator"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands: its slot, and what tells the deaths of processes and the seconds a slot had none.

    `beat` is called each time its event loop turns, several times a second.
    `metrics` is the folder where the processes of one server put together what they measure.
    """

    slot: int = 0
    beat: Callable[[], None] = lambda: None
    supervised: Callable[[], tuple[int, float]] | None = None
    metrics: Path | None = None


def statistics_routes(counts: Counts, place: Place, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the route that tells."""
    router = APIRouter(prefix="/v1", tags=["health"])

    @router.get(
        "/statistics",
        summary="What has the process that answers counted?",
        description="Each of several processes counts for itself: `slot` and `pid` say which one answered. A workspace "
        "sees what was counted for it; owners and operators of the workspace `default` see what was counted for all.",
        response_class=Response,
    )
    async def statistics(request: Request) -> Response:
        principal = principal_of(request)
        sees_all = _sees_all(principal)
        found = counts.snapshot() if sees_all else counts.of(principal.workspace)
        body: dict[str, object] = {"slot": place.slot, "pid": os.getpid(), "counts": found}
        if sees_all and place.supervised is not None:
            deaths, absent_seconds = place.supervised()
            body["workers"] = {"deaths": deaths, "absent_seconds": round(absent_seconds, 3)}
        return Response(msgspec.json.encode(body), media_type="application/json")

    return router


def _sees_all(principal: Principal) -> bool:
    is_operator = principal.role in _OPERATORS and principal.detectors is None
    return is_operator and principal.workspace == DEFAULT_WORKSPACE
