"""Running jobs: a durable queue (DBOS), and the plane that every door asks.

- A job that was accepted comes to its end, whichever process dies on the way: whoever runs it holds a lease, and when
  the lease runs out another process takes the job over.
- It comes to it once: a verdict has its id before it is asked for, and is looked up on the ledger before it is asked
  for again; a file goes on where its journal ends.
- Nothing of an input stays behind when its job has ended, and while it is there it is encrypted.
- Judging is done on the event loop of the server, like for every other door; DBOS has threads of its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
from anyio import to_thread

from discern.access.types import Principal
from discern.core.clock import utc_now
from discern.core.counts import Counts
from discern.core.errors import (
    ConsentMissing,
    DiscernError,
    InternalError,
    MissingExtra,
    Overloaded,
    StorageUnavailable,
    UnknownJob,
)
from discern.core.loops import take_turn
from discern.core.tracing import Tracer, parsed_parent, traced
from discern.detection.jobs.ports import ProblemOf, TableScorer, VerdictReader
from discern.detection.jobs.service_telling import Telling
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import ENDED, FOLDERS, INPUT, RESULT, Job, JobLimits, folder_of, object_of
from discern.detection.types import Detect, DetectionRequest
from discern.inputs.types import Held
from discern.objects.ports import Objects
from discern.privacy.ports import Subjects
from discern.privacy.types import Subject, SubjectJob

log = logging.getLogger(__name__)

_TEND_SECONDS = 1.0
_AGAIN_SECONDS = 2.0
_FORGET_EVERY_SECONDS = 60.0
_LOST_EVERY_SECONDS = 3600.0
_LOST = timedelta(days=7)


class Queue(Protocol):
    """The durable queue. What it was given it gives to `Jobs.judge` until that returns."""

    def put(self, job_id: str, takes: int) -> None:
        """Queue a job that was taken so often; whoever asks for the same is too late."""
        ...

    def forget(self, job_ids: Sequence[str]) -> None:
        """Delete what is kept of jobs."""
        ...

    def close(self) -> None:
        """Take nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What jobs work with. `objects` takes the inputs while they wait, and the results."""

    store: JobStore
    verdicts: VerdictReader
    detect: Detect
    score_table: TableScorer
    problem_of: ProblemOf
    objects: Objects
    telling: Telling
    subjects: Subjects
    limits: JobLimits
    counts: Counts
    tracer: Tracer


class _LeftOff(Exception):
    """Scoring a file ends before its end."""


class Jobs:
    """The jobs of this process. `open_queue` makes the queue, which takes a second, in a thread."""

    def __init__(self, parts: Parts, open_queue: Callable[[Jobs], Queue]) -> None:
        self._parts = parts
        self._open_queue = open_queue
        self._holder = secrets.token_hex(8)
        self._queue: Queue | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tending: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._queued: dict[str, int] = {}
        self._cancelled: set[str] = set()
        # Files are scored in a thread, which leaves off by itself: a task that did not wait for it would clean up
        # while it writes.
        self._files: set[str] = set()
        self._stopping = False
        self._is_off = False
        self._searched = float("-inf")

    @property
    def at_a_time(self) -> int:
        """How many jobs a process runs at the same time."""
        return self._parts.limits.at_a_time

    @property
    def objects(self) -> Objects:
        """Where the inputs are, and the results."""
        return self._parts.objects

    async def start(self) -> None:
        """Begin to run jobs, soon."""
        self._loop = asyncio.get_running_loop()
        self._tending = asyncio.create_task(self._tend())
        self._beside = [asyncio.create_task(self._parts.telling.run()), asyncio.create_task(self._sweep())]

    async def stop(self) -> None:
        """Leave what runs to other processes, or to the next start."""
        if self._tending is None:
            return
        self._stopping = True
        for task in (self._tending, *self._beside):
            task.cancel()
        await asyncio.wait([self._tending, *self._beside])
        for job_id, task in list(self._running.items()):
            if job_id not in self._files:
                task.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()))
        if self._queue is not None:
            await to_thread.run_sync(self._queue.close)
            await to_thread.run_sync(self._parts.store.release, self._holder, utc_now())

    async def submit(self, job: Job) -> None:
        """Take a job whose input is kept. Raises StorageUnavailable."""
        await to_thread.run_sync(self._parts.store.add, job)
        self._parts.counts.add("jobs.submitted", workspace=job.workspace)
        if self._queue is not None:
            self._queued[job.id] = 0
            await to_thread.run_sync(self._queue.put, job.id, 0)

    async def cancel(self, workspace: str, job_id: UUID) -> Job:
        """Cancel a job, unless it has ended; return it. Raises UnknownJob."""
        await to_thread.run_sync(self._parts.store.cancel, workspace, job_id, utc_now())
        self._cancel_here(str(job_id))
        job = await to_thread.run_sync(self._parts.store.get, workspace, job_id)
        if job is None:
            raise unknown(job_id)
        if job.state == "cancelled":
            await to_thread.run_sync(self._clean, job)
        return job

    def about(self, workspace: str, reference: str) -> list[SubjectJob]:
        """Return the jobs about a subject, oldest first. Raises StorageUnavailable."""
        return [
            SubjectJob(
                id=job.id,
                state=job.state,
                detector=job.detector,
                version=job.version,
                bytes=job.bytes,
                input_kept=job.state not in ENDED,
                created_at=job.created_at,
                started_at=job.started_at,
                finished_at=job.finished_at,
                verdict_id=job.verdict_id,
                error=job.error,
            )
            for job in self._parts.store.all_about(workspace, reference)
        ]

    def forget_about(self, workspace: str, reference: str, *, before: datetime) -> int:
        """End the jobs about a subject, with their inputs; return how many there were. Raises StorageUnavailable."""
        found = self._parts.store.about(workspace, reference, before)
        for job_id, has_ended in found:
            if not has_ended:
                self._parts.store.cancel(workspace, UUID(job_id), utc_now())
            self._parts.objects.erase(workspace, folder_of(job_id))
        self._parts.store.let_go_of(workspace, [UUID(job_id) for job_id, _ in found])
        if found:
            self._parts.objects.wipe()
        return len(found)

    def judge(self, job_id: str) -> None:
        """Judge a job, in a thread of the queue; return when it has ended, here or elsewhere, or was left to others."""
        assert self._loop is not None  # noqa: S101 - the queue is opened by `start`
        asyncio.run_coroutine_threadsafe(self._judged(job_id), self._loop).result()

    async def _tend(self) -> None:
        """Open the queue, then hold on to what runs here, and see to what nobody runs."""
        while not self._is_off:
            await take_turn("jobs", self._tend_once())
            await asyncio.sleep(_TEND_SECONDS)

    async def _tend_once(self) -> None:
        try:
            if self._queue is None:
                self._queue = await to_thread.run_sync(self._open_queue, self)
            for job_id in await to_thread.run_sync(self._hold_on):
                self._cancel_here(job_id)
        except MissingExtra as missing:
            log.warning("jobs_are_off", extra={"detail": missing.detail})
            self._is_off = True
        except StorageUnavailable as error:
            log.warning("jobs_wait", extra={"detail": error.detail})

    async def _sweep(self) -> None:
        """Erase what is old or lost. An object store may take its time, and no lease may run out meanwhile."""
        while True:
            await take_turn("jobs", to_thread.run_sync(self._sweep_once))
            await asyncio.sleep(_FORGET_EVERY_SECONDS)

    def _sweep_once(self) -> None:
        try:
            self._forget()
            if time.monotonic() - self._searched > _LOST_EVERY_SECONDS:
                self._searched = time.monotonic()
                self._erase_lost()
        except StorageUnavailable as error:
            log.warning("jobs_not_swept", extra={"detail": error.detail})

    def _hold_on(self) -> set[str]:
        assert self._queue is not None  # noqa: S101 - opened before
        store, now = self._parts.store, utc_now()
        to_cancel = store.renew(self._holder, now + timedelta(seconds=self._parts.limits.lease_seconds))
        for job_id, takes in store.unheld(now):
            if self._queued.get(job_id) != takes:
                self._queued[job_id] = takes
                self._queue.put(job_id, takes)
        return to_cancel

    def _forget(self) -> None:
        before = utc_now() - timedelta(seconds=self._parts.limits.keep_seconds)
        self.clean_up(self._parts.store.forget(before))

    def clean_up(self, gone: Sequence[tuple[str, str]]) -> None:
        """Erase what is kept of jobs that are gone (workspace, id), and what the queue keeps where it is open here."""
        for workspace, job_id in gone:
            self._parts.objects.erase(workspace, folder_of(job_id))
            self._queued.pop(job_id, None)
        if gone and self._queue is not None:
            self._queue.forget([job_id for _, job_id in gone])

    def _erase_lost(self) -> None:
        """Erase what has no job: whoever took it died between keeping the input and writing the job."""
        for workspace, folder in self._parts.objects.folders(FOLDERS, utc_now() - _LOST):
            if self._parts.store.get(workspace, UUID(folder.removeprefix(FOLDERS))) is None:
                self._parts.objects.erase(workspace, folder)

    async def _judged(self, job_id: str) -> None:
        now = utc_now()
        until = now + timedelta(seconds=self._parts.limits.lease_seconds)
        if job_id in self._running:
            return
        job = await to_thread.run_sync(self._parts.store.take, UUID(job_id), self._holder, now, until)
        if job is None or job.state in ENDED:
            return
        task = self._running[job_id] = asyncio.create_task(self._run(job))
        try:
            await asyncio.wait([task])
        finally:
            del self._running[job_id]
        defect = None if task.cancelled() else task.exception()
        if defect is not None:
            # A job that ended in no way would be held for ever.
            log.error("defect", extra={"job": job.id}, exc_info=defect)
            told = InternalError("Something went wrong that should not have; it is in the server's log.")
            await self._end(job, "failed", error=self._parts.problem_of(told))

    async def _run(self, job: Job) -> None:
        try:
            rows, not_judged = await self._run_traced(job)
            await self._end(job, "done", rows=rows, not_judged=not_judged)
        except DiscernError as error:
            await self._end(job, "failed", error=self._parts.problem_of(error))
        except (asyncio.CancelledError, _LeftOff):
            await self._left_off(job)

    async def _run_traced(self, job: Job) -> tuple[int, int]:
        """Run a job as part of the trace of the request that handed it in, where that was traced."""
        run = self._run_file if job.kind == "file" else self._run_input
        tracer = self._parts.tracer
        if job.trace is None or not tracer.is_on:
            return await run(job)
        with traced(tracer, parsed_parent(job.trace.encode()), "job") as trace:
            trace.attributes |= {"discern.job": job.id, "discern.workspace": job.workspace}
            return await run(job)

    async def _left_off(self, job: Job) -> None:
        """End a job that was cancelled; leave one that runs to others, where this process stops."""
        if job.id in self._cancelled:
            await self._end(job, "cancelled")
            self._cancelled.discard(job.id)

    async def _run_input(self, job: Job) -> tuple[int, int]:
        assert job.verdict_id is not None  # noqa: S101 - every job of this kind has one
        principal = Principal(job.principal, job.workspace)
        subject = await to_thread.run_sync(self._subject_of, job)
        content = Held(partial(self._parts.objects.open, object_of(job, INPUT)), job.bytes)
        request = DetectionRequest(principal, job.detector, content, job.version, UUID(job.verdict_id), subject)
        while True:
            # Whoever had it before may have written the verdict and died.
            known = await to_thread.run_sync(self._parts.verdicts.get, job.workspace, UUID(job.verdict_id))
            if known is not None:
                return 1, 0
            try:
                await self._parts.detect(request)
            except (Overloaded, StorageUnavailable) as error:
                await asyncio.sleep(error.retry_after or _AGAIN_SECONDS)
            else:
                return 1, 0

    def _subject_of(self, job: Job) -> Subject | None:
        """Return whom a job is about. Raises ConsentMissing, also where consent is asked for since it was handed in."""
        if job.subject is None:
            return self._parts.subjects.admit(job.workspace, None)
        subject = self._parts.subjects.again(job.workspace, job.subject)
        if subject is None:
            raise ConsentMissing(
                "The subject of the job was erased, or has withdrawn their consent.", mend="Do not ask about them."
            )
        return subject

    async def _run_file(self, job: Job) -> tuple[int, int]:
        seen = 0

        def watch(share: float, rows: int) -> None:
            nonlocal seen
            seen = rows
            if job.id in self._cancelled or self._stopping:
                raise _LeftOff
            self._parts.store.advance(UUID(job.id), min(share, 1.0), rows)

        await to_thread.run_sync(self._subject_of, job)
        principal = Principal(job.principal, job.workspace)
        given, detector = object_of(job, INPUT), (job.detector, job.version)
        while True:
            self._files.add(job.id)
            try:
                not_judged = await to_thread.run_sync(self._parts.score_table, given, detector, principal, watch)
            except StorageUnavailable as error:
                log.warning("job_waits", extra={"job": job.id, "detail": error.detail})
            else:
                return seen, not_judged
            finally:
                self._files.discard(job.id)
            if job.id in self._cancelled or self._stopping:
                raise _LeftOff
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _end(self, job: Job, state: Any, **facts: Any) -> None:  # noqa: ANN401
        ended = await to_thread.run_sync(lambda: self._parts.store.finish(UUID(job.id), state, utc_now(), **facts))
        if ended:
            self._parts.counts.add(f"jobs.{state}", workspace=job.workspace)
        await to_thread.run_sync(self._clean, msgspec.structs.replace(job, state=state))

    def _clean(self, job: Job) -> None:
        """Erase what of a job is not its result."""
        kept = (RESULT,) if job.state == "done" and job.kind == "file" else ()
        try:
            self._parts.objects.erase(job.workspace, folder_of(job.id), but=kept)
        except StorageUnavailable as error:
            log.error("job_not_cleaned", extra={"job": job.id, "detail": error.detail})  # noqa: TRY400

    def _cancel_here(self, job_id: str) -> None:
        task = self._running.get(job_id)
        # Cancelled twice, it would be kept from cleaning up.
        if task is not None and job_id not in self._cancelled:
            self._cancelled.add(job_id)
            if job_id not in self._files:
                task.cancel()


def unknown(job_id: UUID) -> UnknownJob:
    """Return what to say of a job that a workspace does not have."""
    return UnknownJob(f"There is no job {job_id}.", mend="`GET /v1/jobs` lists them.")
