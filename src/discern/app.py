"""The one composition root: what Discern is made of, put together from settings.

- Nothing here does I/O until `Services.open()`.
- The steps of the plane stand in one list, `_steps`.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import discern
from discern.access.service import Keys, Workspaces
from discern.access.service_limits import RateLimits
from discern.access.service_policies import Access, Policies
from discern.access.service_tokens import Tokens
from discern.access.service_users import Users
from discern.access.store import KeyStore, WorkspaceStore
from discern.access.store_users import UserStore
from discern.access.types import LOCAL, Action, Principal, Resource
from discern.audit.ports import AnchorPlace
from discern.audit.service import AuditTrail
from discern.audit.service_anchors import FileAnchors, HttpAnchors
from discern.audit.store import AuditStore
from discern.audit.types import Act
from discern.compliance.service import Compliance, Sources
from discern.compliance.types import Installation, Kept
from discern.core.counts import Counts
from discern.core.errors import DiscernError, MissingExtra
from discern.detection.batching import Batcher
from discern.detection.bulk.store import RunStore
from discern.detection.bulk.types import ObjectAccess
from discern.detection.caching import AnswerCache
from discern.detection.committing import Committer
from discern.detection.jobs.ports import Poster
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.service import Parts as JobParts
from discern.detection.jobs.service_telling import Telling
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import JobLimits
from discern.detection.service import Answer, Plane, from_cache, on_ledger
from discern.detection.store import VerdictStore
from discern.detection.types import Detect, DetectBatch
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
    from discern.detection.jobs.service_queue import DbosQueue

BUILTIN = Path(__file__).parent / "detectors" / "builtin"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one installation."""

    settings: Settings
    limits: InputLimits
    database: Database
    keys: Keys
    users: Users
    tokens: Tokens
    workspaces: Workspaces
    policies: Policies
    access: Access
    rate_limits: RateLimits
    audit: AuditTrail
    audit_store: AuditStore
    compliance: Compliance
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
        self.keys.write_down_uses()
        self.users.write_down_uses()
        self.audit.close()
        self.batcher.close()
        self.committer.close()
        self.database.close()


