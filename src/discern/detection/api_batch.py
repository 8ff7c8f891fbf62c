"""The route that asks about many inputs at once.

- One answer an input, in order: a verdict that is on the ledger, or what is wrong with that input alone.
- A body is bounded while it comes, what it unpacks to while it is unpacked; neither touches the disk.
- An answer that is streamed begins when the first of it is there; what fails after that is said by its items.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from discern.access.ports import PrincipalReader
from discern.core.errors import DiscernError, UnsupportedInput
from discern.core.verdict import Verdict
from discern.detection.batches import (
    MEDIA_TYPES,
    RECORD_TYPES,
    BatchLimits,
    Format,
    format_of,
    members_of,
    records_of,
)
from discern.detection.ports import QUESTION_PARAMETERS, DetectorSource, ProblemReader, WholeBodies
from discern.detection.service_batches import judged_media, judged_records
from discern.detection.types import BatchRequest, DetectBatch
from discern.detectors.manifest import Manifest
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits
from discern.privacy.ports import subject_of

LINES_TYPE = "application/x-ndjson"
# What is taken apart, or put together, by the event loop itself; above it a thread does.
_SMALL_BYTES = 64 * 1024
# Answers that are encoded at once.
_PIECE = 500
# Requests that are unpacked and judged at the same time; the bodies of those that wait are accounted for.
_TOGETHER = 8
_encoder = msgspec.json.Encoder()


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A verdict in the place of its input. `name` is what a file of an upload is called."""

    index: int
    verdict: Verdict
    name: str | None = None


