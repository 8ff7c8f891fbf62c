"""Routes of labels."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import Permit, PrincipalReader
from discern.access.types import Principal, Resource
from discern.core.errors import Forbidden
from discern.core.verdict import Verdict
from discern.review.service import Labels, MayRead
from discern.review.sources import json_lines
from discern.review.types import Label, LabelHistory, LabelLine, LabelRequest, Taken, WantedList
from discern.routes import answers, body_of, content_of, json_answer, takes

LABEL_SCHEMAS = (LabelRequest, LabelLine, Label, LabelHistory, Taken, WantedList)
_LINES = {"schema": {"type": "string", "format": "binary"}}
_MANY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One JSON object a line, each a LabelLine. The Content-Type is not looked at.",
        "content": {"application/x-ndjson": _LINES, "application/octet-stream": _LINES},
    }
}


class LabelLimits(msgspec.Struct, frozen=True):
    """Most labels, and most bytes, of one request."""

    labels: int
    bytes: int


def label_routes(labels: Labels, permit: Permit, limits: LabelLimits, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["labels"])

    @router.post(
        "/verdicts/{verdict_id}/label",
        summary="Say what is true of a verdict",
        description="The label is one of the detector's two classes by name, or null where nobody can tell. What is "
        "said later takes its place, and all of it is kept. The same said twice is kept once, and answered 200.",
        status_code=201,
        response_class=Response,
        responses=answers("Label", 201, "It is kept.") | answers("Label", 200, "It was known."),
        openapi_extra=takes("LabelRequest"),
    )
    async def label_verdict(request: Request, verdict_id: UUID) -> Response:
        principal, asked = principal_of(request), await body_of(request, LabelRequest)
        keep = partial(labels.label, verdict_id, asked, principal, may=_on_record(permit, principal, _LABEL))
        label, was_known = await to_thread.run_sync(keep)
        return json_answer(label, 200 if was_known else 201)

    @router.get(
        "/verdicts/{verdict_id}/labels",
        summary="All that was said of a verdict",
        response_class=Response,
        responses=answers("LabelHistory", description="Oldest first; the last one holds."),
    )
    async def show_labels(request: Request, verdict_id: UUID) -> Response:
        principal = principal_of(request)
        look = partial(labels.history, principal.workspace, verdict_id, may=_on_record(permit, principal, _READ))
        return json_answer(await to_thread.run_sync(look))

    _add_many(router, labels, permit, limits, principal_of)
    return router


def _add_many(
    router: APIRouter, labels: Labels, permit: Permit, limits: LabelLimits, principal_of: PrincipalReader
) -> None:
    @router.post(
        "/labels",
        summary="Say what is true of many verdicts",
        description="Lines that cannot be kept are told one by one, and the others are kept.",
        response_class=Response,
        responses=answers("Taken", description="What came of them."),
        openapi_extra=_MANY,
    )
    async def label_many(request: Request) -> Response:
        principal = principal_of(request)
        content = await content_of(request, limits.bytes, "label_bytes")

        def keep() -> Taken:
            lines = json_lines(content, most=limits.labels, setting="batch_records")
            return labels.take(lines, principal, may=_by_detector(permit, principal, _LABEL))

        return json_answer(await to_thread.run_sync(keep))

    @router.get(
        "/labels/wanted",
        summary="Which held-out verdicts have no label?",
        description="The random hold-out of `holdout_share`, newest first, without what was decided. A page may have "
        "fewer than `limit` and be followed by others.",
        response_class=Response,
        responses=answers("WantedList", description="A page; give its `next` as `after` to go on."),
    )
    async def show_wanted(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        after: UUID | None = None,
        detector: str | None = None,
    ) -> Response:
        principal = principal_of(request)
        may = _by_detector(permit, principal, _READ)
        look = partial(labels.wanted, principal.workspace, limit=limit, detector=detector, after=after, may=may)
        return json_answer(await to_thread.run_sync(look))


_LABEL, _READ = "verdicts.label", "verdicts.read"


def _on_record(permit: Permit, principal: Principal, action: Any) -> MayRead:  # noqa: ANN401 - one of the two above
    """Tell whether somebody may, and put it on record where not."""

    def may(verdict: Verdict) -> bool:
        try:
            permit.check(principal, action, Resource("Verdict", verdict.id, verdict.workspace, verdict.detector))
        except Forbidden:
            return False
        return True

    return may


def _by_detector(permit: Permit, principal: Principal, action: Any) -> MayRead:  # noqa: ANN401 - likewise
    """Tell the same, on record once for a detector: what is decided of one verdict holds of all of its detector."""
    known: dict[str, bool] = {}

    def may(verdict: Verdict) -> bool:
        found = known.get(verdict.detector)
        if found is None:
            found = permit.allows(principal, action, Resource("Verdict", "", verdict.workspace, verdict.detector))
            if not found and action == _LABEL:
                found = _on_record(permit, principal, action)(verdict)
            known[verdict.detector] = found
        return found

    return may
