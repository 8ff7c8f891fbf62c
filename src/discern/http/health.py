"""Whether the process lives, and whether it can answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.responses import Response

from discern.core.errors import DiscernError

Ping = Callable[[], None]


def health_routes(
    parts: Mapping[str, Ping], is_draining: Callable[[], bool], beside: Mapping[str, Ping] | None = None
) -> APIRouter:
    """Return `/livez` and `/readyz`. Each part's ping raises a DiscernError while it cannot do its work.

    Of parts `beside` it is told how they are; without them most is answered all the same.
    """
    router = APIRouter(tags=["health"])
    others = beside or {}
    # Threads of its own: health is answered when those that serve requests are all taken.
    threads = CapacityLimiter(2)

    @router.get("/livez", summary="Does the process live?", response_class=Response)
    async def livez() -> Response:
        return _answer(200, {"status": "alive"})

    @router.get(
        "/readyz",
        summary="Can it answer?",
        response_class=Response,
        responses={503: {"description": "A part cannot do its work; `parts` says which."}},
    )
    async def readyz() -> Response:
        states = {name: await to_thread.run_sync(_state, ping, limiter=threads) for name, ping in parts.items()}
        if is_draining():
            states["server"] = "draining"
        ready = all(state == "ok" for state in states.values())
        states |= {name: await to_thread.run_sync(_state, ping, limiter=threads) for name, ping in others.items()}
        return _answer(200 if ready else 503, {"status": "ready" if ready else "not ready", "parts": states})

    return router


def _state(ping: Ping) -> str:
    try:
        ping()
    except DiscernError as error:
        # The path is open to anybody, so only the code is told; the log has the sentence.
        return error.code
    return "ok"


def _answer(status: int, body: dict[str, object]) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
