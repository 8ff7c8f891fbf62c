"""Routes of privacy. A subject's name stands in bodies alone, never in a path that would be logged."""

from __future__ import annotations

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.privacy.service_privacy import Privacy
from discern.privacy.types import PrivacyRules
from discern.routes import answers, body_of, json_answer, takes


class SubjectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which subject, by the name that questions give it."""

    subject: str


class ConsentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a subject has said, and where that can be looked up."""

    subject: str
    given: bool
    source: str = ""


class PrivacyState(msgspec.Struct, frozen=True):
    """What holds in a workspace, how many subjects are known in it, and how often one was erased."""

    rules: PrivacyRules
    subjects: int
    erasures: int


class PrivacyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to hold in a workspace."""

    consent_required: bool


def privacy_routes(privacy: Privacy, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/privacy", tags=["privacy"])

    def state(workspace: str) -> PrivacyState:
        return PrivacyState(privacy.rules(workspace), *privacy.counts(workspace))

    @router.get("", summary="What holds here", response_class=Response, responses=answers("PrivacyState"))
    async def show_privacy(request: Request) -> Response:
        return json_answer(await to_thread.run_sync(state, principal_of(request).workspace))

    @router.put(
        "",
        summary="Ask for consent, or no more",
        response_class=Response,
        responses=answers("PrivacyState"),
        openapi_extra=takes("PrivacyRequest"),
    )
    async def change_privacy(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, PrivacyRequest)

        def change() -> PrivacyState:
            privacy.set_rules(principal.workspace, PrivacyRules(asked.consent_required), principal)
            return state(principal.workspace)

        return json_answer(await to_thread.run_sync(change))

    @router.post(
        "/consents",
        summary="Record what a subject has said",
        status_code=201,
        response_class=Response,
        responses=answers("Consent", 201),
        openapi_extra=takes("ConsentRequest"),
    )
    async def record_consent(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, ConsentRequest)
        found = await to_thread.run_sync(
            lambda: privacy.record(
                principal.workspace, asked.subject, given=asked.given, source=asked.source, by=principal
            )
        )
        return json_answer(found, 201)

    _add_rights(router, privacy, principal_of)
    return router


def _add_rights(router: APIRouter, privacy: Privacy, principal_of: PrincipalReader) -> None:
    @router.post(
        "/export",
        summary="All that is kept of a subject",
        response_class=Response,
        responses=answers("SubjectExport"),
        openapi_extra=takes("SubjectRequest"),
    )
    async def export_subject(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, SubjectRequest)
        return json_answer(await to_thread.run_sync(privacy.export, principal.workspace, asked.subject, principal))

    @router.post(
        "/erase",
        summary="Forget a subject",
        description="What is kept of the subject cannot be read from then on, in backups either, and is deleted.",
        response_class=Response,
        responses=answers("Erasure"),
        openapi_extra=takes("SubjectRequest"),
    )
    async def erase_subject(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, SubjectRequest)
        return json_answer(await to_thread.run_sync(privacy.erase, principal.workspace, asked.subject, principal))
