"""Routes of second factors: ending a sign-in that waits for one, one's own factors, and an owner's reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.api_users import Logins, check_json, check_user, cookie_of, said_of, session_answer, set_cookie
from discern.access.ports import Permit, PrincipalReader
from discern.access.rules import fingerprint
from discern.access.service_factors import Factors
from discern.access.service_sign_in import SignIn
from discern.access.service_users import Users, csrf_token
from discern.access.types_factors import (
    Challenge,
    ChallengeKind,
    Enrolment,
    Factor,
    FactorKind,
    FactorList,
    PendingSignIn,
    Proof,
    RecoveryCodes,
    Visitor,
)
from discern.routes import answers, body_of, json_answer

# Somebody else's endpoint that takes its time with codes holds up nobody but those who wait for one.
_ASKED_AT_A_TIME = 8
T = TypeVar("T")


class TicketChallenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor to be asked in a sign-in: the passkeys, or one telephone."""

    ticket: str
    kind: ChallengeKind
    factor_id: UUID | None = None


class TicketProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a factor answers, to end a sign-in."""

    ticket: str
    proof: Proof


class SessionChallenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor to be asked for a fresh proof: the passkeys, or one telephone."""

    kind: ChallengeKind
    factor_id: UUID | None = None


class SessionProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fresh proof: the password and, for whoever has one, a factor."""

    password: str
    proof: Proof | None = None


class FactorRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor to be enrolled. `number` is that of a telephone."""

    kind: FactorKind
    name: str
    number: str | None = None


class FactorConfirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first answer of a factor: a code, or what `navigator.credentials.create` gave, by its `toJSON()`."""

    code: str = ""
    credential: dict[str, Any] | None = None


class ConfirmedFactor(msgspec.Struct, frozen=True):
    """A factor that counts from here on. The session has another cookie and another token."""

    factor: Factor
    csrf_token: str


class FactorName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a factor is to be called."""

    name: str


FACTOR_SCHEMAS = (
    *(TicketChallenge, TicketProof, SessionChallenge, SessionProof, FactorRequest, FactorConfirmation, ConfirmedFactor),
    *(FactorName, Challenge, Enrolment, Factor, FactorList, PendingSignIn, Proof, RecoveryCodes),
)


def sign_in_routes(sign_in: SignIn, users: Users) -> APIRouter:
    """Return the routes that end a sign-in which waits for a factor."""
    router = APIRouter(prefix="/v1", tags=["access"])
    asking = CapacityLimiter(_ASKED_AT_A_TIME)

    @router.post(
        "/login/challenge", summary="Ask a second factor of mine", **said_of("TicketChallenge", "Challenge", 200)
    )
    async def ask_in_sign_in(request: Request) -> Response:
        check_json(request)
        asked = await body_of(request, TicketChallenge)
        found = await to_thread.run_sync(sign_in.ask, asked.ticket, asked.kind, asked.factor_id, limiter=asking)
        return json_answer(found)

    @router.post("/login/factor", summary="Show a second factor", **said_of("TicketProof", "SessionView", 201))
    async def finish_sign_in(request: Request) -> Response:
        check_json(request)
        asked = await body_of(request, TicketProof)
        agent = request.headers.get("user-agent", "")
        begun = await to_thread.run_sync(sign_in.finish, asked.ticket, asked.proof, agent)
        return await session_answer(request, users, begun)

    return router


