"""Routes of detection: ask for a verdict, and read the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from discern.access.ports import Permit, PrincipalReader
from discern.access.types import Principal, Resource
from discern.core.errors import Forbidden, Overloaded, UnknownVerdict
from discern.core.tracing import piece
from discern.core.verdict import Decision, Verdict
from discern.detection.ports import QUESTION_PARAMETERS, DetectorSource, HoldsOut, InputBodies
from discern.detection.service_direct import DirectRecords
from discern.detection.store import VerdictStore
from discern.detection.types import Detect, DetectionRequest, VerdictPage, VerdictQuery
from discern.detectors.manifest import Manifest
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits
from discern.privacy.ports import subject_of
from discern.routes import answers, json_answer

_SMALL_BYTES = 64 * 1024
_encode = msgspec.json.Encoder().encode
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


class VerdictEndpoint:
    """The route that asks, as a plain ASGI application; `bodies` and `principal_of` come from the HTTP layer."""

    def __init__(
        self,
        detect: Detect,
        detectors: DetectorSource,
        limits: InputLimits,
        *,
        direct: DirectRecords,
        bodies: InputBodies,
        principal_of: PrincipalReader,
    ) -> None:
        self._detect = detect
        self._direct = direct
        self._detectors = detectors
        self._limits = limits
        self._bodies = bodies
        self._principal_of = principal_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the input, ask, answer. Raises what reading and asking raise, before anything is sent."""
        name = scope["path_params"]["name"]
        version = _version(scope)
        loaded = self._detectors.loaded(name, version)
        if loaded is not None:
            manifest = loaded.manifest
        else:
            manifest = (await to_thread.run_sync(self._detectors.find, name, version)).bundle.manifest
        setting, most = _body_limit(manifest, self._limits)
        asked = partial(
            DetectionRequest, self._principal_of(scope), name, version=manifest.version, subject=subject_of(scope)
        )
        if _is_small(scope, most):
            # The whole body is one message, mostly; what longer ones need would cost more than the answer.
            with piece("receive"):
                first = await self._bodies.first(receive)
            if not first.get("more_body", False) and first["type"] == "http.request":
                body = first["body"]
                self._bodies.hold(len(body))
                try:
                    verdict: Verdict | None
                    if isinstance(manifest.input, RecordSpec):  # answered before anybody could go
                        verdict = await self._detect(asked(content=body))
                    else:
                        verdict = await self._unless_gone(asked(content=body), receive)
                finally:
                    self._bodies.release(len(body))
                if verdict is not None:
                    await _send(send, verdict)
                return
            receive = _replaying(first, receive)
        async with self._bodies.read(Request(scope, receive), setting, most) as content:
            answer = await self._unless_gone(asked(content=content), receive)
        if answer is not None:
            await _send(send, answer)

    async def _unless_gone(self, request: DetectionRequest, receive: Receive) -> Verdict | None:
        """Ask, and give up where the client goes meanwhile: nobody else is to wait for what nobody waits for."""
        asked = asyncio.ensure_future(self._detect(request))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait([asked, gone], return_when=asyncio.FIRST_COMPLETED)
            return await asked if asked.done() else None
        finally:
            asked.cancel()
            gone.cancel()

    def at_once(
        self,
        name: str,
        principal: Principal,
        content_type: bytes,
        body: bytes,
        done: Callable[[bytes | BaseException], None],
    ) -> bool:
        """Do the same without waiting, for a record in a short body; False, and nothing done, where that cannot be."""
        loaded = self._detectors.loaded(name)
        size = len(body)
        if loaded is None or not 0 < size <= _SMALL_BYTES or content_type[:10].lower() == b"multipart/":
            return False
        try:
            self._bodies.hold(size)
        except Overloaded:
            return False

        def answer(result: Verdict | BaseException) -> None:
            self._bodies.release(size)
            done(_encode(result) if isinstance(result, Verdict) else result)

        request = DetectionRequest(principal, name, body, loaded.manifest.version)
        taken = self._direct.ask(request, loaded, body, answer)
        if not taken:
            self._bodies.release(size)
        return taken


