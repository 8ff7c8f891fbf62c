"""Routes of users: signing in and out, one's own sessions and password, and the users of a workspace.

- A session lives in a cookie that no script can read and no other site's page sends along.
- Signing in answers a wrong name, a wrong password and a locked name alike.
- Where there is a second factor, the right password is answered with a ticket and no cookie.
- Whatever hashes a password does so in threads of its own: hashing is slow on purpose, and nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response

from discern.access.ports import Permit, PrincipalReader
from discern.access.service_sign_in import SignIn
from discern.access.service_users import LONGEST, Users, csrf_token
from discern.access.types import Action, Principal, Resource, Role, Session, SignedIn, User
from discern.access.types_factors import PendingSignIn
from discern.core.errors import Overloaded, UnsupportedInput, WrongPassword
from discern.routes import answers, body_of, json_answer, takes

HASHED_AT_A_TIME = 2
_MOST_WAITING = 40
_REFUSAL_SECONDS = 0.1
COOKIE, SECURE_COOKIE = "discern_session", "__Host-discern_session"
T = TypeVar("T")


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name and a password."""

    name: str
    password: str


class SessionView(msgspec.Struct, frozen=True):
    """Who is signed in. Requests by cookie that change something send `csrf_token` as the header `X-CSRF-Token`."""

    principal: Principal
    session: Session
    csrf_token: str


class SessionList(msgspec.Struct, frozen=True):
    """The live sessions of whoever asks, newest first."""

    sessions: tuple[Session, ...]


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password as it is, and as it is to be."""

    old: str
    new: str


class UserRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user to be made: for all detectors unless some are named."""

    name: str
    password: str
    role: Role
    detectors: tuple[str, ...] | None = None


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different about a user; what is left out stays. `detectors` null means all."""

    role: Role | None = None
    detectors: tuple[str, ...] | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | None = None
    password: str | None = None


class UserList(msgspec.Struct, frozen=True):
    """The users of a workspace, oldest first."""

    users: tuple[User, ...]


SCHEMAS = (Login, SessionView, SessionList, PasswordChange, UserRequest, UserChange, UserList, User)


def session_routes(
    users: Users, sign_in: SignIn, hashing: CapacityLimiter, *, principal_of: PrincipalReader
) -> APIRouter:
    """Return the routes of signing in and of one's own sessions."""
    router = APIRouter(prefix="/v1", tags=["access"])
    logins, changes = Logins(hashing), Logins(hashing)

    @router.post("/login", summary="Sign in", **_login_operation())
    async def login(request: Request) -> Response:
        asked, agent = await login_of(request), request.headers.get("user-agent", "")
        found = await logins.run(partial(sign_in.begin, asked.name, asked.password, agent))
        if isinstance(found, PendingSignIn):
            return json_answer(found, 202)
        return await session_answer(request, users, found)

    @router.get("/session", summary="Who is signed in here?", response_class=Response, responses=answers("SessionView"))
    async def show_session(request: Request) -> Response:
        principal, secret = principal_of(request), cookie_of(request)
        session = await to_thread.run_sync(users.session_of, principal, secret)
        return json_answer(SessionView(principal, session, csrf_token(secret)))

    @router.delete("/session", summary="Sign out", status_code=204, response_class=Response)
    async def logout(request: Request) -> Response:
        principal = principal_of(request)
        session = await to_thread.run_sync(users.session_of, principal, cookie_of(request))
        await to_thread.run_sync(users.end, principal, session.id)
        answer = Response(status_code=204, headers={"Clear-Site-Data": '"storage"'})
        secure = request.scope["scheme"] == "https"
        answer.delete_cookie(SECURE_COOKIE if secure else COOKIE, secure=secure, httponly=True, samesite="strict")
        return answer

    @router.get("/sessions", summary="List my sessions", response_class=Response, responses=answers("SessionList"))
    async def list_sessions(request: Request) -> Response:
        return json_answer(SessionList(await to_thread.run_sync(users.sessions, principal_of(request))))

    @router.delete("/sessions/{session_id}", summary="End one of my sessions", status_code=204, response_class=Response)
    async def end_session(request: Request, session_id: UUID) -> Response:
        await to_thread.run_sync(users.end, principal_of(request), session_id)
        return Response(status_code=204)

    @router.post("/password", summary="Change my password", **said_of("PasswordChange", None, 204))
    async def change_password(request: Request) -> Response:
        asked = await body_of(request, PasswordChange)
        await changes.run(partial(users.change_own_password, principal_of(request), asked.old, asked.new))
        return Response(status_code=204)

    return router


