"""The one composition root: what Discern is made of, put together from settings.

- Nothing here does I/O until `Services.open()`.
- The steps of the plane stand in one list, `_steps`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import discern
from discern.access.service import Keys
from discern.access.store import KeyStore
from discern.access.types import Principal
from discern.core.counts import Counts
from discern.core.errors import DiscernError, MissingExtra
from discern.core.verdict import Verdict
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detection.batching import Batcher
from discern.detection.bulk.store import RunStore
from discern.detection.bulk.types import ObjectAccess
from discern.detection.caching import AnswerCache
from discern.detection.committing import Committer
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.service import Parts as JobParts
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import JobLimits
from discern.detection.service import Answer, Plane, from_cache, on_ledger
from discern.detection.store import VerdictStore
from discern.detection.types import Detect, DetectBatch, VerdictPage
from discern.detectors.vetting import VettingLimits
from discern.inputs.faces import FaceLocator, face_locator, try_locator
from discern.inputs.types import InputLimits
from discern.registry.service import Catalogue
from discern.settings import Settings
from discern.store.database import Database, Durability
from discern.store.shared_cache import SharedCache
from discern.store.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from discern.detection.bulk.service import Parts
    from discern.detection.jobs.api import JobEndpoint
    from discern.detection.jobs.service_queue import DbosQueue
    from discern.detection.streams.api import StreamEndpoint
    from discern.http.bodies import Bodies
    from discern.http.plain import Application, PlainRoute
    from discern.http.statistics import Place

BUILTIN = Path(__file__).parent / "detectors" / "builtin"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one installation."""

    settings: Settings
    limits: InputLimits
    database: Database
    keys: Keys
    catalogue: Catalogue
    verdicts: VerdictStore
    locator: FaceLocator
    plane: Plane
    batcher: Batcher
    committer: Committer
    cache: AnswerCache
    jobs: Jobs
    job_store: JobStore
    counts: Counts
    detect: Detect
    detect_batch: DetectBatch

    def open(self) -> None:
        """Open the database, and try a face model where one is set. Raises StorageUnavailable or InvalidSettings."""
        if self.settings.face_model is not None:
            try_locator(self.locator)
        self.database.open()

    def close(self) -> None:
        """Give everything back."""
        self.batcher.close()
        self.committer.close()
        self.database.close()


