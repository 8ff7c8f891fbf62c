"""Routes of signing in through identity providers.

- The attempt lives in a cookie of its own that no script can read; only the browser that began it can end it.
- A session's cookie is not sent along where another site sent the browser; so the browser is not redirected on the
  way back but given a page that leads on.
- Each provider has threads of its own: one that does not answer holds up nobody who signs in otherwise.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from discern.access.api_users import Logins, begin_in_browser, login_of, said_of, session_answer
from discern.access.rules_saml import MOST_BYTES
from discern.access.service_federation import ATTEMPT, Federation
from discern.access.service_users import Users
from discern.access.types_federation import Begun, ProviderList
from discern.core.errors import MalformedRequest, Overloaded, SlowSender
from discern.routes import answers, json_answer

SCHEMAS_FEDERATION = (ProviderList,)
_COOKIE, _SECURE_COOKIE = "discern_sign_in", "__Host-discern_sign_in"
_AT_A_TIME, _MOST_WAITING = 4, 40
_BODY_SECONDS = 10.0
T = TypeVar("T")


class _Threads:
    """Threads for the calls to one provider, and a bound to who waits for them."""

    def __init__(self) -> None:
        self._threads = CapacityLimiter(_AT_A_TIME)
        self._going_on = 0

    async def run(self, call: Callable[[], T]) -> T:
        if self._going_on >= _MOST_WAITING:
            raise Overloaded(
                f"As many as {_MOST_WAITING} are signing in through this provider.",
                mend="Try again in a few seconds, or sign in otherwise.",
                retry_after=2.0,
                limit="sign_ins",
                allowed=_MOST_WAITING,
            )
        self._going_on += 1
        try:
            return await to_thread.run_sync(call, limiter=self._threads)
        finally:
            self._going_on -= 1


def federation_routes(federation: Federation, users: Users) -> APIRouter:
    """Return the routes; nobody has to be signed in for them."""
    router = APIRouter(prefix="/v1", tags=["access"])
    threads = {name: _Threads() for name in federation.providers}
    logins = {name: Logins() for name in federation.providers}
    unknown = _Threads()

    @router.get(
        "/sign-in",
        summary="List the identity providers to sign in through",
        response_class=Response,
        responses=answers("ProviderList"),
    )
    async def list_providers() -> Response:
        return json_answer(ProviderList(tuple(federation.listed())))

    @router.get(
        "/sign-in/{provider}",
        summary="Sign in through OIDC or SAML: leads a browser to the provider",
        status_code=303,
        response_class=Response,
    )
    async def begin(request: Request, provider: str, next: str = "/") -> Response:  # noqa: A002 - its public name
        begun = await threads.get(provider, unknown).run(lambda: federation.begin(provider, next))
        answer = RedirectResponse(begun.url, 303)
        _keep(answer, request, begun, cross_site=federation.is_posted_back(provider))
        return answer

    @router.post("/sign-in/{provider}", summary="Sign in through a directory", **said_of("Login", "SessionView", 201))
    async def sign_in(request: Request, provider: str) -> Response:
        asked, agent = await login_of(request), request.headers.get("user-agent", "")
        check = partial(federation.sign_in, provider, asked.name, asked.password, agent)
        signed_in = await logins.get(provider, Logins()).run(check)
        return await session_answer(request, users, signed_in)

    _add_ways_back(router, federation, users, lambda name: threads.get(name, unknown))
    return router


def _add_ways_back(
    router: APIRouter, federation: Federation, users: Users, threads_of: Callable[[str], _Threads]
) -> None:
    """Add the routes that providers lead browsers back to, and what tells them of these."""

    async def finish(request: Request, provider: str, state: str, given: dict[str, str]) -> Response:
        sealed, agent = _kept(request), request.headers.get("user-agent", "")
        signed_in, path = await threads_of(provider).run(
            lambda: federation.finish(provider, sealed, state, given, agent)
        )
        answer = _leading_on(path)
        await begin_in_browser(answer, request, users, signed_in)
        for cookie in (_COOKIE, _SECURE_COOKIE):
            answer.delete_cookie(cookie, path="/", secure=cookie == _SECURE_COOKIE, httponly=True)
        return answer

    @router.get("/sign-in/{provider}/callback", summary="Where an OIDC provider leads back to", response_class=Response)
    async def callback(request: Request, provider: str) -> Response:
        given = _once(parse_qsl(request.url.query, keep_blank_values=True))
        return await finish(request, provider, given.get("state", ""), given)

    @router.post("/sign-in/{provider}/acs", summary="Where a SAML provider leads back to", response_class=Response)
    async def consume(request: Request, provider: str) -> Response:
        given = await _form_of(request)
        return await finish(request, provider, given.get("RelayState", ""), given)

    @router.get(
        "/sign-in/{provider}/metadata", summary="What a SAML provider wants to know of us", response_class=Response
    )
    async def metadata(provider: str) -> Response:
        return Response(federation.metadata(provider), media_type="application/samlmetadata+xml")


async def _form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises MalformedRequest and SlowSender."""
    content = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                # Base64 takes a third more, its escapes a little.
                if len(content) > 2 * MOST_BYTES:
                    raise MalformedRequest("The form is too large.", mend="Send the response alone.")
    except TimeoutError as error:
        raise SlowSender(f"The body took more than {_BODY_SECONDS:g} seconds.", mend="Send it faster.") from error
    try:
        return _once(parse_qsl(content.decode("ascii"), keep_blank_values=True, max_num_fields=20))
    except ValueError as error:
        raise MalformedRequest("The body is not a form.", mend="Send application/x-www-form-urlencoded.") from error


def _once(given: list[tuple[str, str]]) -> dict[str, str]:
    """Return fields by their names. Raises MalformedRequest for one that is there twice."""
    found = dict(given)
    if len(found) != len(given):
        raise MalformedRequest("A parameter is there twice.", mend="Send each once.")
    return found


def _keep(answer: Response, request: Request, begun: Begun, *, cross_site: bool) -> None:
    """Keep an attempt in the browser: sent back to us alone, also by another site's form where one will come."""
    secure = cross_site or request.scope["scheme"] == "https"
    answer.set_cookie(
        _SECURE_COOKIE if secure else _COOKIE,
        begun.sealed,
        max_age=int(ATTEMPT.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="none" if cross_site else "lax",
    )


def _kept(request: Request) -> str:
    if _SECURE_COOKIE in request.cookies or request.scope["scheme"] == "https":
        return request.cookies.get(_SECURE_COOKIE, "")
    return request.cookies.get(_COOKIE, "")


def _leading_on(path: str) -> Response:
    """Return a page that leads on to a path of ours."""
    where = html.escape(path, quote=True)
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Signed in</title>'
        f'<meta http-equiv="refresh" content="0; url={where}"></head>'
        f'<body><p>You are signed in. <a href="{where}">Go on</a>.</p></body></html>\n'
    )
    return Response(page, media_type="text/html")
