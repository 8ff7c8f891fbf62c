"""What holds for every request and every answer, whichever route it is: where it came from, and what a browser may do.

- A request has an id: the caller's `X-Request-Id` where it is a plain word, else one of ours. It is in the answer and
  on the audit log.
- The address is the peer's. Behind a proxy of `trusted_proxies` it is the last one in `X-Forwarded-For` that is none
  of these: what stands before it, anybody may have written.
- The answer to a request that is traced says so: `traceresponse` has the id of its trace (W3C Trace Context, level 2).
- No answer is framed, sniffed, run with inline script, or kept by a cache unless a route says so.
- Other sites' pages read answers and open streams only where their origin stands in `cors_origins`; keys in cookies are
  not sent there.

Answers to records that come whole in one read go another way (`http/direct.py`) and carry what the server adds to all.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from discern.core.errors import Forbidden
from discern.core.ids import uuid7_text
from discern.core.measures import Measures
from discern.core.origin import Origin, set_origin
from discern.core.tracing import Trace, Tracer, code_of
from discern.http.authentication import refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PLAIN_WORD = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_DURATION = "discern_http_request_duration_seconds"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
STANDING_HEADERS = (("x-content-type-options", "nosniff"),)
"""What the server adds to every answer."""


def standing_headers(*, tls: bool, subdomains: bool) -> list[tuple[str, str]]:
    """Return what the server adds to every answer; with TLS, that browsers come by TLS for a year (RFC 6797)."""
    transport = "max-age=31536000; includeSubDomains" if subdomains else "max-age=31536000"
    return [*STANDING_HEADERS, *([("strict-transport-security", transport)] if tls else [])]


class Edge:
    """ASGI application around another."""

    def __init__(
        self, app: ASGIApp, trusted: Sequence[Network], origins: Iterable[str], measures: Measures, tracer: Tracer
    ) -> None:
        self._measures, self._tracer = measures, tracer
        self._trusted = trusted
        allowed = tuple(origins)
        self._app = app
        self._origins = frozenset(origin.encode() for origin in allowed)
        if allowed:
            self._app = CORSMiddleware(
                app,
                allow_origins=allowed,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Discern-Subject", "X-CSRF-Token", "X-Request-Id"],
                expose_headers=["Location", "Retry-After", "X-Request-Id"],
                max_age=600,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, see to its answer, and note how long it took."""
        if scope["type"] != "http":
            await self._pass_on(scope, receive, send)
            return
        started, status, failed = time.perf_counter(), "", ""

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._pass_on(scope, receive, send_noted)
        except Exception as error:
            failed = code_of(error)
            raise
        finally:
            trace = trace_of(scope)
            if trace is not None:
                self._end(trace, scope, status, failed)
            if status:
                method = scope["method"] if scope["method"] in _METHODS else ""
                self._measures.noting(_DURATION, method, _route_of(scope), status)(time.perf_counter() - started)

    def _end(self, trace: Trace, scope: Scope, status: str, failed: str) -> None:
        trace.ended, route = time.perf_counter(), _route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        trace.name = f"{method} {route}".rstrip()
        trace.attributes |= {"http.request.method": method, "http.route": route}
        if status:
            trace.attributes["http.response.status_code"] = int(status)
        trace.failed = failed or (status if status.startswith("5") else "") or ("" if status else "no_answer")
        self._tracer.end(trace)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        forwarded = asked = scheme = host = page = b""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded = forwarded + b"," + value if forwarded else value
            elif name == b"x-request-id":
                asked = value
            elif name == b"x-forwarded-proto":
                scheme = value
            elif name == b"host":
                host = value
            elif name == b"origin":
                page = value
        request_id = asked if _PLAIN_WORD(asked) else uuid7_text().encode()
        peer = scope["client"][0] if scope.get("client") else ""
        if scheme == b"https" and self._trusted and _is_among(peer, self._trusted):
            scope["scheme"] = "https"  # the proxy ended TLS
        set_origin(Origin(client_address(peer, forwarded, self._trusted), request_id.decode()))

        async def send_hardened(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                message["headers"] = _completed(message.get("headers", ()), request_id, trace_of(scope))
            await send(message)

        # CORS does not hold for WebSockets: a browser opens one for any page, and shows its certificate for it.
        if page and scope["type"] == "websocket" and page not in self._origins and page.partition(b"://")[2] != host:
            error = Forbidden(
                "The page that opens this stream is of another site.",
                mend="Put its origin into DISCERN_CORS_ORIGINS, or open the stream without a browser.",
            )
            await refuse(error, scope, receive, send_hardened)
            return
        await self._app(scope, receive, send_hardened)


def trace_of(scope: Scope) -> Trace | None:
    """Return the trace of a request, None where it is not traced."""
    found: Trace | None = scope.get("state", {}).get("trace")
    return found


def _route_of(scope: Scope) -> str:
    """Return the template of the route that a request met; nothing of what the caller wrote."""
    if "plain_route" in scope:
        path: str = scope["plain_route"][0].path
        return path
    return str(scope.get("refused_route") or getattr(scope.get("route"), "path", ""))


def client_address(peer: str, forwarded: bytes, trusted: Sequence[Network]) -> str:
    """Return the address a request comes from, `peer` unless that is a trusted proxy which says otherwise."""
    if not trusted or not forwarded or not _is_among(peer, trusted):
        return peer
    for part in reversed(forwarded.decode("latin-1").split(",")):
        address = part.strip()
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return peer  # not what a proxy writes
        if not _is_among(address, trusted):
            return address
        peer = address
    return peer


def _is_among(address: str, networks: Sequence[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


def _completed(
    headers: Iterable[tuple[bytes, bytes]], request_id: bytes, trace: Trace | None
) -> list[tuple[bytes, bytes]]:
    there = list(headers)
    names = {name.lower() for name, _ in there}
    there += [header for header in _HEADERS if header[0] not in names]
    if b"cache-control" not in names:
        there.append((b"cache-control", b"no-store"))
    there.append((b"x-request-id", request_id))
    if trace is not None:
        there.append((b"traceresponse", trace.header.encode()))
    return there
