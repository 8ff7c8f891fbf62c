"""The one composition root: what Discern is made of, put together from settings.

- Nothing here does I/O until `Services.open()`.
- The steps of the plane stand in one list, `_steps`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from discern.access.ports import CodeSender, Fetch
from discern.access.service import Keys, Workspaces, check_role
from discern.access.service_codes import HttpCodes, NoCodes
from discern.access.service_factors import Factors
from discern.access.service_federation import Federation, FederationParts, FederationSettings
from discern.access.service_limits import RateLimits
from discern.access.service_passkeys import Passkeys
from discern.access.service_policies import Access, Policies
from discern.access.service_proofs import Proofs
from discern.access.service_sealing import Sealing
from discern.access.service_sign_in import SignIn
from discern.access.service_tokens import Tokens
from discern.access.service_users import Users
from discern.access.store import KeyStore, WorkspaceStore
from discern.access.store_factors import FactorStore
from discern.access.store_federation import FederationStore
from discern.access.store_users import UserStore, old_sessions
from discern.access.types import LOCAL, Principal, Resource
from discern.audit.ports import AnchorPlace
from discern.audit.service import AuditTrail
from discern.audit.service_anchors import FileAnchors, HttpAnchors
from discern.audit.store import AuditStore
from discern.audit.types import Act
from discern.core.counts import Counts
from discern.core.errors import CallerError, DiscernError, InvalidSettings, MissingExtra
from discern.detection.batching import Batcher
from discern.detection.bulk.store import RunStore, old_runs
from discern.detection.bulk.types import ObjectAccess
from discern.detection.caching import AnswerCache
from discern.detection.committing import Committer
from discern.detection.jobs.ports import Poster
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.service import Parts as JobParts
from discern.detection.jobs.service_expiry import ExpiringJobs
from discern.detection.jobs.service_telling import Telling
from discern.detection.jobs.store import JobStore, old_jobs
from discern.detection.jobs.types import JobLimits
from discern.detection.service import Answer, Plane, from_cache, on_ledger, within_quota
from discern.detection.service_probing import ProbingWatch
from discern.detection.store import VerdictStore, old_verdicts
from discern.detection.types import Detect, DetectBatch
from discern.detectors.vetting import VettingLimits
from discern.inputs.faces import FaceLocator, face_locator, try_locator
from discern.inputs.types import InputLimits
from discern.privacy.service import SubjectKeys
from discern.privacy.service_privacy import Privacy
from discern.privacy.store import ConsentStore
from discern.privacy.store_keys import SubjectKeyStore
from discern.quotas.ports import Meter
from discern.quotas.service import Quotas
from discern.quotas.store import QuotaStore
from discern.registry.service import Catalogue
from discern.retention.ports import Expiring
from discern.retention.service import Retention
from discern.retention.store import RetentionStore
from discern.retention.types import Kind
from discern.settings import Settings
from discern.store.database import Database, Durability
from discern.store.master_key import FileMasterKey
from discern.store.migrations import SUBJECT_KEYS
from discern.store.partitions import MonthlyTable
from discern.store.secret_files import SecretFile
from discern.store.shared_cache import SharedCache
from discern.store.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from discern.detection.bulk.service import Parts
    from discern.detection.jobs.service_queue import DbosQueue
    from discern.store.replica import Replica

_SUBJECT_KEYS = "subject-keys.db"
# Of discovery, key sets and tokens; those of large providers have some 20 kB.
_MOST_FETCHED = 1_000_000
BUILTIN = Path(__file__).parent / "detectors" / "builtin"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one installation."""

    settings: Settings
    limits: InputLimits
    database: Database
    replica: Replica | None
    keys: Keys
    users: Users
    sign_in: SignIn
    factors: Factors
    federation: Federation
    tokens: Tokens
    workspaces: Workspaces
    policies: Policies
    access: Access
    rate_limits: RateLimits
    audit: AuditTrail
    audit_store: AuditStore
    retention: Retention
    quotas: Quotas
    catalogue: Catalogue
    verdicts: VerdictStore
    locator: FaceLocator
    plane: Plane
    batcher: Batcher
    committer: Committer
    cache: AnswerCache
    jobs: Jobs
    job_store: JobStore
    subjects: SubjectKeys
    privacy: Privacy
    counts: Counts
    detect: Detect
    detect_batch: DetectBatch

    def open(self) -> None:
        """Open the database, and try a face model where one is set. Raises StorageUnavailable or InvalidSettings."""
        if self.settings.face_model is not None:
            try_locator(self.locator)
        self.database.open()
        if self.replica is not None:
            self.replica.open()

    def close(self) -> None:
        """Give everything back."""
        self.keys.write_down_uses()
        self.users.write_down_uses()
        self.quotas.settle()
        self.audit.close()
        self.batcher.close()
        self.committer.close()
        self.subjects.close()
        if self.replica is not None:
            self.replica.close()
        self.database.close()