def ledger_routes(
    verdicts: VerdictStore, permit: Permit, hold_out: HoldsOut, *, principal_of: PrincipalReader
) -> APIRouter:
    """Return the routes that read the ledger."""
    router = APIRouter(prefix="/v1", tags=["verdicts"])

    @router.get(
        "/verdicts",
        summary="Read the ledger, newest first",
        description="With `holdout` only the verdicts of the random hold-out of `holdout_share`, whether they have a "
        "label or not; a page may then have fewer than `limit` and be followed by others.",
        response_class=Response,
        responses=answers("VerdictPage", description="A page; give its `next` as `after` to go on."),
    )
    async def list_verdicts(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        after: UUID | None = None,
        detector: str | None = None,
        decision: Decision | None = None,
        holdout: bool = False,
    ) -> Response:
        principal = principal_of(request)

        def may_read(name: str) -> bool:
            return permit.allows(principal, "verdicts.read", _any_of(principal, name))

        def look() -> VerdictPage:
            is_held_out = hold_out.teller() if holdout else None
            query = VerdictQuery(principal.workspace, limit, after, detector, decision, may_read, is_held_out)
            return verdicts.page(query)

        return json_answer(await to_thread.run_sync(look))

    @router.get(
        "/verdicts/{verdict_id}",
        summary="Read one verdict",
        response_class=Response,
        responses=answers("Verdict", description="The verdict as it was answered."),
    )
    async def show_verdict(request: Request, verdict_id: UUID) -> Response:
        return json_answer(await to_thread.run_sync(_visible, verdicts, permit, principal_of(request), verdict_id))

    return router


def _visible(verdicts: VerdictStore, permit: Permit, principal: Principal, verdict_id: UUID) -> Verdict:
    """Return a verdict. Raises UnknownVerdict also for one that may not be seen: that it is there is not told."""
    verdict = verdicts.get(principal.workspace, verdict_id)
    try:
        if verdict is not None:
            resource = Resource("Verdict", verdict.id, verdict.workspace, verdict.detector)
            permit.check(principal, "verdicts.read", resource)
            return verdict
    except Forbidden:  # on record
        pass
    raise UnknownVerdict(f"There is no verdict {verdict_id}.", mend="`GET /v1/verdicts` lists them.")


def _any_of(principal: Principal, detector: str) -> Resource:
    return Resource("Verdict", "", principal.workspace, detector)


def _body_limit(manifest: Manifest, limits: InputLimits) -> tuple[str, int]:
    """Return the setting that bounds the input of a detector, and the bytes it allows."""
    if isinstance(manifest.input, RecordSpec):
        return "record_bytes", limits.record_bytes
    if manifest.video and limits.video_bytes > limits.image_bytes:
        return "video_bytes", limits.video_bytes
    return "image_bytes", limits.image_bytes


def _version(scope: Scope) -> str | None:
    query = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("version", [None])[0] if query else None


def _is_small(scope: Scope, most: int) -> bool:
    """Tell whether the body is said to be short, and to be the input itself."""
    length = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value) if value.isdigit() else 0
        elif name == b"content-type" and value[:10].lower() == b"multipart/":
            return False
    return 0 < length <= min(most, _SMALL_BYTES)


def _replaying(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives `first` before what `receive` gives."""
    waiting = [first]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


async def _send(send: Send, value: object) -> None:
    body = _encode(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


VERDICT_OPERATION: dict[str, Any] = {
    "tags": ["verdicts"],
    "summary": "Ask a detector about one input",
    "operationId": "create_verdict",
    "parameters": QUESTION_PARAMETERS,
    "requestBody": _BODY,
    "responses": answers("Verdict", description="The verdict; it is on the ledger."),
}
"""The entry of the route in the OpenAPI document."""
