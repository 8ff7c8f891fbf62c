"""The routes that tell what was asked for, what it cost, and what a month will cost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import PrincipalReader
from discern.core.clock import Clock, utc_now
from discern.core.errors import MalformedRequest
from discern.monitoring.analytics.report import html, markdown
from discern.monitoring.analytics.report_pdf import pdf
from discern.monitoring.analytics.rules_page import page_of
from discern.monitoring.analytics.rules_periods import Period, check_day, period_of, zone_of
from discern.monitoring.analytics.service import Analytics
from discern.monitoring.analytics.service_budgets import Budgets
from discern.monitoring.analytics.service_reports import Reports
from discern.monitoring.analytics.types import (
    ActivityReport,
    AnalyticsTable,
    Budget,
    BudgetStanding,
    PeriodName,
    Step,
)
from discern.routes import answers, body_of, json_answer, takes

SCHEMAS = (AnalyticsTable, Budget, BudgetStanding, ActivityReport)
Format = Literal["json", "html", "md", "pdf"]
_LONGEST: dict[Step, timedelta] = {
    "hour": timedelta(days=31),
    "day": timedelta(days=366),
    "month": timedelta(days=3660),
}
_USUAL: dict[Step, timedelta] = {"hour": timedelta(days=1), "day": timedelta(days=28), "month": timedelta(days=366)}
# A page of HTML that a browser opens from here can do nothing but be looked at.
_SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
# Each reads many rows.
_AT_A_TIME = 2


def analytics_routes(
    analytics: Analytics,
    budgets: Budgets,
    reports: Reports,
    *,
    principal_of: PrincipalReader,
    clock: Clock = utc_now,
) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["analytics"])
    threads = CapacityLimiter(_AT_A_TIME)

    @router.get(
        "/analytics",
        summary="What was asked for, by the hour, day or month?",
        description="Verdicts, decisions, latency, callers, drift and cost, as the ledger counted them. Times are on "
        "whole hours; without them it is the last day, four weeks or year. Days are of `time_zone`.",
        response_class=Response,
        responses=answers("AnalyticsTable", description="Oldest first; what had no verdicts has no row."),
    )
    async def show_analytics(
        request: Request,
        step: Step = "day",
        since: Annotated[datetime | None, Query(alias="from")] = None,
        until: Annotated[datetime | None, Query(alias="to")] = None,
        detector: str | None = None,
        time_zone: str = "UTC",
    ) -> Response:
        start, end = _span(since, until, step, clock())
        workspace, zone = principal_of(request).workspace, zone_of(time_zone)
        look = partial(analytics.table, workspace, start, end, step=step, detector=detector, zone=zone)
        return json_answer(await to_thread.run_sync(look, limiter=threads))

    @router.get(
        "/reports",
        summary="What happened in a day, a week or a month?",
        description="Of the last one that is over, or of the one that begins at `from`. As JSON, or as a page that "
        "needs nothing else; PDF needs the extra `reports`.",
        response_class=Response,
        responses=_report_answers(),
    )
    async def show_report(
        request: Request,
        period: PeriodName = "week",
        first: Annotated[date | None, Query(alias="from")] = None,
        detector: str | None = None,
        time_zone: str = "UTC",
        format: Format = "json",  # noqa: A002 - the name of the parameter
    ) -> Response:
        asked = period_of(period, first, zone_of(time_zone), clock())
        make = partial(_written, reports, principal_of(request).workspace, asked, detector, format)
        content, kind = await to_thread.run_sync(make, limiter=threads)
        return Response(content, media_type=kind, headers=_SAFE)

    _budget_routes(router, budgets, principal_of)
    return router


def _budget_routes(router: APIRouter, budgets: Budgets, principal_of: PrincipalReader) -> None:
    @router.get(
        "/budget",
        summary="What may this month cost, what has it cost, and what will it?",
        response_class=Response,
        responses=answers("BudgetStanding"),
    )
    async def show_budget(request: Request) -> Response:
        return json_answer(await to_thread.run_sync(budgets.standing, principal_of(request).workspace))

    @router.put(
        "/budget",
        summary="Say what a month may cost",
        description="Money, verdicts, or both; null for no bound. It refuses nothing: metrics and alerts tell.",
        response_class=Response,
        openapi_extra=takes("Budget"),
        responses=answers("BudgetStanding"),
    )
    async def change_budget(request: Request) -> Response:
        budget, principal = await body_of(request, Budget), principal_of(request)
        await to_thread.run_sync(budgets.change, principal.workspace, budget, principal)
        return json_answer(await to_thread.run_sync(budgets.standing, principal.workspace))


def _report_answers() -> dict[int | str, dict[str, Any]]:
    """Return what the route of reports says of its answers: JSON by its schema, and pages."""
    found = answers("ActivityReport", description="The report, in the format that was asked for.")
    text: dict[str, Any] = {"schema": {"type": "string"}}
    found[200]["content"] |= {
        "text/html": text,
        "text/markdown": text,
        "application/pdf": {"schema": {"type": "string", "format": "binary"}},
    }
    return found


def _written(reports: Reports, workspace: str, period: Period, detector: str | None, form: Format) -> tuple[bytes, str]:
    report = reports.report(workspace, period, detector)
    if form == "json":
        return msgspec.json.encode(report), "application/json"
    if form == "pdf":
        return pdf(page_of(report)), "application/pdf"
    if form == "md":
        return markdown(page_of(report)).encode(), "text/markdown; charset=utf-8"
    return html(page_of(report)).encode(), "text/html; charset=utf-8"


def _span(since: datetime | None, until: datetime | None, step: Step, now: datetime) -> tuple[datetime, datetime]:
    """Return from when to when, UTC. Raises MalformedRequest."""
    for name, value in (("from", since), ("to", until)):
        if value is None:
            continue
        check_day(value.date())
        if value.tzinfo is None or value.timestamp() % 3600:
            detail = f"{name} is not on a whole hour of UTC."
            raise MalformedRequest(detail, mend="Write one such as 2026-11-02T00:00:00Z.")
    end = (until or now + timedelta(hours=1)).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    start = (since or end - _USUAL[step]).astimezone(UTC)
    if not timedelta() < end - start <= _LONGEST[step]:
        detail = f"From {start:%Y-%m-%dT%H}h to {end:%Y-%m-%dT%H}h is no time, or too long for steps of a {step}."
        raise MalformedRequest(detail, mend=f"Ask for {_LONGEST[step].days} days at most, or for longer steps.")
    return start, end
