"""No request passes without a principal, but to the few open paths.

- A path is closed unless it stands in OPEN_PATHS; a route added later is closed without anybody thinking of it.
- A cookie is looked at where no key is sent, and never for a WebSocket, which other sites' pages may open.
- A request is traced from here on, if it is: what is traced, nobody decides who has shown no key.
- The key is checked before a byte of the body is read, and requests of an address are counted before the key is.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from anyio import to_thread
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from discern.access.api_users import cookie_of
from discern.access.service import Keys
from discern.access.service_tokens import looks_like_a_token
from discern.access.service_users import csrf_token
from discern.access.types import Principal
from discern.core.errors import DiscernError, MissingCsrfToken, StorageUnavailable, Unauthenticated
from discern.core.origin import origin, set_origin
from discern.core.tracing import Piece, Trace, Tracer, set_trace
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.http.guards import Guards
from discern.http.problems import problem_response

_HARMLESS = {"GET", "HEAD", "OPTIONS"}
_SIGNING_IN, _SIGN_IN = frozenset({"/v1/login", "/v1/login/challenge", "/v1/login/factor"}), "/v1/sign-in/"
_HEALTH = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = (
    frozenset({"/", "/docs", "/docs/start.js", "/openapi.json", "/.well-known/jwks.json", "/v1/sign-in"})
    | _SIGNING_IN
    | _HEALTH
)
_METRICS = "/metrics"
# What `metrics_token` makes of whoever sends it, for that path alone.
_SCRAPER = Principal("metrics", DEFAULT_WORKSPACE, "auditor")
_BEARER_OFFER = "bearer."
KeyCheck = Callable[[], Awaitable[bool]]
OPEN_FOLDERS = ("/docs/files/", _SIGN_IN)


class _Shown(NamedTuple):
    """What a request shows of who asks, what tells whether that is good, and the secret or the cookie that it is."""

    kind: Literal["key", "token", "certificate", "session", "none"]
    ask: Callable[[], Principal]
    secret: str | None = None
    cookie: str = ""


class Authentication:
    """ASGI middleware that puts the principal into `scope["state"]`."""

    def __init__(self, app: ASGIApp, guards: Guards) -> None:
        self._app = app
        self._keys, self._users, self._tokens, self._limits = guards.keys, guards.users, guards.tokens, guards.limits
        self._counts, self._metrics_token = guards.counts, guards.metrics_token.encode()
        self._tracer = guards.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 unless the path is open or the key is good."""
        if scope["type"] == "lifespan" or is_open(scope["path"]):
            if scope["type"] == "http" and is_login(scope["path"]) and self._limits.rules:
                try:
                    await self._limits.hit("", origin().address, None)
                except DiscernError as error:
                    await refuse(error, scope, receive, send)
                    return
            await self._app(scope, receive, send)
            return
        arrived, shown = time.perf_counter(), self._shown(scope)
        try:
            if self._limits.rules and not was_counted(scope):
                await self._limits.hit("", origin().address, None)
            principal = self._keys.remembered(shown.secret)
            if principal is None:
                principal = await to_thread.run_sync(shown.ask)
            if shown.kind == "session":
                _check_csrf(scope, shown.cookie)
            elif shown.kind == "certificate":
                _check_site(scope)
        except DiscernError as error:
            if isinstance(error, Unauthenticated | MissingCsrfToken):
                self._counts.add(f"authentication.{shown.kind if isinstance(error, Unauthenticated) else 'csrf'}")
            await refuse(error, scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["principal"] = principal
        set_origin(origin()._replace(workspace=principal.workspace))
        if scope["type"] == "http" and self._tracer.is_on:
            begin_trace(self._tracer, scope, arrived)
        if scope["type"] == "websocket":
            state["key_is_good"] = partial(self._is_good, shown.ask)
        await self._app(scope, receive, send)

    def _shown(self, scope: Scope) -> _Shown:
        """Return what a request shows: a key or a token before a client certificate, and that before a cookie."""
        secret = _bearer(scope) or _offered(scope)
        if secret is not None and scope["path"] == _METRICS and self._is_the_metrics_token(secret):
            return _Shown("token", lambda: _SCRAPER)
        if secret is not None and looks_like_a_token(secret):
            return _Shown("token", partial(self._tokens.authenticate, secret), secret)
        if secret is not None:
            return _Shown("key", partial(self._keys.authenticate, secret), secret)
        certificate: str | None = scope.get("state", {}).get("certificate")
        if certificate is not None:
            return _Shown("certificate", partial(self._keys.authenticate_certificate, certificate))
        cookie = session_cookie(scope) if scope["type"] == "http" else None
        if cookie is not None:
            return _Shown("session", partial(self._users.authenticate, cookie), cookie=cookie)
        return _Shown("none", partial(self._keys.authenticate, None))

    def _is_the_metrics_token(self, secret: str) -> bool:
        return bool(self._metrics_token) and hmac.compare_digest(secret.encode(), self._metrics_token)

    @staticmethod
    async def _is_good(ask: Callable[[], Principal]) -> bool:
        """Tell whether a key that was good still is; where the database does not answer, it is."""
        try:
            await to_thread.run_sync(ask)
        except Unauthenticated:
            return False
        except StorageUnavailable:
            return True
        return True


async def refuse(error: DiscernError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a problem document, also where a WebSocket was to be opened."""
    response = problem_response(error)
    if scope["type"] == "websocket":
        await send(
            {"type": "websocket.http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await send({"type": "websocket.http.response.body", "body": bytes(response.body)})
        return
    await response(scope, receive, send)


def begin_trace(tracer: Tracer, scope: Scope, arrived: float) -> None:
    """Begin the trace of a request that came at `arrived`, by `perf_counter`, unless it is not traced."""
    state = scope["state"]
    sampled = state["sampled"] if "sampled" in state else tracer.sample(scope["headers"])
    if sampled is None:
        return
    trace = state["trace"] = Trace.begun(sampled)
    trace.started = arrived
    trace.add(Piece("authenticate", arrived, time.perf_counter(), {}))
    found = origin()._replace(trace_id=trace.trace_id, span_id=trace.span_id)
    set_origin(found)
    trace.attributes |= {"discern.request": found.request_id, "discern.workspace": found.workspace}
    set_trace(trace)


def key_check_of(scope: Scope) -> KeyCheck:
    """Return what tells whether the key of a WebSocket is still good."""
    check: KeyCheck = scope["state"]["key_is_good"]
    return check


def session_cookie(scope: Scope) -> str | None:
    """Return the secret of a session that a request brings in its cookie."""
    return cookie_of(HTTPConnection(scope)) or None


def _check_csrf(scope: Scope, secret: str) -> None:
    """Raise MissingCsrfToken where a request may change something and could be another site's."""
    if scope["method"] in _HARMLESS:
        return
    sent = next((value for name, value in scope["headers"] if name == b"x-csrf-token"), b"")
    if not hmac.compare_digest(sent, csrf_token(secret).encode()):
        raise MissingCsrfToken(
            "A request by cookie that changes something needs the header X-CSRF-Token.",
            mend="Send `csrf_token` of POST /v1/login or GET /v1/session.",
        )


def _check_site(scope: Scope) -> None:
    """Raise MissingCsrfToken where a page has a browser show its client certificate to change something."""
    if scope["type"] != "http" or scope["method"] in _HARMLESS:
        return
    headers = dict(scope["headers"])
    if headers.get(b"sec-fetch-site", b"none") not in {b"same-origin", b"none"} or b"origin" in headers:
        raise MissingCsrfToken(
            "A client certificate that a page has shown changes nothing.", mend="Send a key, or ask without a browser."
        )


def was_counted(scope: Scope) -> bool:
    """Tell whether a request was counted against the rate limits before it came here."""
    return "counted" in scope.get("state", {})


def is_open(path: str) -> bool:
    """Tell whether a path is answered without a key: health, the description of the API, and signing in."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def is_login(path: str) -> bool:
    """Tell whether a path is one that people sign in by, which counts against the limits of an address."""
    return path in _SIGNING_IN or path.startswith(_SIGN_IN)


def principal_of(request: Any) -> Principal:  # noqa: ANN401 - a Starlette connection, or its scope
    """Return who asks. Raises KeyError outside the middleware, which no route can be."""
    scope = request if isinstance(request, dict) else request.scope
    principal = scope["state"]["principal"]
    assert isinstance(principal, Principal)  # noqa: S101 - put there by the middleware
    return principal


def principal_at_once(headers: list[tuple[bytes, bytes]], keys: Keys) -> Principal | None:
    """Return who sends a request with these headers where that is remembered; None where it has to be asked."""
    return keys.remembered(_bearer({"headers": headers}))


def _offered(scope: Scope) -> str | None:
    """Return the key that a browser sends as a subprotocol, `bearer.KEY`, for it cannot set headers."""
    offers = (offer for offer in scope.get("subprotocols") or () if offer.startswith(_BEARER_OFFER))
    return next((offer.removeprefix(_BEARER_OFFER) for offer in offers), None)


def _bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None