def user_routes(users: Users, permit: Permit, hashing: CapacityLimiter, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes of the users of a workspace."""
    router = APIRouter(prefix="/v1", tags=["access"])
    passwords = Logins(hashing)

    @router.get("/users", summary="List the users", response_class=Response, responses=answers("UserList"))
    async def list_users(request: Request) -> Response:
        found = await to_thread.run_sync(users.list, principal_of(request).workspace)
        return json_answer(UserList(tuple(found)))

    @router.post("/users", summary="Make a user", **said_of("UserRequest", "User", 201))
    async def create_user(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, UserRequest)

        def create() -> User:
            check_user(permit, principal, "users.create", "new", asked.role)
            return users.create(
                principal.workspace,
                asked.name,
                asked.password,
                role=asked.role,
                detectors=asked.detectors,
                by=principal,
            )

        return json_answer(await passwords.run(create), 201)

    @router.patch("/users/{user_id}", summary="Change a user; their sessions end", **said_of("UserChange", "User", 200))
    async def change_user(request: Request, user_id: UUID) -> Response:
        principal, asked = principal_of(request), await body_of(request, UserChange)

        def change() -> User:
            user = users.get(principal.workspace, user_id)
            check_user(permit, principal, "users.change", str(user.id), user.role)
            if asked.role is not None:
                check_user(permit, principal, "users.change", str(user.id), asked.role)
            return users.change(
                user,
                role=asked.role,
                detectors=None if asked.detectors is msgspec.UNSET else asked.detectors,
                all_detectors=asked.detectors is None,
                disabled=asked.disabled,
                password=asked.password,
                by=principal,
            )

        if asked.password is None:
            return json_answer(await to_thread.run_sync(change))
        return json_answer(await passwords.run(change))

    return router


def cookie_of(request: HTTPConnection) -> str:
    """Return the secret of a session that a request brings, or an empty string."""
    # Over HTTPS only the cookie that is bound to this host: another could have been set by a neighbour.
    return request.cookies.get(SECURE_COOKIE if request.scope["scheme"] == "https" else COOKIE, "")


async def login_of(request: Request) -> Login:
    """Return the name and the password that a request brings. Raises UnsupportedInput, and what `body_of` does."""
    check_json(request)
    return await body_of(request, Login)


class Logins:
    """Those who bring a password of one kind, to sign in or for something else: not too many of them wait.

    `threads` may be shared with other kinds, which then wait for each other but keep nobody of another kind out.
    """

    def __init__(self, threads: CapacityLimiter | None = None) -> None:
        self._threads = threads or CapacityLimiter(HASHED_AT_A_TIME)
        self._going_on = 0

    async def run(self, check: Callable[[], T]) -> T:
        """Return what `check` makes of a password. Raises Overloaded where too many are at it."""
        if self._going_on >= _MOST_WAITING:
            raise Overloaded(
                f"As many as {_MOST_WAITING} passwords are being checked.",
                mend="Try again in a few seconds.",
                retry_after=2.0,
                limit="logins",
                allowed=_MOST_WAITING,
            )
        started = time.monotonic()
        try:
            self._going_on += 1
            try:
                return await to_thread.run_sync(check, limiter=self._threads)
            finally:
                self._going_on -= 1
        except WrongPassword:
            # Writing down a failure takes time, and only a name that exists has one.
            await asyncio.sleep(_REFUSAL_SECONDS - (time.monotonic() - started) % _REFUSAL_SECONDS)
            raise


def check_json(request: Request) -> None:
    """Raise UnsupportedInput for a body that is not said to be JSON."""
    # Another site's page can send a form, but not JSON without our leave: nobody is signed in by it unawares.
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise UnsupportedInput("A login is JSON.", mend="Send the header `Content-Type: application/json`.")


async def session_answer(request: Request, users: Users, signed_in: SignedIn) -> Response:
    """Return the answer that begins a session in a browser, and end the one that it brought along."""
    view = SessionView(signed_in.principal, signed_in.session, signed_in.csrf_token)
    answer = json_answer(view, 201)
    await begin_in_browser(answer, request, users, signed_in)
    return answer


async def begin_in_browser(answer: Response, request: Request, users: Users, signed_in: SignedIn) -> None:
    """Have a browser keep a session instead of the one that it brought along, which ends."""
    await to_thread.run_sync(users.end_brought_along, cookie_of(request))
    set_cookie(answer, request, signed_in.secret)


def set_cookie(answer: Response, request: Request, secret: str) -> None:
    """Have a browser keep the secret of a session."""
    secure = request.scope["scheme"] == "https"
    answer.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        secret,
        max_age=int(LONGEST.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def check_user(permit: Permit, principal: Principal, action: Action, user_id: str, role: Role) -> None:
    """Raise Forbidden unless somebody may do something to a user of a role."""
    permit.check(principal, action, Resource("User", user_id, principal.workspace, role=role))


def said_of(given: str, answered: str | None, status: int) -> dict[str, Any]:
    """Return what a route says of itself that takes JSON."""
    said: dict[str, Any] = {"status_code": status, "response_class": Response, "openapi_extra": takes(given)}
    return said if answered is None else said | {"responses": answers(answered, status)}


def _login_operation() -> dict[str, Any]:
    said = said_of("Login", "SessionView", 201)
    return said | {"responses": said["responses"] | answers("PendingSignIn", 202)}
