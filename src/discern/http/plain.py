"""Routes in front of the framework: a key, an endpoint, a problem document, nothing else.

The hot routes of detection stand here, because what the framework does for a request costs more than a small model.
They are in the OpenAPI document like the others.

- No endpoint is reached without a principal.
- An endpoint that raises one of our errors before it has answered is answered for with its problem document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discern.core.errors import DiscernError, NoSuchStream
from discern.core.measures import Measures
from discern.core.tracing import Tracer, piece
from discern.http.authentication import Authentication, principal_of, refuse
from discern.http.direct import DirectRoute
from discern.http.edge import Edge, Network
from discern.http.guards import Guards
from discern.http.inference_protocol import FOLDER, in_the_protocols_words
from discern.http.permissions import DETECT, NEEDS, admit, check, check_query, count, pattern_of
from discern.http.problems import answer_defect, method_not_allowed, note_refusal, problem_response

Drain = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PlainRoute:
    """One method of a path. `endpoint` is an ASGI application, `operation` its entry in the OpenAPI document."""

    method: str
    path: str
    endpoint: ASGIApp
    operation: Mapping[str, Any]

    @property
    def parameters(self) -> list[str]:
        """Names of the query parameters."""
        return [one["name"] for one in self.operation.get("parameters", ()) if one["in"] == "query"]


class Application(FastAPI):
    """FastAPI behind the plain routes. `draining` is set when the process has been told to stop."""

    draining = False
    drain_streams: Drain
    direct: DirectRoute

    def put_in_front(self, routes: Sequence[PlainRoute], guards: Guards) -> None:
        """Have `routes` answered before anything else is asked."""
        self.plain_routes = tuple(routes)
        self._permit, self._limits, self._subjects = guards.permit, guards.limits, guards.subjects
        self._quotas, self._counts = guards.quotas, guards.counts
        self._patterns = [
            (pattern_of(route.path).fullmatch, route, NEEDS[f"{route.method} {route.path}"]) for route in routes
        ]
        self._in_front = ServerErrorMiddleware(Authentication(self._answer, guards), handler=answer_defect)

    def put_edge_around(
        self, trusted: Sequence[Network], origins: Iterable[str], measures: Measures, tracer: Tracer
    ) -> None:
        """Have every request come in over an edge."""
        self._edge = Edge(self._route, trusted, origins, measures, tracer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._edge(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.draining:
            send = _closing(send)
        if scope["type"] == "websocket":
            await self._in_front_of_streams(scope, receive, send)
            return
        if scope["type"] == "http":
            if scope["path"].startswith(FOLDER):
                send = in_the_protocols_words(send)
            for matches, route, action in self._patterns:
                found = matches(scope["path"])
                if found is not None:
                    scope["path_params"] = found.groupdict()
                    scope["plain_route"] = route, action
                    await self._in_front(scope, receive, send)
                    return
        await super().__call__(scope, receive, send)

    def put_streams_in_front(self, path: str, endpoint: ASGIApp, guards: Guards, drain: Drain) -> None:
        """Have `endpoint` answer the WebSockets of `path`; `drain` ends them when the process is told to stop."""
        matches = pattern_of(path).fullmatch
        permit, limits = guards.permit, guards.limits

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            found = matches(scope["path"])
            try:
                if found is None:
                    raise NoSuchStream(f"There is no WebSocket at {scope['path'][:200]}.", mend=f"Use {path}.")
                scope["path_params"] = found.groupdict()
                await count(limits, scope, f"GET {path}", send)
                await check(permit, principal_of(scope), f"GET {path}", DETECT, found["name"])
                await admit(guards.subjects, scope)
                await endpoint(scope, receive, send)
            except DiscernError as error:
                await refuse(error, scope, receive, send)

        self.drain_streams = drain
        self._in_front_of_streams = Authentication(answer, guards)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, action = scope["plain_route"]
        if scope["method"] != route.method:
            await method_not_allowed(scope, route.method)(scope, receive, send)
            return
        try:
            asked = f"{route.method} {route.path}"
            with piece("permit"):
                telling = await count(self._limits, scope, asked, send, self._quotas)
                await check(self._permit, principal_of(scope), asked, action, scope["path_params"].get("name"))
                if action == DETECT:
                    await admit(self._subjects, scope)
                check_query(scope, route.parameters)
            await route.endpoint(scope, receive, telling)
        except DiscernError as error:
            note_refusal(error, self._counts, path=scope["path"])
            await problem_response(error)(scope, receive, send)


def _closing(send: Send) -> Send:
    """Return a `send` that tells the client to ask nothing more on this connection."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await send(message)

    return send_and_close