class Refused(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is wrong with an input, as the members of a problem document, in its place."""

    index: int
    error: dict[str, Any]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as it is understood before its body is read."""

    batch: BatchRequest
    manifest: Manifest
    content_type: str
    form: Format
    in_lines: bool


class BatchEndpoint:
    """The route, as a plain ASGI application; `bodies`, `principal_of` and `problem_of` come from the HTTP layer."""

    def __init__(
        self,
        detect_batch: DetectBatch,
        detectors: DetectorSource,
        inputs: InputLimits,
        limits: BatchLimits,
        *,
        bodies: WholeBodies,
        principal_of: PrincipalReader,
        problem_of: ProblemReader,
    ) -> None:
        self._detect_batch = detect_batch
        self._detectors = detectors
        self._inputs = inputs
        self._limits = limits
        self._bodies = bodies
        self._principal_of = principal_of
        self._problem_of = problem_of
        self._records_together = CapacityLimiter(_TOGETHER)
        self._media_together = CapacityLimiter(_TOGETHER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the inputs, ask, answer. Raises what concerns them all, before anything is sent."""
        asked = await self._asked(scope)
        take = self._records if isinstance(asked.manifest.input, RecordSpec) else self._media
        async with (
            self._bodies.read(Request(scope, receive), "batch_bytes", self._limits.bytes, whole=True) as content,
            aclosing(take(asked, content)) as answers,
        ):
            if asked.in_lines:
                await _send_lines(send, answers)
                return
            body = await _document(asked, answers)
        await _send(send, body)

    async def _asked(self, scope: Scope) -> _Asked:
        name, query, headers = scope["path_params"]["name"], scope["query_string"], Headers(scope=scope)
        version = parse_qs(query.decode("latin-1")).get("version", [None])[0] if query else None
        loaded = self._detectors.loaded(name, version)
        if loaded is not None:
            manifest = loaded.manifest
        else:
            manifest = (await to_thread.run_sync(self._detectors.find, name, version)).bundle.manifest
        content_type = headers.get("content-type", "")
        form = format_of(content_type, manifest)
        packed = headers.get("content-encoding", "identity").lower()
        if packed != "identity":
            detail = f"The Content-Encoding {packed[:100]!r} is not taken."
            raise UnsupportedInput(detail, mend="Send the body as it is.", taken=["identity"])
        batch = BatchRequest(self._principal_of(scope), name, (), manifest.version, subject_of(scope))
        return _Asked(batch, manifest, content_type, form, LINES_TYPE in headers.get("accept", ""))

    async def _records(self, asked: _Asked, content: bytes) -> AsyncGenerator[list[Answered | Refused], None]:
        spec = asked.manifest.input
        assert isinstance(spec, RecordSpec)  # noqa: S101 - asked before
        take_apart = partial(records_of, content, asked.form, spec, self._limits.records)
        # Arrow's library is imported by the first who needs it, which takes a while.
        small = len(content) <= _SMALL_BYTES and asked.form != "arrow"
        async with self._records_together:
            contents = take_apart() if small else await to_thread.run_sync(take_apart)
            batch = replace(asked.batch, contents=contents)
            answers = await judged_records(self._detect_batch, batch)
        yield self._in_place(answers, 0)

    async def _media(self, asked: _Asked, content: bytes) -> AsyncGenerator[list[Answered | Refused], None]:
        members = await to_thread.run_sync(
            members_of, content, asked.form, asked.content_type, asked.manifest, self._limits, self._inputs
        )
        start = 0
        async with aclosing(judged_media(self._detect_batch, asked.batch, members)) as groups:
            while start < len(members):
                # Not held while an answer is sent: a client may take its time to read it.
                async with self._media_together:
                    answers = await anext(groups)
                names = [member.name for member in members[start : start + len(answers)]]
                yield self._in_place(answers, start, names)
                start += len(answers)

    def _in_place(
        self, answers: Sequence[Verdict | DiscernError], start: int, names: Sequence[str] | None = None
    ) -> list[Answered | Refused]:
        called = [None] * len(answers) if names is None else names
        return [
            Answered(index, answer, name)
            if isinstance(answer, Verdict)
            else Refused(index, self._problem_of(answer), name)
            for index, (answer, name) in enumerate(zip(answers, called, strict=True), start)
        ]


async def _document(asked: _Asked, answers: AsyncIterator[list[Answered | Refused]]) -> bytes:
    """Return all answers as one JSON document."""
    pieces: list[bytes] = []
    count = errors = 0
    async for some in answers:
        count += len(some)
        errors += sum(isinstance(answer, Refused) for answer in some)
        for piece in _pieces(some):
            # A list without its brackets. Between two others get their turn.
            pieces += [_encoder.encode(piece)[1:-1], b","]
            await sleep(0)
    head = {"detector": asked.manifest.name, "version": asked.manifest.version, "count": count, "errors": errors}
    return b"".join([_encoder.encode(head)[:-1], b',"answers":[', *pieces[:-1], b"]}"])


async def _send(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_lines(send: Send, answers: AsyncIterator[list[Answered | Refused]]) -> None:
    """Send an answer a line, each group as soon as it is there."""
    started = False
    async for some in answers:
        if not started:
            started = True
            headers = [(b"content-type", LINES_TYPE.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in _pieces(some):
            await send({"type": "http.response.body", "body": _encoder.encode_lines(piece), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _pieces(answers: list[Answered | Refused]) -> Iterator[list[Answered | Refused]]:
    return (answers[start : start + _PIECE] for start in range(0, len(answers), _PIECE))


def _schema() -> dict[str, Any]:
    place = {"index": {"type": "integer", "description": "The place of the input in the request, from 0."}}
    place["name"] = {"type": "string", "description": "What a file of an upload is called."}
    verdict = {"verdict": {"$ref": "#/components/schemas/Verdict"}}
    error = {"error": {"$ref": "#/components/schemas/Problem"}}
    answers = [
        {"type": "object", "required": ["index", "verdict"], "properties": place | verdict},
        {"type": "object", "required": ["index", "error"], "properties": place | error},
    ]
    return {
        "type": "object",
        "required": ["detector", "version", "count", "errors", "answers"],
        "properties": {
            "detector": {"type": "string"},
            "version": {"type": "string"},
            "count": {"type": "integer", "description": "How many answers there are: one for each input."},
            "errors": {"type": "integer", "description": "How many of them are errors."},
            "answers": {"type": "array", "items": {"oneOf": answers}},
        },
    }


def _formats() -> dict[str, Any]:
    media = {"type": "string", "format": "binary"}
    schemas: dict[str, Any] = {name: {"schema": media} for name in (*RECORD_TYPES, *MEDIA_TYPES)}
    schemas["application/json"] = {
        "schema": {"type": "array", "items": {"type": "object"}},
        "example": [{"amount": 12.5, "weekend": False}],
    }
    files = {"file": {"type": "array", "items": media}}
    schemas["multipart/form-data"] = {"schema": {"type": "object", "required": ["file"], "properties": files}}
    return schemas


BATCH_OPERATION: dict[str, Any] = {
    "tags": ["verdicts"],
    "summary": "Ask a detector about many inputs at once",
    "operationId": "create_verdicts",
    "parameters": QUESTION_PARAMETERS,
    "requestBody": {
        "required": True,
        "description": "Records as a JSON array, as NDJSON (one a line) or as an Arrow IPC stream; images, and clips "
        "for a detector that takes them, as files of a multipart upload or of a zip archive. The Content-Type header "
        "tells the format.",
        "content": _formats(),
    },
    "responses": {
        200: {
            "description": "An answer for each input, in order: its verdict, which is on the ledger, or what is wrong "
            "with it. With `Accept: application/x-ndjson` one a line, as they are ready.",
            "content": {
                "application/json": {"schema": _schema()},
                LINES_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
}
"""The entry of the route in the OpenAPI document."""
