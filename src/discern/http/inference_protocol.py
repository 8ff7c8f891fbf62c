"""The Open Inference Protocol, version 2, under `/v2`: the clients of KServe, Triton and MLServer work unchanged.

- A row that is answered is a verdict like any other: judged by the same plane, and on the ledger before the answer.
- Health is open, as its probes have no key; everything else asks for one.
- Errors have the protocol's shape, `{"error": ...}`, with our stable `code` beside it, whoever raised them.

See https://github.com/open-inference/open-inference-protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

import discern
from discern.access.ports import Permit
from discern.core.errors import DiscernError
from discern.detection.batches import BatchLimits, upload_limits
from discern.detection.ports import WholeBodies
from discern.detection.service_batches import judged_media, judged_records
from discern.detection.types import BatchRequest, DetectBatch
from discern.detectors.manifest import Manifest
from discern.http import inference_models as models
from discern.http.authentication import principal_of
from discern.http.health import Ping
from discern.http.inference_tensors import InferenceRequest, encode_answer, inflated, parse_request
from discern.http.permissions import resource_of
from discern.http.problems import MEDIA_TYPE as PROBLEM
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits
from discern.privacy.ports import SUBJECT_PARAMETER, subject_of
from discern.registry.service import Catalogue
from discern.registry.types import Usable

FOLDER = "/v2"
_LENGTH = "inference-header-content-length"
_SMALL_BYTES = 64 * 1024
_TOGETHER = 8


class InferenceError(msgspec.Struct, frozen=True):
    """An error in the words of the protocol; `code` is ours, and stable."""

    error: str
    code: str


class InferenceEndpoint:
    """The route that asks, as a plain ASGI application."""

    def __init__(
        self,
        detect_batch: DetectBatch,
        catalogue: Catalogue,
        inputs: InputLimits,
        limits: BatchLimits,
        *,
        bodies: WholeBodies,
    ) -> None:
        self._detect_batch = detect_batch
        self._catalogue = catalogue
        self._inputs = inputs
        self._limits = limits
        self._bodies = bodies
        self._together = CapacityLimiter(_TOGETHER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the tensors, ask, answer. Raises what reading and asking raise, before anything is sent."""
        name, version = scope["path_params"]["name"], scope["path_params"].get("version")
        loaded = self._catalogue.loaded(name, version)
        if loaded is not None:
            manifest = loaded.manifest
        else:
            manifest = (await to_thread.run_sync(self._catalogue.find, name, version)).bundle.manifest
        batch = BatchRequest(principal_of(scope), name, (), manifest.version, subject_of(scope))
        most = self._limits.bytes
        async with (
            self._bodies.read(Request(scope, receive), "batch_bytes", most, whole=True) as content,
            # Held until the answer: what tensors are taken apart to is several times as large as they are.
            self._together,
        ):
            answer, length = await self._answer(Headers(scope=scope), content, manifest, batch)
        headers = [(b"content-length", b"%d" % len(answer))]
        if length is None:
            headers.append((b"content-type", b"application/json"))
        else:
            headers += [(b"content-type", b"application/octet-stream"), (_LENGTH.encode(), b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(
        self, headers: Headers, content: bytes, manifest: Manifest, batch: BatchRequest
    ) -> tuple[bytes, int | None]:
        read = partial(self._read, headers, content, manifest)
        small = len(content) <= _SMALL_BYTES and "content-encoding" not in headers
        request, asked = read() if small else await to_thread.run_sync(read)
        if isinstance(manifest.input, RecordSpec):
            answers = await judged_records(self._detect_batch, replace(batch, contents=asked))
        else:
            answers = [answer async for some in judged_media(self._detect_batch, batch, asked) for answer in some]
        head = {"model_name": manifest.name, "model_version": manifest.version}
        if request.id is not None:
            head["id"] = request.id
        verdicts = models.all_judged(answers)
        return encode_answer(models.outputs(verdicts), request.outputs, head)

    def _read(self, headers: Headers, content: bytes, manifest: Manifest) -> tuple[InferenceRequest, Any]:
        """Return the request, and the records or the members that its tensors hold."""
        body = inflated(content, headers.get("content-encoding", ""), self._limits.bytes)
        request = parse_request(body, headers.get(_LENGTH), tuple(models.OUTPUTS))
        if isinstance(manifest.input, RecordSpec):
            return request, models.records(request.inputs, manifest.input, self._limits.records)
        return request, models.members(request.inputs, upload_limits(manifest, self._limits, self._inputs))


def inference_routes(catalogue: Catalogue, permit: Permit, parts: Mapping[str, Ping]) -> APIRouter:
    """Return the routes that tell of health, of the server and of its models; `parts` are those that must work."""
    router = APIRouter(prefix=FOLDER, tags=["inference protocol"])
    # Threads of its own: health is answered when those that serve requests are all taken.
    threads = CapacityLimiter(2)

    @router.get("", summary="What is this server?", responses=_ERRORS)
    async def server_metadata() -> dict[str, Any]:
        return {"name": "discern", "version": discern.__version__, "extensions": ["binary_tensor_data"]}

    @router.get("/health/live", summary="Does the process live? (probe)")
    async def server_live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Can it answer? (probe)", responses={503: {"description": "It cannot."}})
    async def server_ready() -> Response:
        ready = await to_thread.run_sync(_work, parts, limiter=threads)
        return Response(msgspec.json.encode({"ready": ready}), 200 if ready else 503, media_type="application/json")

    @router.post("/repository/index", summary="List the models", responses=_ERRORS)
    async def repository_index(request: Request) -> list[dict[str, str]]:
        principal = principal_of(request)
        return [
            {"name": entry.name, "version": entry.version, "state": "READY", "reason": ""}
            if isinstance(entry, Usable)
            else {"name": entry.name, "version": entry.version, "state": "UNAVAILABLE", "reason": entry.reason}
            for entry in await to_thread.run_sync(catalogue.all)
            if permit.allows(principal, "detectors.read", resource_of(principal, entry.name))
        ]

    @router.get("/models/{name}", summary="Which tensors does a model take?", responses=_ERRORS)
    async def model_metadata(name: str) -> dict[str, Any]:
        return await to_thread.run_sync(_metadata, catalogue, name, None)

    @router.get("/models/{name}/versions/{version}", summary="Which does one version take?", responses=_ERRORS)
    async def version_metadata(name: str, version: str) -> dict[str, Any]:
        return await to_thread.run_sync(_metadata, catalogue, name, version)

    @router.get("/models/{name}/ready", summary="Can a model answer?", responses=_ERRORS)
    async def model_ready(name: str) -> dict[str, Any]:
        return {"name": (await to_thread.run_sync(catalogue.find, name)).name, "ready": True}

    @router.get("/models/{name}/versions/{version}/ready", summary="Can one version answer?", responses=_ERRORS)
    async def version_ready(name: str, version: str) -> dict[str, Any]:
        return {"name": (await to_thread.run_sync(catalogue.find, name, version)).name, "ready": True}

    return router


def in_the_protocols_words(send: Send) -> Send:
    """Return a `send` that gives errors the shape that the clients of the protocol read."""
    held: list[Message] = []
    pieces: list[bytes] = []

    async def send_reworded(message: Message) -> None:
        if message["type"] == "http.response.start" and Headers(raw=message["headers"]).get("content-type") == PROBLEM:
            held.append(message)
            return
        if not held:
            await send(message)
            return
        pieces.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        problem = msgspec.json.decode(b"".join(pieces))
        said = f"{problem['detail']} {problem.get('mend', '')}".rstrip()
        body = msgspec.json.encode(InferenceError(said, problem["code"]))
        kept = [pair for pair in held[0]["headers"] if pair[0].lower() not in (b"content-type", b"content-length")]
        kept += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({**held[0], "headers": kept})
        await send({"type": "http.response.body", "body": body})

    return send_reworded


def _work(parts: Mapping[str, Ping]) -> bool:
    """Tell whether every part can do its work."""
    try:
        for ping in parts.values():
            ping()
    except DiscernError:
        return False
    return True


def _metadata(catalogue: Catalogue, name: str, version: str | None) -> dict[str, Any]:
    manifest = catalogue.find(name, version).bundle.manifest
    versions = [entry.version for entry in catalogue.all() if entry.name == name and isinstance(entry, Usable)]
    return models.metadata(manifest, versions)


_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An error, in the protocol's shape.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}},
    }
}
_MEDIA = {"type": "string", "format": "binary"}


def inference_operation(*, of_version: bool) -> dict[str, Any]:
    """Return the entry of the route that asks in the OpenAPI document, of the default or of a named version."""
    names = ("name", "version") if of_version else ("name",)
    return {
        "tags": ["inference protocol"],
        "summary": "Ask one version for verdicts" if of_version else "Ask a model for verdicts",
        "operationId": "infer_version" if of_version else "infer",
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "required": False,
                "schema": {"type": "integer"},
                "description": "Length of the JSON in front of binary tensor data.",
            },
            SUBJECT_PARAMETER,
        ],
        "requestBody": {
            "required": True,
            "description": "An inference request: JSON, or JSON followed by binary tensor data. It may be packed by "
            "gzip or deflate.",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "application/octet-stream": {"schema": _MEDIA},
            },
        },
        "responses": {
            200: {
                "description": "The outputs; each row is a verdict that is on the ledger.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "application/octet-stream": {"schema": _MEDIA},
                },
            },
            **_ERRORS,
        },
    }