def build_services(settings: Settings) -> Services:
    """Put the parts together."""
    limits, database = _input_limits(settings), _database(settings)
    catalogue = _catalogue(settings)
    locator = face_locator(settings.face_model)
    counts = Counts()
    batcher, cache = _batcher(settings, counts), _answer_cache(settings, counts)
    audit_store = AuditStore(database)
    audit = AuditTrail(audit_store, _anchor_place(settings), settings.audit_anchor_seconds)
    watch = ProbingWatch(settings.probing_alike, audit, counts)
    plane = Plane(catalogue, limits, locator, batcher, watch)
    consents = ConsentStore(database, audit)
    subjects = _subjects(settings, consents)
    replica = _replica(settings, database, counts)
    verdicts = VerdictStore(database, replica, subjects)
    committer = Committer(verdicts, counts)
    quotas = Quotas(QuotaStore(database, audit))
    detect = plane.asking(_steps(plane, cache, locator, committer, quotas))
    job_store = JobStore(database)
    runs = partial(_bulk_parts, settings, catalogue, limits, locator, RunStore(database), quotas)
    jobs = _jobs(settings, job_store, verdicts, detect, runs, subjects, counts)
    keys = Keys(KeyStore(database, audit))
    users = Users(UserStore(database, audit), second_factor_roles=_second_factor_roles(settings))
    factors, proofs = FactorStore(database, audit), _proofs(settings)
    policies = Policies(settings.home / "policies")
    return Services(
        settings=settings,
        limits=limits,
        database=database,
        replica=replica,
        keys=keys,
        tokens=Tokens(keys, settings.home / "keys" / "tokens", settings.token_seconds),
        users=users,
        federation=_federation(settings, database, audit, users),
        sign_in=SignIn(users, factors, proofs),
        factors=Factors(users, factors, proofs),
        workspaces=Workspaces(WorkspaceStore(database, audit)),
        policies=policies,
        access=Access(policies, partial(_record_denial, audit)),
        rate_limits=RateLimits(settings.rate_limits, settings.redis_url, counts),
        audit=audit,
        audit_store=audit_store,
        retention=_retention(database, audit, jobs),
        quotas=quotas,
        catalogue=catalogue,
        verdicts=verdicts,
        locator=locator,
        plane=plane,
        batcher=batcher,
        committer=committer,
        cache=cache,
        jobs=jobs,
        job_store=job_store,
        subjects=subjects,
        privacy=Privacy(subjects, consents, verdicts, jobs, audit),
        counts=counts,
        detect=detect,
        detect_batch=plane.asking_many(detect, committer, quotas),
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


def _batcher(settings: Settings, counts: Counts) -> Batcher:
    return Batcher(
        threads=settings.detection_threads or max(1, (os.cpu_count() or 1) // settings.workers),
        most_rows=settings.batch_rows,
        deadline_seconds=settings.batch_deadline_seconds,
        most_waiting_rows=settings.max_waiting_rows,
        counts=counts,
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


def _second_factor_roles(settings: Settings) -> frozenset[str]:
    roles = frozenset(role.strip() for role in settings.second_factor_roles.split(",") if role.strip())
    try:
        for role in roles:
            check_role(role)
    except CallerError as error:
        detail = f"second_factor_roles: {error.detail}"
        raise InvalidSettings(detail, mend=error.mend, setting="second_factor_roles") from error
    return roles


def _proofs(settings: Settings) -> Proofs:
    passkeys = Passkeys(settings.passkey_origins, settings.passkey_relying_party, settings.passkey_user_verification)
    sealing = Sealing(SecretFile(settings.factor_secret, settings.home / "keys" / "factors.secret"))
    sender: CodeSender = NoCodes()
    if settings.sms_url:
        sender = HttpCodes(settings.sms_url, _outbound(settings), _webhook_secret(settings))
    return Proofs(sealing, passkeys, sender)


def _webhook_secret(settings: Settings) -> SecretFile:
    return SecretFile(settings.webhook_secret, settings.home / "keys" / "webhook.secret")


def _record_denial(audit: AuditTrail, principal: Principal, action: str, resource: Resource, reason: str) -> None:
    audit.record(Act(principal.workspace, principal.id, action, str(resource), outcome="denied", reason=reason))


def _anchor_place(settings: Settings) -> AnchorPlace:
    if settings.audit_anchor.startswith(("http://", "https://")):
        return HttpAnchors(settings.audit_anchor, _outbound(settings))
    return FileAnchors(
        Path(settings.audit_anchor).absolute() if settings.audit_anchor else settings.home / "audit-anchors.jsonl"
    )


def _outbound(settings: Settings) -> Poster:
    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        from discern.store.outbound import Outbound, networks  # noqa: PLC0415

        return Outbound(networks(settings.webhook_allow)).post(url, body, headers)

    return post


def _fetch(settings: Settings, named: Collection[str], authorities: str | None) -> Fetch:
    def fetch(method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        from discern.store.outbound import Outbound, networks  # noqa: PLC0415

        out = Outbound(networks(settings.webhook_allow), named, authorities)
        return out.fetch(method, url, body, headers, most_bytes=_MOST_FETCHED)

    return fetch


def _federation(settings: Settings, database: Database, audit: AuditTrail, users: Users) -> Federation:
    parts = FederationParts(
        users=users,
        user_store=UserStore(database, audit),
        store=FederationStore(database, audit),
        workspaces=Workspaces(WorkspaceStore(database, audit)),
        trail=audit,
        fetcher=partial(_fetch, settings),
    )
    said = FederationSettings(
        file=settings.identity_providers or settings.home / "sign-in.toml",
        is_named=settings.identity_providers is not None,
        public_url=settings.public_url,
        secret=settings.sign_in_secret,
        secret_file=settings.home / "keys" / "sign-in.secret",
        session=timedelta(seconds=settings.federated_session_seconds),
    )
    return Federation(said, parts)


def _database(settings: Settings) -> Database:
    durability = cast("Durability", settings.ledger_durability)
    if settings.database_url:
        from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra

        return PostgresqlDatabase(
            settings.database_url, connections=settings.database_connections, durability=durability
        )
    return SqliteDatabase(settings.home / "discern.db", durability=durability)


def _subjects(settings: Settings, consents: ConsentStore) -> SubjectKeys:
    return SubjectKeys(
        partial(_subject_keys, settings),
        lambda: bool(settings.subject_keys_url) or (settings.home / _SUBJECT_KEYS).exists(),
        consents,
        FileMasterKey(settings.home / "keys" / "master.key"),
    )


def _subject_keys(settings: Settings) -> SubjectKeyStore:
    if settings.subject_keys_url:
        if settings.subject_keys_url == settings.database_url:
            raise InvalidSettings(
                "subject_keys_url names the database of the ledger.",
                mend="Name another one, which is not in the backups of the ledger.",
                setting="subject_keys_url",
            )
        from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra

        url, connections = settings.subject_keys_url, settings.database_connections
        return SubjectKeyStore(PostgresqlDatabase(url, connections=connections, durability="full", schema=SUBJECT_KEYS))
    if settings.database_url:
        raise InvalidSettings(
            "Subjects cannot be named: their keys need a database of their own, beside that of the ledger.",
            mend="Set DISCERN_SUBJECT_KEYS_URL to another PostgreSQL database.",
            setting="subject_keys_url",
        )
    return SubjectKeyStore(SqliteDatabase(settings.home / _SUBJECT_KEYS, durability="full", schema=SUBJECT_KEYS))


def _replica(settings: Settings, database: Database, counts: Counts) -> Replica | None:
    if not settings.database_replica_url:
        return None
    if not settings.database_url:
        detail = "database_replica_url is set, and database_url is not: SQLite has no replicas."
        raise InvalidSettings(detail, mend="Set DISCERN_DATABASE_URL too.", setting="database_replica_url")
    from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra
    from discern.store.replica import Replica  # noqa: PLC0415 - likewise

    assert isinstance(database, PostgresqlDatabase)  # noqa: S101 - by its URL
    return Replica(
        database,
        settings.database_replica_url,
        connections=settings.database_connections,
        most_seconds=settings.database_replica_seconds,
        counts=counts,
    )


def _steps(plane: Plane, cache: AnswerCache, locator: FaceLocator, committer: Committer, meter: Meter) -> Answer:
    """Put the steps of the plane around each other, the innermost first."""
    answer: Answer = plane.assess
    answer = from_cache(answer, cache, locator)
    answer = on_ledger(answer, committer)
    return within_quota(answer, meter)


def _retention(database: Database, audit: AuditTrail, jobs: Jobs) -> Retention:
    kinds: dict[Kind, Expiring] = {
        "verdicts": old_verdicts(database),
        "jobs": ExpiringJobs(jobs, old_jobs(database)),
        "sessions": old_sessions(database),
        "runs": old_runs(database),
    }
    return Retention(
        RetentionStore(database, audit),
        kinds,
        MonthlyTable(database, "verdicts", linked=("verdict_subjects", "verdict_id")),
    )


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
        services.quotas,
        LOCAL,
    )


def _bulk_parts(
    settings: Settings,
    catalogue: Catalogue,
    limits: InputLimits,
    locator: FaceLocator,
    runs: RunStore,
    meter: Meter,
    principal: Principal,
) -> Parts:
    from discern.detection.bulk.service import Parts  # noqa: PLC0415 - needs an extra

    return Parts(
        detectors=catalogue,
        limits=limits,
        locator=locator,
        runs=runs,
        meter=meter,
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
    subjects: SubjectKeys,
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
            _webhook_secret(settings),
            counts,
        ),
        subjects=subjects,
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
