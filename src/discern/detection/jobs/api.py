"""Routes of jobs: hand one in, follow it, cancel it, fetch what came of it.

- The input is encrypted as it comes, and is whole neither in memory nor on this machine's disk.
- A job of another workspace is as good as none.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any, BinaryIO, Protocol
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from discern.access.ports import Permit, PrincipalReader
from discern.access.types import Action, Principal, Resource
from discern.core.clock import utc_now
from discern.core.errors import (
    DiscernError,
    EmptyInput,
    Forbidden,
    InputTooLarge,
    MalformedRequest,
    NoResultYet,
    Overloaded,
    SlowSender,
    UnknownJob,
    UnknownVerdict,
    UnreadableInput,
    UnsupportedInput,
)
from discern.core.ids import uuid7
from discern.core.tracing import current_trace
from discern.detection.jobs.service import Jobs, unknown
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import ENDED, INPUT, RESULT, Job, JobKind, JobLimits, folder_of, object_of
from discern.detection.ports import QUESTION_PARAMETERS, DetectorSource
from discern.detection.store import VerdictStore
from discern.detectors.manifest import Manifest
from discern.inputs.spec import RecordSpec
from discern.objects.ports import KeyWrapper, Writing
from discern.objects.types import Address
from discern.privacy.ports import subject_of, wrapper_of
from discern.routes import answers, json_answer

_BUFFER_BYTES = 1024 * 1024
_LEAST_BYTES_A_SECOND = 10_000
_LOOK_SECONDS = 0.5
_HEART_BEAT_SECONDS = 15.0
_MOST_URL = 2000
_PARQUET = "application/vnd.apache.parquet"
_TABLES = ("application/x-ndjson", "text/csv", _PARQUET)
_PIECE_BYTES = 256 * 1024
_encode = msgspec.json.Encoder().encode


class Finder(Protocol):
    """Finds a job that whoever asks may do something to."""

    def __call__(self, request: Request, job_id: UUID, action: Action = "jobs.read") -> Awaitable[Job]:
        """Raise UnknownJob for any other."""
        ...


class JobEndpoint:
    """The route that takes a job, as a plain ASGI application; what is of HTTP is handed in."""

    def __init__(
        self,
        jobs: Jobs,
        store: JobStore,
        detectors: DetectorSource,
        limits: JobLimits,
        *,
        check_url: Callable[[str], None],
        principal_of: PrincipalReader,
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._detectors = detectors
        self._limits = limits
        self._check_url = check_url
        self._principal_of = principal_of
        self._coming: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the input, then the job, and say where it is. Raises before anything is sent."""
        request = Request(scope, receive)
        query = parse_qs(scope["query_string"].decode("latin-1"))
        usable = await to_thread.run_sync(
            self._detectors.find, scope["path_params"]["name"], query.get("version", [None])[0]
        )
        manifest = usable.bundle.manifest
        kind = _kind(request, manifest)
        webhook = query.get("webhook", [None])[0]
        if webhook is not None:
            _check_length(webhook)
            self._check_url(webhook)
        if subject_of(scope) is not None and kind == "file":
            raise MalformedRequest(
                "A table of records is about many people, and the header Discern-Subject names one.",
                mend="Send it without the header, or the records one by one.",
            )
        workspace = self._principal_of(scope).workspace
        # What is being sent takes its place already, or any number could be sent at the same time.
        self._coming[workspace] += 1
        try:
            await self._check_room(workspace)
            job = await self._handed_in(request, manifest, kind, webhook)
        except ClientDisconnect:
            return  # nobody waits for an answer
        finally:
            self._coming[workspace] -= 1
        headers = {"Location": f"/v1/jobs/{job.id}"}
        await Response(_encode(job), 202, headers, "application/json")(scope, receive, send)

    async def _check_room(self, workspace: str) -> None:
        waiting, of_the_workspace = await to_thread.run_sync(self._store.waiting, workspace)
        limits = self._limits
        for name, found, most in (
            ("max_waiting_jobs", waiting + self._coming.total(), limits.most_waiting),
            (
                "max_waiting_jobs_per_workspace",
                of_the_workspace + self._coming[workspace],
                limits.most_waiting_of_a_workspace,
            ),
        ):
            if 0 < most < found:
                raise _overloaded(name, most)

    async def _handed_in(self, request: Request, manifest: Manifest, kind: JobKind, webhook: str | None) -> Job:
        """Keep the input and write the job; nothing stays of an input that is not taken."""
        principal, subject = self._principal_of(request.scope), subject_of(request.scope)
        job_id, trace = str(uuid7()), current_trace()
        address = Address(principal.workspace, folder_of(job_id), INPUT)
        try:
            size = await self._taken(request, address, None if subject is None else wrapper_of(subject))
            if kind == "input" and isinstance(manifest.input, RecordSpec):
                await to_thread.run_sync(self._check_record, address, size)
            job = Job(
                id=job_id,
                workspace=principal.workspace,
                principal=principal.id,
                kind=kind,
                detector=manifest.name,
                version=manifest.version,
                state="waiting",
                progress=0.0,
                rows=0,
                bytes=size,
                created_at=utc_now(),
                verdict_id=str(uuid7()) if kind == "input" else None,
                webhook=webhook,
                subject=None if subject is None else subject.reference,
                trace=None if trace is None else trace.header,
            )
            await self._jobs.submit(job)
        except BaseException:
            await asyncio.shield(to_thread.run_sync(self._erase, address))
            raise
        return job

    async def _taken(self, request: Request, address: Address, by: KeyWrapper | None) -> int:
        """Keep the body as it comes, its key wrapped by `by`; return its size."""
        writing = await to_thread.run_sync(lambda: self._jobs.objects.begin(address, by=by))
        try:
            size = await self._received(request, writing)
            await to_thread.run_sync(writing.end)
        except BaseException:
            await asyncio.shield(to_thread.run_sync(writing.abandon))
            raise
        return size

    async def _received(self, request: Request, writing: Writing) -> int:
        size, started = 0, time.monotonic()
        most = self._limits.most_bytes
        buffer = bytearray()
        stream = request.stream()
        while True:
            left = started + self._limits.body_seconds + size / _LEAST_BYTES_A_SECOND - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    chunk = await anext(stream, b"")
            except TimeoutError as error:
                raise _slow(size, self._limits.body_seconds) from error
            size += len(chunk)
            if size > most:
                raise _too_large(most, size)
            buffer += chunk
            ended = not chunk
            if len(buffer) >= _BUFFER_BYTES or ended:
                await to_thread.run_sync(writing.write, bytes(buffer))
                buffer.clear()
            if ended:
                break
        if not size:
            raise EmptyInput("The body is empty.", mend="Send the input as the body: `curl --data-binary @FILE`.")
        return size

    def _check_record(self, address: Address, size: int) -> None:
        if size > self._limits.record_bytes:
            _check_record(b"")
        with self._jobs.objects.open(address) as file:
            _check_record(file.read())

    def _erase(self, address: Address) -> None:
        """Erase what came of an input that is not taken; what cannot be now is later."""
        with suppress(DiscernError):
            self._jobs.objects.erase(address.workspace, address.folder)