def factor_routes(
    factors: Factors, users: Users, hashing: CapacityLimiter, *, principal_of: PrincipalReader
) -> APIRouter:
    """Return the routes of one's own factors."""
    router = APIRouter(prefix="/v1", tags=["access"])
    asking, proofs = CapacityLimiter(_ASKED_AT_A_TIME), Logins(hashing)

    def visiting(request: Request, do: Callable[[Visitor], T]) -> Callable[[], T]:
        principal, secret = principal_of(request), cookie_of(request)

        def visited() -> T:
            session = users.session_of(principal, secret)
            return do(Visitor(principal, session, fingerprint(secret)))

        return visited

    async def visit(request: Request, do: Callable[[Visitor], T], limiter: CapacityLimiter | None = None) -> T:
        return await to_thread.run_sync(visiting(request, do), limiter=limiter)

    @router.post("/session/proof", summary="Prove afresh who I am", **said_of("SessionProof", None, 204))
    async def prove_session(request: Request) -> Response:
        asked = await body_of(request, SessionProof)
        await proofs.run(visiting(request, lambda visitor: factors.prove(visitor, asked.password, asked.proof)))
        return Response(status_code=204)

    _add_challenge(router, factors, visit, asking)
    _add_changes(router, factors, visit)

    @router.get("/factors", summary="List my factors", response_class=Response, responses=answers("FactorList"))
    async def list_factors(request: Request) -> Response:
        return json_answer(await visit(request, factors.list))

    @router.post("/factors", summary="Begin to enrol a factor", **said_of("FactorRequest", "Enrolment", 201))
    async def enrol_factor(request: Request) -> Response:
        asked = await body_of(request, FactorRequest)

        def begin(visitor: Visitor) -> Enrolment:
            return factors.enrol(visitor, asked.kind, asked.name, asked.number)

        return json_answer(await visit(request, begin, asking), 201)

    @router.post(
        "/factors/{factor_id}/confirm",
        summary="Confirm a factor by its first answer",
        **said_of("FactorConfirmation", "ConfirmedFactor", 200),
    )
    async def confirm_factor(request: Request, factor_id: UUID) -> Response:
        asked = await body_of(request, FactorConfirmation)

        def confirmed(visitor: Visitor) -> tuple[Factor, str]:
            return factors.confirm(visitor, factor_id, asked.code, asked.credential)

        factor, secret = await visit(request, confirmed)
        answer = json_answer(ConfirmedFactor(factor, csrf_token(secret)))
        set_cookie(answer, request, secret)
        return answer

    return router


def _add_challenge(router: APIRouter, factors: Factors, visit: Callable[..., Any], asking: CapacityLimiter) -> None:
    @router.post(
        "/session/challenge", summary="Ask a factor of mine, here", **said_of("SessionChallenge", "Challenge", 200)
    )
    async def ask_in_session(request: Request) -> Response:
        asked = await body_of(request, SessionChallenge)

        def ask(visitor: Visitor) -> Challenge:
            return factors.ask(visitor, asked.kind, asked.factor_id)

        return json_answer(await visit(request, ask, asking))


def _add_changes(router: APIRouter, factors: Factors, visit: Callable[..., Any]) -> None:
    @router.patch("/factors/{factor_id}", summary="Name a factor", **said_of("FactorName", "Factor", 200))
    async def rename_factor(request: Request, factor_id: UUID) -> Response:
        asked = await body_of(request, FactorName)
        return json_answer(await visit(request, lambda visitor: factors.rename(visitor, factor_id, asked.name)))

    @router.delete("/factors/{factor_id}", summary="Remove a factor", status_code=204, response_class=Response)
    async def remove_factor(request: Request, factor_id: UUID) -> Response:
        await visit(request, lambda visitor: factors.remove(visitor, factor_id))
        return Response(status_code=204)

    @router.post(
        "/recovery-codes",
        summary="Make recovery codes in place of all others",
        status_code=201,
        response_class=Response,
        responses=answers("RecoveryCodes", 201),
    )
    async def make_recovery_codes(request: Request) -> Response:
        return json_answer(await visit(request, factors.make_recovery_codes), 201)


def reset_routes(factors: Factors, users: Users, permit: Permit, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the route by which an owner takes somebody's factors away."""
    router = APIRouter(prefix="/v1", tags=["access"])

    @router.delete(
        "/users/{user_id}/factors", summary="Remove all factors of a user", status_code=204, response_class=Response
    )
    async def reset_factors(request: Request, user_id: UUID) -> Response:
        principal = principal_of(request)

        def reset() -> None:
            user = users.get(principal.workspace, user_id)
            check_user(permit, principal, "users.change", str(user.id), user.role)
            factors.reset(user, principal)

        await to_thread.run_sync(reset)
        return Response(status_code=204)

    return router
