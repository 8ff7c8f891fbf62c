"""Routes of access: who am I, and API keys.

- A secret is in the answer that makes it and nowhere else.
- A key of another workspace is as good as none.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import Permit, PrincipalReader
from discern.access.service import Keys
from discern.access.service_tokens import Tokens, looks_like_a_token
from discern.access.types import Action, ApiKey, IssuedKey, Principal, Resource, Role
from discern.core.clock import utc_now
from discern.core.errors import CallerError, MalformedRequest
from discern.routes import answers, body_of, json_answer, takes


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made: for all detectors unless some are named, for ever unless it is to end."""

    name: str
    role: Role = "service"
    detectors: tuple[str, ...] | None = None
    expires_in_seconds: int | None = None


class KeyList(msgspec.Struct, frozen=True):
    """The keys of a workspace, oldest first, ended ones too."""

    keys: tuple[ApiKey, ...]


def access_routes(keys: Keys, tokens: Tokens, permit: Permit, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes of keys, and the one that tells who asks."""
    router = APIRouter(prefix="/v1", tags=["access"])

    @router.get("/whoami", summary="Who am I here?", response_class=Response, responses=answers("Principal"))
    async def whoami(request: Request) -> Response:
        return json_answer(principal_of(request))

    @router.get("/keys", summary="List the keys", response_class=Response, responses=answers("KeyList"))
    async def list_keys(request: Request) -> Response:
        found = await to_thread.run_sync(keys.list, principal_of(request).workspace)
        return json_answer(KeyList(tuple(found)))

    @router.post(
        "/keys",
        summary="Make a key",
        status_code=201,
        response_class=Response,
        responses=answers("IssuedKey", 201),
        openapi_extra=takes("KeyRequest"),
    )
    async def create_key(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, KeyRequest)

        def create() -> IssuedKey:
            about = Resource("Key", "new", principal.workspace, role=asked.role)
            permit.check(principal, "keys.create", about)
            return keys.issue(
                principal.workspace,
                asked.name,
                role=asked.role,
                detectors=asked.detectors,
                expires_at=_end(asked),
                by=principal,
            )

        return json_answer(await to_thread.run_sync(create), 201)

    @router.post(
        "/tokens",
        summary="Get a short-lived token for this key",
        status_code=201,
        response_class=Response,
        responses=answers("Token", 201),
    )
    async def create_token(request: Request) -> Response:
        if looks_like_a_token(request.headers.get("authorization", "").partition(" ")[2].strip()):
            raise CallerError("A token gets no further token.", mend="Ask with the API key.")
        return json_answer(await to_thread.run_sync(tokens.issue, principal_of(request)), 201)

    _add_public_keys(router, tokens)
    _add_ends(router, keys, permit, principal_of)
    return router


def _add_public_keys(router: APIRouter, tokens: Tokens) -> None:
    async def public_keys() -> Response:
        body = await to_thread.run_sync(tokens.public_keys)
        return Response(body, media_type="application/jwk-set+json", headers={"Cache-Control": "max-age=60"})

    # Where verifiers look for it (RFC 8615), beside the routes of this version.
    wellknown = APIRouter(tags=["access"])
    wellknown.get("/.well-known/jwks.json", summary="What verifies the tokens", response_class=Response)(public_keys)
    router.routes.extend(wellknown.routes)


def _add_ends(router: APIRouter, keys: Keys, permit: Permit, principal_of: PrincipalReader) -> None:
    @router.post(
        "/keys/{key_id}/rotate",
        summary="Replace a key by another that may do the same",
        status_code=201,
        response_class=Response,
        responses=answers("IssuedKey", 201),
    )
    async def rotate_key(
        request: Request, key_id: UUID, overlap_seconds: Annotated[int, Query(ge=0, le=2_592_000)] = 86_400
    ) -> Response:
        principal = principal_of(request)

        def rotate() -> IssuedKey:
            _check(keys, permit, principal, "keys.rotate", key_id)
            return keys.rotate(principal.workspace, key_id, timedelta(seconds=overlap_seconds), principal)

        return json_answer(await to_thread.run_sync(rotate), 201)

    @router.delete("/keys/{key_id}", summary="Revoke a key", status_code=204, response_class=Response)
    async def revoke_key(request: Request, key_id: UUID) -> Response:
        principal = principal_of(request)

        def revoke() -> None:
            _check(keys, permit, principal, "keys.revoke", key_id)
            keys.revoke(principal.workspace, key_id, principal)

        await to_thread.run_sync(revoke)
        return Response(status_code=204)


def _check(keys: Keys, permit: Permit, principal: Principal, action: Action, key_id: UUID) -> None:
    key = keys.get(principal.workspace, key_id)
    permit.check(principal, action, Resource("Key", str(key.id), key.workspace, role=key.role))


def _end(asked: KeyRequest) -> datetime | None:
    seconds = asked.expires_in_seconds
    if seconds is None:
        return None
    if not 0 < seconds <= 10 * 366 * 86_400:
        raise MalformedRequest(f"expires_in_seconds is {seconds}.", mend="Give seconds within ten years.")
    return utc_now() + timedelta(seconds=seconds)