def build_services(settings: Settings) -> Services:
    """Put the parts together."""
    limits = InputLimits(
        image_bytes=settings.image_bytes,
        image_pixels=settings.image_pixels,
        video_bytes=settings.video_bytes,
        video_pixels=settings.video_pixels,
        video_seconds=settings.video_seconds,
        record_bytes=settings.record_bytes,
    )
    database = _database(settings)
    catalogue = Catalogue(
        builtin=BUILTIN,
        home=settings.home,
        limits=VettingLimits(
            memory_bytes=settings.vetting_bytes,
            wall_seconds=settings.vetting_seconds,
            processor_seconds=math.ceil(settings.vetting_seconds),
        ),
        inference_threads=settings.inference_threads,
    )
    locator = face_locator(settings.face_model)
    counts = Counts()
    batcher = Batcher(
        threads=settings.detection_threads or max(1, (os.cpu_count() or 1) // settings.workers),
        most_rows=settings.batch_rows,
        deadline_seconds=settings.batch_deadline_seconds,
        most_waiting_rows=settings.max_waiting_rows,
        counts=counts,
    )
    plane = Plane(catalogue, limits, locator, batcher)
    verdicts = VerdictStore(database)
    committer = Committer(verdicts, counts)
    cache = _answer_cache(settings, counts)
    detect = plane.asking(_steps(plane, cache, locator, committer))
    job_store = JobStore(database)
    keys = Keys(KeyStore(database))
    runs = partial(_bulk_parts, settings, catalogue, limits, locator, RunStore(database))
    return Services(
        settings=settings,
        limits=limits,
        database=database,
        keys=keys,
        catalogue=catalogue,
        verdicts=verdicts,
        locator=locator,
        plane=plane,
        batcher=batcher,
        committer=committer,
        cache=cache,
        jobs=_jobs(settings, job_store, verdicts, detect, runs, counts),
        job_store=job_store,
        counts=counts,
        detect=detect,
        detect_batch=plane.asking_many(detect, committer),
    )


def _database(settings: Settings) -> Database:
    durability = cast("Durability", settings.ledger_durability)
    if settings.database_url:
        from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra

        return PostgresqlDatabase(
            settings.database_url, connections=settings.database_connections, durability=durability
        )
    return SqliteDatabase(settings.home / "discern.db", durability=durability)


def _steps(plane: Plane, cache: AnswerCache, locator: FaceLocator, committer: Committer) -> Answer:
    """Put the steps of the plane around each other, the innermost first."""
    answer: Answer = plane.assess
    answer = from_cache(answer, cache, locator)
    return on_ledger(answer, committer)


def _answer_cache(settings: Settings, counts: Counts) -> AnswerCache:
    shared = None
    if settings.redis_url and settings.cache_entries:
        shared = SharedCache(
            settings.redis_url,
            wait_seconds=settings.cache_wait_milliseconds / 1000,
            keep_seconds=settings.cache_seconds,
            counts=counts,
        )
    return AnswerCache(
        entries=settings.cache_entries, keep_seconds=settings.cache_seconds, shared=shared, counts=counts
    )


def bulk_parts(services: Services) -> Parts:
    """Return what bulk scoring works with. Needs pyarrow."""
    return _bulk_parts(
        services.settings,
        services.catalogue,
        services.limits,
        services.locator,
        RunStore(services.database),
        Principal(id="local", workspace=DEFAULT_WORKSPACE),
    )


def _bulk_parts(
    settings: Settings,
    catalogue: Catalogue,
    limits: InputLimits,
    locator: FaceLocator,
    runs: RunStore,
    principal: Principal,
) -> Parts:
    from discern.detection.bulk.service import Parts  # noqa: PLC0415 - needs an extra

    return Parts(
        detectors=catalogue,
        limits=limits,
        locator=locator,
        runs=runs,
        access=ObjectAccess(
            endpoint=settings.s3_endpoint or None,
            region=settings.s3_region or None,
            access_key=settings.s3_access_key or None,
            secret_key=settings.s3_secret_key or None,
            session_token=settings.s3_session_token or None,
        ),
        threads=settings.detection_threads or os.cpu_count() or 1,
        principal=principal,
        face_model=settings.face_model,
    )


def _jobs(
    settings: Settings,
    store: JobStore,
    verdicts: VerdictStore,
    detect: Detect,
    parts: Callable[[Principal], Parts],
    counts: Counts,
) -> Jobs:
    def score(
        given: Path,
        output: Path,
        detector: tuple[str, str],
        principal: Principal,
        watch: Callable[[float, int], None],
    ) -> None:
        if find_spec("pyarrow") is None:
            detail = "Jobs over tables need pyarrow, which is not installed."
            raise MissingExtra(detail, mend="Install the extra `bulk`.", extra="bulk")
        from discern.detection.bulk.service import score_file  # noqa: PLC0415
        from discern.detection.bulk.types import Job, Progress  # noqa: PLC0415

        def told(progress: Progress) -> None:
            watch(progress.share or 0.0, progress.rows)

        report = score_file(Job(str(given), output), detector, parts(principal), watch=told, note=lambda _: None)
        watch(1.0, report.totals.rows)

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        from discern.store.outbound import Outbound, networks  # noqa: PLC0415

        return Outbound(networks(settings.webhook_allow)).post(url, body, headers)

    def problem_of(error: DiscernError) -> dict[str, Any]:
        from discern.http.problems import problem_members  # noqa: PLC0415

        return problem_members(error)

    def queue(jobs: Jobs) -> DbosQueue:
        from discern.detection.jobs.service_queue import DbosQueue  # noqa: PLC0415

        return DbosQueue(jobs, settings.database_url, settings.home / "jobs.db")

    held = JobParts(
        store=store,
        verdicts=verdicts,
        detect=detect,
        score_file=score,
        post=post,
        problem_of=problem_of,
        folder=settings.home / "jobs",
        secret_file=settings.home / "keys" / "webhook.secret",
        secret=settings.webhook_secret,
        limits=_job_limits(settings),
        counts=counts,
    )
    return Jobs(held, queue)


def _job_limits(settings: Settings) -> JobLimits:
    return JobLimits(
        most_bytes=settings.job_bytes,
        most_waiting=settings.max_waiting_jobs,
        body_seconds=settings.body_seconds,
        at_a_time=settings.jobs_at_a_time,
        keep_seconds=settings.job_keep_seconds,
        lease_seconds=settings.job_lease_seconds,
    )


def _batch_routes(services: Services, bodies: Bodies) -> list[PlainRoute]:
    """Return the routes that ask about many inputs at once: ours, and those of the Open Inference Protocol."""
    from discern.detection.api_batch import BATCH_OPERATION, BatchEndpoint  # noqa: PLC0415
    from discern.detection.batches import BatchLimits  # noqa: PLC0415
    from discern.detection.jobs.api import JOB_OPERATION  # noqa: PLC0415
    from discern.http.authentication import principal_of  # noqa: PLC0415
    from discern.http.inference_protocol import InferenceEndpoint, inference_operation  # noqa: PLC0415
    from discern.http.plain import PlainRoute  # noqa: PLC0415
    from discern.http.problems import problem_members  # noqa: PLC0415

    settings = services.settings
    limits = BatchLimits(settings.batch_records, settings.batch_images, settings.batch_bytes)
    ask = BatchEndpoint(
        services.detect_batch,
        services.catalogue,
        services.limits,
        limits,
        bodies=bodies,
        principal_of=principal_of,
        problem_of=problem_members,
    )
    infer = InferenceEndpoint(services.detect_batch, services.catalogue, services.limits, limits, bodies=bodies)
    model = "/v2/models/{name}"
    return [
        PlainRoute("POST", "/v1/detectors/{name}/verdicts:batch", ask, BATCH_OPERATION),
        PlainRoute("POST", "/v1/detectors/{name}/jobs", _job_endpoint(services), JOB_OPERATION),
        PlainRoute("POST", f"{model}/infer", infer, inference_operation(of_version=False)),
        PlainRoute("POST", f"{model}/versions/{{version}}/infer", infer, inference_operation(of_version=True)),
    ]


def _job_endpoint(services: Services) -> JobEndpoint:
    from discern.detection.jobs.api import JobEndpoint  # noqa: PLC0415
    from discern.http.authentication import principal_of  # noqa: PLC0415
    from discern.store.outbound import check_url  # noqa: PLC0415

    return JobEndpoint(
        services.jobs,
        services.job_store,
        services.catalogue,
        _job_limits(services.settings),
        check_url=check_url,
        principal_of=principal_of,
    )


def _streams(services: Services) -> StreamEndpoint:
    from discern.detection.streams.api import StreamEndpoint  # noqa: PLC0415
    from discern.detection.streams.types import StreamLimits  # noqa: PLC0415
    from discern.http.authentication import key_check_of, principal_of  # noqa: PLC0415
    from discern.http.problems import problem_members  # noqa: PLC0415

    async def record(verdict: Verdict, principal: Principal) -> None:
        await services.committer.write([(verdict, principal.id)])

    settings = services.settings
    return StreamEndpoint(
        services.detect,
        record,
        services.catalogue,
        StreamLimits(
            most=settings.max_streams,
            waiting=settings.stream_waiting,
            waiting_bytes=settings.stream_waiting_bytes,
            idle_seconds=settings.stream_idle_seconds,
        ),
        services.counts,
        principal_of=principal_of,
        problem_of=problem_members,
        key_check_of=key_check_of,
    )


def create_app(services: Services, place: Place | None = None) -> Application:
    """Return the HTTP application over `services`, which the caller has opened and closes."""
    # Imported here: the command line answers without an HTTP framework.
    from discern.detection.api import VERDICT_OPERATION, VerdictEndpoint, ledger_routes  # noqa: PLC0415
    from discern.detection.jobs.api import job_routes  # noqa: PLC0415
    from discern.detection.jobs.types import Job, JobPage  # noqa: PLC0415
    from discern.detection.service_direct import DirectRecords  # noqa: PLC0415
    from discern.http.authentication import Authentication, principal_of  # noqa: PLC0415
    from discern.http.bodies import Bodies  # noqa: PLC0415
    from discern.http.description import describe  # noqa: PLC0415
    from discern.http.direct import DirectRoute  # noqa: PLC0415
    from discern.http.health import health_routes  # noqa: PLC0415
    from discern.http.inference_protocol import InferenceError, inference_routes  # noqa: PLC0415
    from discern.http.plain import Application, PlainRoute  # noqa: PLC0415
    from discern.http.problems import install_problem_handlers  # noqa: PLC0415
    from discern.http.statistics import Place, statistics_routes  # noqa: PLC0415
    from discern.registry.api import registry_routes  # noqa: PLC0415

    app = Application(
        title="Discern",
        version=discern.__version__,
        description="Verdicts on images, videos and records, each on record before it is answered.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(Authentication, keys=services.keys)
    install_problem_handlers(app)
    parts = {"database": services.database.ping, "detectors": services.catalogue.ping}
    app.include_router(health_routes(parts, lambda: app.draining))
    app.include_router(statistics_routes(services.counts, place or Place()))
    app.include_router(registry_routes(services.catalogue))
    bodies = Bodies(
        max_waiting=services.settings.max_waiting,
        waiting_bytes=services.settings.waiting_bytes,
        body_seconds=services.settings.body_seconds,
    )
    ask = VerdictEndpoint(
        services.detect,
        services.catalogue,
        services.limits,
        direct=DirectRecords(services.plane, services.cache, services.batcher, services.committer, services.locator),
        bodies=bodies,
        principal_of=principal_of,
    )
    path = "/v1/detectors/{name}/verdicts"
    app.put_in_front(
        [PlainRoute("POST", path, ask, VERDICT_OPERATION), *_batch_routes(services, bodies)], services.keys
    )
    app.direct = DirectRoute(path, ask.at_once, services.keys, lambda: app.draining)
    streams = _streams(services)
    app.put_streams_in_front("/v1/detectors/{name}/stream", streams, services.keys, streams.drain)
    app.include_router(ledger_routes(services.verdicts, principal_of=principal_of))
    app.include_router(job_routes(services.jobs, services.job_store, services.verdicts, principal_of=principal_of))
    app.include_router(inference_routes(services.catalogue, parts))
    describe(app, (Verdict, VerdictPage, Job, JobPage, InferenceError))
    return app
