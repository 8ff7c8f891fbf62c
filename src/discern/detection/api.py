"""Routes of detection: ask for a verdict, and read the ledger."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.core.errors import UnknownVerdict
from discern.core.verdict import Decision
from discern.detection.ports import DetectorSource, InputReader, PrincipalReader
from discern.detection.store import VerdictStore
from discern.detection.types import Detect, DetectionRequest, VerdictQuery
from discern.detectors.manifest import Manifest
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits

_MEDIA = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "description": "An image or a video as raw bytes, one file of a multipart upload, or a JSON record. The type is "
    "told from the content; the Content-Type header only tells multipart from the rest.",
    "content": {
        "application/octet-stream": {"schema": _MEDIA},
        "image/*": {"schema": _MEDIA},
        "video/*": {"schema": _MEDIA},
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _MEDIA}},
        },
        "application/json": {"schema": {"type": "object"}, "example": {"amount": 12.5, "weekend": False}},
    },
}


def detection_routes(
    detect: Detect,
    detectors: DetectorSource,
    limits: InputLimits,
    *,
    read_input: InputReader,
    principal_of: PrincipalReader,
) -> APIRouter:
    """Return the route that asks; `read_input` and `principal_of` come from the HTTP layer."""
    router = APIRouter(prefix="/v1", tags=["verdicts"])

    @router.post(
        "/detectors/{name}/verdicts",
        summary="Ask a detector about one input",
        response_class=Response,
        responses=_answers("Verdict", "The verdict; it is on the ledger."),
        openapi_extra={"requestBody": _BODY},
    )
    async def create_verdict(request: Request, name: str, version: str | None = None) -> Response:
        found = await to_thread.run_sync(detectors.find, name, version)
        async with read_input(request, *_body_limit(found.bundle.manifest, limits)) as content:
            question = DetectionRequest(principal_of(request), name, content, found.version)
            return _json(await detect(question))

    return router


def ledger_routes(verdicts: VerdictStore, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the routes that read the ledger."""
    router = APIRouter(prefix="/v1", tags=["verdicts"])

    @router.get(
        "/verdicts",
        summary="Read the ledger, newest first",
        response_class=Response,
        responses=_answers("VerdictPage", "A page; give its `next` as `after` to go on."),
    )
    async def list_verdicts(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        after: UUID | None = None,
        detector: str | None = None,
        decision: Decision | None = None,
    ) -> Response:
        query = VerdictQuery(principal_of(request).workspace, limit, after, detector, decision)
        return _json(await to_thread.run_sync(verdicts.page, query))

    @router.get(
        "/verdicts/{verdict_id}",
        summary="Read one verdict",
        response_class=Response,
        responses=_answers("Verdict", "The verdict as it was answered."),
    )
    async def show_verdict(request: Request, verdict_id: UUID) -> Response:
        verdict = await to_thread.run_sync(verdicts.get, principal_of(request).workspace, verdict_id)
        if verdict is None:
            raise UnknownVerdict(f"There is no verdict {verdict_id}.", mend="`GET /v1/verdicts` lists them.")
        return _json(verdict)

    return router


def _body_limit(manifest: Manifest, limits: InputLimits) -> tuple[str, int]:
    """Return the setting that bounds the input of a detector, and the bytes it allows."""
    if isinstance(manifest.input, RecordSpec):
        return "record_bytes", limits.record_bytes
    if manifest.video and limits.video_bytes > limits.image_bytes:
        return "video_bytes", limits.video_bytes
    return "image_bytes", limits.image_bytes


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _answers(schema: str, description: str) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {200: {"description": description, "content": content}}
