"""Routes of alerts and silences."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.alerts.service import AlertDesk
from discern.alerts.types import (
    Acknowledgement,
    Alert,
    AlertDetails,
    AlertPage,
    AlertState,
    ChannelTest,
    NoticeDelivery,
    Silence,
    SilenceChange,
    SilenceList,
    SilenceRequest,
)
from discern.routes import answers, body_of, json_answer, takes

SCHEMAS = (
    *(Alert, AlertPage, AlertDetails, Acknowledgement),
    *(Silence, SilenceList, SilenceRequest, SilenceChange, ChannelTest, NoticeDelivery),
)
# A channel that hangs must not take the threads that others are answered by.
_TESTS_AT_A_TIME = 2


def alert_routes(desk: AlertDesk, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes of alerts."""
    router = APIRouter(prefix="/v1", tags=["alerts"])
    trying = CapacityLimiter(_TESTS_AT_A_TIME)

    @router.get(
        "/alerts",
        summary="Which alerts are there, newest first?",
        description="A workspace sees the alerts that name it; owners and operators of the workspace `default` also "
        "see those that concern the installation.",
        response_class=Response,
        responses=answers("AlertPage"),
    )
    async def list_alerts(
        request: Request,
        state: AlertState | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: UUID | None = None,
    ) -> Response:
        return json_answer(await to_thread.run_sync(desk.page, principal_of(request), limit, after, state))

    @router.post(
        "/alerts/test",
        summary="Send a notice by one channel, to try it",
        response_class=Response,
        responses=answers("NoticeDelivery", description="What came of it."),
        openapi_extra=takes("ChannelTest"),
    )
    async def test_channel(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, ChannelTest)
        tried = to_thread.run_sync(desk.test, principal, asked.channel, limiter=trying, abandon_on_cancel=True)
        return json_answer(await tried)

    @router.get(
        "/alerts/{alert_id}",
        summary="One alert, what happened to it, and how it was told",
        response_class=Response,
        responses=answers("AlertDetails"),
    )
    async def show_alert(request: Request, alert_id: UUID) -> Response:
        return json_answer(await to_thread.run_sync(desk.details, principal_of(request), alert_id))

    @router.post(
        "/alerts/{alert_id}/acknowledge",
        summary="Say that somebody sees to it: it is neither repeated nor escalated",
        response_class=Response,
        responses=answers("Alert"),
        openapi_extra=takes("Acknowledgement"),
    )
    async def acknowledge_alert(request: Request, alert_id: UUID) -> Response:
        principal, asked = principal_of(request), await body_of(request, Acknowledgement)
        return json_answer(await to_thread.run_sync(desk.acknowledge, principal, alert_id, asked.comment))

    _add_silences(router, desk, principal_of)
    return router


def _add_silences(router: APIRouter, desk: AlertDesk, principal_of: PrincipalReader) -> None:
    one = "/silences/{silence_id}"

    @router.get(
        "/silences", summary="Which silences are there?", response_class=Response, responses=answers("SilenceList")
    )
    async def list_silences(request: Request) -> Response:
        return json_answer(await to_thread.run_sync(desk.silences, principal_of(request)))

    @router.post(
        "/silences",
        summary="Tell nobody of some alerts for a time",
        response_class=Response,
        responses=answers("Silence", 201),
        openapi_extra=takes("SilenceRequest"),
    )
    async def add_silence(request: Request) -> Response:
        principal, asked = principal_of(request), await body_of(request, SilenceRequest)
        return json_answer(await to_thread.run_sync(desk.add_silence, principal, asked), 201)

    @router.get(one, summary="One silence", response_class=Response, responses=answers("Silence"))
    async def show_silence(request: Request, silence_id: UUID) -> Response:
        return json_answer(await to_thread.run_sync(desk.silence, principal_of(request), silence_id))

    @router.patch(
        one,
        summary="Let a silence end at another time, or say why it is there",
        response_class=Response,
        responses=answers("Silence"),
        openapi_extra=takes("SilenceChange"),
    )
    async def change_silence(request: Request, silence_id: UUID) -> Response:
        principal, asked = principal_of(request), await body_of(request, SilenceChange)
        return json_answer(await to_thread.run_sync(desk.change_silence, principal, silence_id, asked))

    @router.delete(one, summary="End a silence", response_class=Response, responses=answers("Silence"))
    async def end_silence(request: Request, silence_id: UUID) -> Response:
        return json_answer(await to_thread.run_sync(desk.end_silence, principal_of(request), silence_id))