def job_routes(
    jobs: Jobs, store: JobStore, verdicts: VerdictStore, permit: Permit, *, principal_of: PrincipalReader
) -> APIRouter:
    """Return the routes that read and cancel jobs."""
    router = APIRouter(prefix="/v1", tags=["jobs"])

    async def found(request: Request, job_id: UUID, action: Action = "jobs.read") -> Job:
        return await to_thread.run_sync(_visible, store, permit, principal_of(request), action, job_id)

    @router.get("/jobs", summary="List jobs, newest first", response_class=Response, responses=answers("JobPage"))
    async def list_jobs(
        request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50, after: UUID | None = None
    ) -> Response:
        principal = principal_of(request)

        def may_read(detector: str) -> bool:
            return permit.allows(principal, "jobs.read", Resource("Job", "", principal.workspace, detector))

        return json_answer(await to_thread.run_sync(store.page, principal.workspace, limit, after, may_read))

    @router.get("/jobs/{job_id}", summary="Look at a job", response_class=Response, responses=answers("Job"))
    async def show_job(request: Request, job_id: UUID) -> Response:
        return json_answer(await found(request, job_id))

    @router.get(
        "/jobs/{job_id}/events",
        summary="Follow a job to its end",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "Server-sent events: `job` whenever it changes, the last one when it has ended.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
    )
    async def follow_job(request: Request, job_id: UUID) -> Response:
        first = await found(request, job_id)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(store, first), media_type="text/event-stream", headers=headers)

    @router.post(
        "/jobs/{job_id}/cancel",
        summary="Cancel a job",
        description="A job that waits is not begun. Of one that runs what has not been written yet is given up. A job "
        "that has ended stays as it is.",
        response_class=Response,
        responses=answers("Job"),
    )
    async def cancel_job(request: Request, job_id: UUID) -> Response:
        job = await found(request, job_id, "jobs.cancel")
        return json_answer(await jobs.cancel(job.workspace, job_id))

    _add_result(router, jobs, verdicts, found)
    return router


def _add_result(router: APIRouter, jobs: Jobs, verdicts: VerdictStore, found: Finder) -> None:
    @router.get(
        "/jobs/{job_id}/result",
        summary="Fetch what came of a job",
        response_class=Response,
        responses={200: {"description": "The verdict, or the file of results of a file of records."}},
    )
    async def job_result(request: Request, job_id: UUID) -> Response:
        job = await found(request, job_id)
        if job.state != "done":
            raise _no_result(job)
        if job.verdict_id is not None:
            verdict = await to_thread.run_sync(verdicts.get, job.workspace, UUID(job.verdict_id))
            if verdict is None:
                detail = f"The verdict {job.verdict_id} of the job was deleted."
                raise UnknownVerdict(detail, mend="`GET /v1/retention` says for how long verdicts are kept.")
            return json_answer(verdict)
        try:
            file = await to_thread.run_sync(jobs.objects.open, object_of(job, RESULT))
        except UnreadableInput as error:
            raise _no_result(job) from error
        return _download(file, f"{job.id}.parquet")