def build_services(settings: Settings) -> Services:
    """Put the parts together."""
    limits = _input_limits(settings)
    database = _database(settings)
    catalogue = _catalogue(settings)
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
    audit_store = AuditStore(database)
    audit = AuditTrail(audit_store, _anchor_place(settings), settings.audit_anchor_seconds)
    keys = Keys(KeyStore(database, audit))
    policies = Policies(settings.home / "policies")
    users = Users(UserStore(database, audit))
    runs = partial(_bulk_parts, settings, catalogue, limits, locator, RunStore(database))
    return Services(
        settings=settings,
        limits=limits,
        database=database,
        keys=keys,
        tokens=Tokens(keys, settings.home / "keys" / "tokens", settings.token_seconds),
        users=users,
        workspaces=Workspaces(WorkspaceStore(database, audit)),
        policies=policies,
        access=Access(policies, partial(_record_denial, audit)),
        rate_limits=RateLimits(settings.rate_limits, settings.redis_url, counts),
        audit=audit,
        audit_store=audit_store,
        compliance=_compliance(settings, keys, users, audit, catalogue, policies),
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


def _catalogue(settings: Settings) -> Catalogue:
    return Catalogue(
        builtin=BUILTIN,
        home=settings.home,
        limits=VettingLimits(
            memory_bytes=settings.vetting_bytes,
            wall_seconds=settings.vetting_seconds,
            processor_seconds=math.ceil(settings.vetting_seconds),
        ),
        inference_threads=settings.inference_threads,
    )


def _input_limits(settings: Settings) -> InputLimits:
    return InputLimits(
        image_bytes=settings.image_bytes,
        image_pixels=settings.image_pixels,
        video_bytes=settings.video_bytes,
        video_pixels=settings.video_pixels,
        video_seconds=settings.video_seconds,
        record_bytes=settings.record_bytes,
    )


def _record_denial(audit: AuditTrail, principal: Principal, action: Action, resource: Resource, reason: str) -> None:
    audit.record(Act(principal.workspace, principal.id, action, str(resource), outcome="denied", reason=reason))


def _anchor_place(settings: Settings) -> AnchorPlace:
    if settings.audit_anchor.startswith(("http://", "https://")):
        return HttpAnchors(settings.audit_anchor, _outbound(settings))
    return FileAnchors(
        Path(settings.audit_anchor).absolute() if settings.audit_anchor else settings.home / "audit-anchors.jsonl"
    )


def _compliance(
    settings: Settings, keys: Keys, users: Users, audit: AuditTrail, catalogue: Catalogue, policies: Policies
) -> Compliance:
    return Compliance(
        Sources(
            installation=_installation(settings),
            keys=keys,
            users=users,
            ways_in=lambda _: ("password",),
            audit=audit,
            detectors=catalogue,
            policies=policies.in_force,
        )
    )


_BOUNDS = (
    *("image_bytes", "image_pixels", "video_bytes", "video_seconds", "record_bytes", "batch_bytes", "job_bytes"),
    *("max_connections", "max_waiting", "waiting_bytes", "max_streams", "max_waiting_jobs", "body_seconds"),
)


def _installation(settings: Settings) -> Installation:
    """Return what a compliance report says of the settings: no secrets, no addresses, no paths."""
    anchor = settings.audit_anchor
    return Installation(
        version=discern.__version__,
        database="PostgreSQL" if settings.database_url else "SQLite",
        durability=settings.ledger_durability,
        has_tls=settings.tls_certificate is not None,
        takes_client_certificates=settings.tls_client_ca is not None,
        is_local=_is_local(settings.host),
        trusted_proxies=_count(settings.trusted_proxies),
        cors_origins=_count(settings.cors_origins),
        rate_limits=settings.rate_limits,
        limits={name: getattr(settings, name) for name in _BOUNDS},
        anchors_in="URL" if anchor.startswith(("http://", "https://")) else "file" if anchor else "home folder",
        anchor_seconds=settings.audit_anchor_seconds,
        kept=(
            Kept("verdicts", None),
            Kept("audit log", None),
            Kept("jobs and their results", settings.job_keep_seconds),
            Kept("known answers", settings.cache_seconds),
        ),
    )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _count(listed: str) -> int:
    return sum(bool(part.strip()) for part in listed.split(","))


def _outbound(settings: Settings) -> Poster:
    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        from discern.store.outbound import Outbound, networks  # noqa: PLC0415

        return Outbound(networks(settings.webhook_allow)).post(url, body, headers)

    return post


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
        LOCAL,
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
    ) -> int:
        if find_spec("pyarrow") is None:
            detail = "Jobs over tables need pyarrow, which is not installed."
            raise MissingExtra(detail, mend="Install the extra `bulk`.", extra="bulk")
        from discern.detection.bulk.service import score_file  # noqa: PLC0415
        from discern.detection.bulk.types import Job, Progress  # noqa: PLC0415

        def told(progress: Progress) -> None:
            watch(progress.share or 0.0, progress.rows)

        report = score_file(Job(str(given), output), detector, parts(principal), watch=told, note=lambda _: None)
        watch(1.0, report.totals.rows)
        return report.totals.refused

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
        problem_of=problem_of,
        folder=settings.home / "jobs",
        telling=Telling(
            store,
            verdicts,
            _outbound(settings),
            settings.webhook_secret,
            settings.home / "keys" / "webhook.secret",
            counts,
        ),
        limits=job_limits(settings),
        counts=counts,
    )
    return Jobs(held, queue)


def job_limits(settings: Settings) -> JobLimits:
    """Return what bounds jobs."""
    return JobLimits(
        most_bytes=settings.job_bytes,
        most_waiting=settings.max_waiting_jobs,
        body_seconds=settings.body_seconds,
        at_a_time=settings.jobs_at_a_time,
        keep_seconds=settings.job_keep_seconds,
        lease_seconds=settings.job_lease_seconds,
        record_bytes=settings.record_bytes,
    )
