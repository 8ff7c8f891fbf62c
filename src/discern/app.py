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
from discern.audit.service_anchors import FileAnchors, HttpAnchors, ObjectAnchors
from discern.audit.store import AuditStore
from discern.audit.types import Act
from discern.core.counts import Counts
from discern.core.errors import DiscernError, MissingExtra
from discern.detection.batching import Batcher
from discern.detection.bulk.store import RunStore
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
from discern.objects.ports import MasterKey
from discern.objects.service import SealedObjects
from discern.objects.service_masters import FileMasterKey, KeyRing, SecretMasterKey
from discern.objects.service_rotation import Rotation
from discern.objects.store import ObjectTable
from discern.objects.types import Address
from discern.registry.service import Catalogue
from discern.settings import Settings
from discern.store.database import Database, Durability
from discern.store.objects import SCHEMES, ObjectAccess, ObjectStore, check_place
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
    objects: SealedObjects
    rotation: Rotation
    audit_store: AuditStore
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
    objects, rotation = _objects(settings, database, audit)
    keys = Keys(KeyStore(database, audit))
    policies = Policies(settings.home / "policies")
    runs = partial(_bulk_parts, settings, catalogue, limits, locator, RunStore(database))
    return Services(
        settings=settings,
        limits=limits,
        database=database,
        keys=keys,
        tokens=Tokens(keys, settings.home / "keys" / "tokens", settings.token_seconds),
        users=Users(UserStore(database, audit)),
        workspaces=Workspaces(WorkspaceStore(database, audit)),
        policies=policies,
        access=Access(policies, partial(_record_denial, audit)),
        rate_limits=RateLimits(settings.rate_limits, settings.redis_url, counts),
        audit=audit,
        objects=objects,
        rotation=rotation,
        audit_store=audit_store,
        catalogue=catalogue,
        verdicts=verdicts,
        locator=locator,
        plane=plane,
        batcher=batcher,
        committer=committer,
        cache=cache,
        jobs=_jobs(settings, job_store, objects, verdicts, detect, runs, counts),
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
    if settings.audit_anchor.startswith(SCHEMES):
        check_place(settings.audit_anchor, "audit_anchor")
        return ObjectAnchors(ObjectStore(settings.audit_anchor, _object_access(settings)))
    if settings.audit_anchor.startswith(("http://", "https://")):
        return HttpAnchors(settings.audit_anchor, _outbound(settings))
    return FileAnchors(
        Path(settings.audit_anchor).absolute() if settings.audit_anchor else settings.home / "audit-anchors.jsonl"
    )


def _object_access(settings: Settings) -> ObjectAccess:
    return ObjectAccess(
        endpoint=settings.s3_endpoint or None,
        region=settings.s3_region or None,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key or None,
        session_token=settings.s3_session_token or None,
    )


def _objects(settings: Settings, database: Database, audit: AuditTrail) -> tuple[SealedObjects, Rotation]:
    ring, table = _key_ring(settings), ObjectTable(database)
    return SealedObjects(table, _object_store(settings), ring), Rotation(ring, (table,), audit)


def _object_store(settings: Settings) -> ObjectStore:
    if settings.objects_url:
        check_place(settings.objects_url, "objects_url")
        return ObjectStore(settings.objects_url, _object_access(settings))
    return ObjectStore(settings.home / "objects", ObjectAccess())


def _key_ring(settings: Settings) -> KeyRing:
    """Return the master key that is set, and beside it those that were set up before: they still unwrap."""
    there: dict[str, MasterKey] = {"file": FileMasterKey(settings.home / "keys" / "master")}
    if settings.master_secret or settings.master_key == "secret":
        there["secret"] = SecretMasterKey(settings.master_secret)
    if settings.vault_url or settings.master_key == "vault":
        there["vault"] = _vault_key(settings)
    if settings.aws_kms_key or settings.master_key == "aws":
        there["aws"] = _aws_key(settings)
    master = there.pop(settings.master_key)
    return KeyRing(master, tuple(there.values()))


def _vault_key(settings: Settings) -> MasterKey:
    from discern.objects.service_vault import VaultMasterKey  # noqa: PLC0415 - few have one

    def ask(
        method: str, url: str, body: bytes | None, headers: Mapping[str, str], most_bytes: int
    ) -> tuple[int, bytes]:
        from discern.store.outbound import ANYWHERE, Outbound, networks  # noqa: PLC0415

        return Outbound(networks(ANYWHERE)).ask(method, url, body, headers, most_bytes)

    return VaultMasterKey(settings.vault_url, settings.vault_token, settings.vault_key, ask)


def _aws_key(settings: Settings) -> MasterKey:
    from discern.objects.service_kms import AwsMasterKey  # noqa: PLC0415 - few have one

    return AwsMasterKey(
        settings.aws_kms_key, endpoint=settings.aws_kms_endpoint or None, region=settings.s3_region or None
    )


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
        access=_object_access(settings),
        threads=settings.detection_threads or os.cpu_count() or 1,
        principal=principal,
        face_model=settings.face_model,
    )


def _jobs(
    settings: Settings,
    store: JobStore,
    objects: SealedObjects,
    verdicts: VerdictStore,
    detect: Detect,
    parts: Callable[[Principal], Parts],
    counts: Counts,
) -> Jobs:
    def score(
        given: Address,
        detector: tuple[str, str],
        principal: Principal,
        watch: Callable[[float, int], None],
    ) -> int:
        if find_spec("pyarrow") is None:
            detail = "Jobs over tables need pyarrow, which is not installed."
            raise MissingExtra(detail, mend="Install the extra `bulk`.", extra="bulk")
        from discern.detection.bulk.service import score_between  # noqa: PLC0415
        from discern.detection.bulk.service_objects import ObjectJournal, ObjectPlace  # noqa: PLC0415
        from discern.detection.bulk.types import Job, Progress  # noqa: PLC0415

        def told(progress: Progress) -> None:
            watch(progress.share or 0.0, progress.rows)

        place, journal = ObjectPlace(objects, given), ObjectJournal(objects, given.workspace, given.folder)
        job = Job(place.name, Path(journal.name))
        report = score_between(job, detector, parts(principal), place, journal, watch=told, note=lambda _: None)
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
        score_table=score,
        problem_of=problem_of,
        objects=objects,
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