def _visible(store: JobStore, permit: Permit, principal: Principal, action: Action, job_id: UUID) -> Job:
    """Return a job. Raises UnknownJob also where `action` is not permitted: that it is there is not told."""
    job = store.get(principal.workspace, job_id)
    try:
        if job is not None:
            permit.check(principal, action, Resource("Job", job.id, job.workspace, job.detector))
            return job
    except Forbidden:  # on record
        pass
    raise unknown(job_id)


async def _events(store: JobStore, job: Job) -> AsyncIterator[bytes]:
    shown: Job | None = None
    beat = time.monotonic()
    current: Job | None = job
    number = 0
    while current is not None:
        if current != shown:
            shown, number, beat = current, number + 1, time.monotonic()
            yield b"id: %d\nevent: job\ndata: %b\n\n" % (number, _encode(current))
        if current.state in ENDED:
            return
        if time.monotonic() - beat > _HEART_BEAT_SECONDS:
            beat = time.monotonic()
            yield b": still there\n\n"
        await asyncio.sleep(_LOOK_SECONDS)
        current = await to_thread.run_sync(store.get, job.workspace, UUID(job.id))


def _download(file: BinaryIO, name: str) -> Response:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)

    def pieces() -> Iterator[bytes]:
        with file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces(), media_type=_PARQUET, headers=headers)


def _kind(request: Request, manifest: Manifest) -> JobKind:
    """Return what kind of job a body is."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        raise UnsupportedInput(
            "A job takes its input as the body, not as a form.", mend="Send it so: `curl --data-binary @FILE`."
        )
    if content_type not in _TABLES:
        return "input"
    if not isinstance(manifest.input, RecordSpec):
        detail = f"{manifest.name} takes pictures, not tables of records."
        raise UnsupportedInput(detail, mend="Send a picture or a video.")
    return "file"


def _check_length(url: str) -> None:
    if len(url) > _MOST_URL:
        raise MalformedRequest(f"The webhook has more than {_MOST_URL} characters.", mend="Use a shorter address.")


def _no_result(job: Job) -> DiscernError:
    if job.state == "done":
        return UnknownJob(f"The file of results of job {job.id} is gone.", mend="Hand the job in again.")
    mends = {"failed": "Its `error` says why.", "cancelled": "It was cancelled: hand it in again."}
    mend = mends.get(job.state, "Follow `events` until it is done.")
    return NoResultYet(f"Job {job.id} is {job.state} and has no result.", mend=mend, state=job.state)


def _check_record(content: bytes) -> None:
    """Raise UnsupportedInput for what will never be judged as one record: most often a table without its type."""
    try:
        is_record = isinstance(msgspec.json.decode(content), dict)
    except msgspec.DecodeError:
        is_record = False
    if not is_record:
        raise UnsupportedInput(
            "The body is not one JSON object, and its Content-Type names no table.",
            mend=f"For a table, name its type: {', '.join(_TABLES)}; with curl: -H 'Content-Type: text/csv'.",
        )


def _overloaded(limit: str, allowed: int) -> Overloaded:
    return Overloaded(
        f"As many jobs as `{limit}` allows ({allowed}) wait or run.",
        mend="Try again later.",
        retry_after=30.0,
        limit=limit,
        allowed=allowed,
    )


def _too_large(allowed: int, found: int) -> InputTooLarge:
    return InputTooLarge(
        f"The body has {found} bytes or more; at most {allowed} are taken.",
        mend="Send less, or raise `job_bytes`.",
        limit="job_bytes",
        allowed=allowed,
        found=found,
    )


def _slow(found: int, allowed: float) -> SlowSender:
    return SlowSender(
        f"The body came too slowly: {found} bytes.",
        mend="Send it faster, or raise `body_seconds`.",
        limit="body_seconds",
        allowed=allowed,
    )


_FILE = {"type": "string", "format": "binary"}
JOB_OPERATION: dict[str, Any] = {
    "tags": ["jobs"],
    "summary": "Hand in a job",
    "operationId": "create_job",
    "parameters": [
        *QUESTION_PARAMETERS,
        {
            "name": "webhook",
            "in": "query",
            "required": False,
            "schema": {"type": "string", "format": "uri"},
            "description": "Where to POST to when the job has ended.",
        },
    ],
    "requestBody": {
        "required": True,
        "description": "An image, a video or a record; or a table of records.",
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "video/*": {"schema": _FILE},
            **{kind: {"schema": _FILE} for kind in _TABLES},
        },
    },
    "responses": answers("Job", 202),
}
"""The entry of the route in the OpenAPI document."""
