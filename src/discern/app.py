"""The one composition root: what Discern is made of, put together from settings.

- Nothing here does I/O until `Services.open()`.
- The steps of the plane stand in one list, `_steps`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from discern.access.service import Keys, Workspaces
from discern.access.service_factors import Factors
from discern.access.service_federation import Federation
from discern.access.service_limits import RateLimits
from discern.access.service_policies import Access, Policies
from discern.access.service_sign_in import SignIn
from discern.access.service_tokens import Tokens
from discern.access.service_users import Users
from discern.access.store import KeyStore, WorkspaceStore
from discern.access.store_factors import FactorStore
from discern.access.store_users import UserStore
from discern.access.types import LOCAL, Principal, Resource
from discern.app_drift import DriftParts, drift_of
from discern.app_evidence import compliance_of
from discern.app_jobs import bulk_parts_of, jobs_of
from discern.app_monitoring import Monitoring, Pings, Watched, Watchmen, monitoring_of, watchmen_of
from discern.app_people import federation_of, proofs_of, second_factor_roles
from discern.app_review import labels_of
from discern.app_storage import (
    anchor_place,
    answer_cache,
    database_of,
    make_home,
    objects_of,
    replica_of,
    retention_of,
    subjects_of,
)
from discern.audit.service import AuditTrail
from discern.audit.store import AuditStore
from discern.audit.types import Act
from discern.compliance.service import Compliance
from discern.core.counts import Counts
from discern.core.errors import BundleUntrusted
from discern.detection.batching import Batcher
from discern.detection.bulk.store import RunStore
from discern.detection.caching import AnswerCache
from discern.detection.committing import LEDGER_PATIENCE, Committer
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.store import JobStore
from discern.detection.service import Answer, Plane, from_cache, on_ledger, within_quota
from discern.detection.service_probing import ProbingWatch
from discern.detection.store import VerdictStore
from discern.detection.streams.rules import Windows
from discern.detection.types import Detect, DetectBatch
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.vetting import VettingLimits, vet
from discern.inputs.faces import FaceLocator, face_locator, try_locator
from discern.inputs.types import InputLimits
from discern.monitoring.metrics.service_verdicts import VerdictTimes
from discern.objects.service import SealedObjects
from discern.objects.service_rotation import Rotation
from discern.privacy.service import SubjectKeys
from discern.privacy.service_privacy import Privacy
from discern.privacy.store import ConsentStore
from discern.quotas.ports import Meter
from discern.quotas.service import Quotas
from discern.quotas.store import QuotaStore
from discern.registry.service import Catalogue
from discern.registry.types import split_reference
from discern.retention.service import Retention
from discern.review.service import Labels
from discern.settings import Settings
from discern.store.database import Database

if TYPE_CHECKING:
    from discern.detection.bulk.service import Parts
    from discern.evaluation.service import Parts as EvaluationParts
    from discern.evaluation.sources import FrozenSource
    from discern.evaluation.types_platforms import PlatformTable
    from discern.store.replica import Replica

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
    objects: SealedObjects
    rotation: Rotation
    audit_store: AuditStore
    retention: Retention
    quotas: Quotas
    compliance: Compliance
    catalogue: Catalogue
    verdicts: VerdictStore
    labels: Labels
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
    monitoring: Monitoring
    detect: Detect
    detect_batch: DetectBatch

    def open(self) -> None:
        """Open the database, and try a face model where one is set. Raises StorageUnavailable or InvalidSettings."""
        make_home(self.settings)
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
        self.monitoring.close()
        self.audit.close()
        self.monitoring.metrics.close()
        self.batcher.close()
        self.committer.close()
        self.subjects.close()
        if self.replica is not None:
            self.replica.close()
        self.database.close()


def build_services(settings: Settings) -> Services:
    """Put the parts together."""
    limits, database, counts = _input_limits(settings), database_of(settings), Counts()
    watchmen, locator = watchmen_of(settings, database, counts), face_locator(settings.face_model)
    catalogue, cache = _catalogue(settings, watchmen), answer_cache(settings, counts, watchmen.breakers)
    batcher, replica = _batcher(settings, counts), replica_of(settings, database, counts)
    audit_store, job_store = AuditStore(database), JobStore(database)
    audit = AuditTrail(audit_store, anchor_place(settings), settings.audit_anchor_seconds)
    plane = Plane(catalogue, limits, locator, batcher, ProbingWatch(settings.probing_alike, audit, counts))
    consents, subjects, objects, rotation = _sealing(settings, database, audit)
    verdicts, quotas = VerdictStore(database, replica, subjects), Quotas(QuotaStore(database, audit))
    labels = labels_of(settings, database, audit, verdicts, catalogue, subjects)
    drift = drift_of(settings, database, catalogue, audit, watchmen.happenings, labels.store)
    committer, pings = _committer(verdicts, counts, watchmen, drift), _pings(database, catalogue, objects)
    detect = plane.asking(_steps(plane, cache, locator, committer, quotas))
    parts = partial(bulk_parts_of, settings, catalogue, limits, locator, RunStore(database), quotas)
    jobs = jobs_of(settings, job_store, objects, verdicts, detect, parts, subjects, counts, watchmen)
    keys, policies = Keys(KeyStore(database, audit)), Policies(settings.home / "policies")
    users, proofs = _users(settings, database, audit), proofs_of(settings)
    retention, factors = retention_of(database, audit, jobs), FactorStore(database, audit)
    watched = Watched(audit, audit_store, job_store, pings, labels.store, catalogue, drift)
    return Services(
        settings=settings,
        limits=limits,
        database=database,
        replica=replica,
        keys=keys,
        tokens=Tokens(keys, settings.home / "keys" / "tokens", settings.token_seconds),
        users=users,
        federation=federation_of(settings, database, audit, users),
        sign_in=SignIn(users, factors, proofs),
        factors=Factors(users, factors, proofs),
        workspaces=Workspaces(WorkspaceStore(database, audit)),
        policies=policies,
        access=Access(policies, partial(_record_denial, audit, counts)),
        rate_limits=RateLimits(settings.rate_limits, settings.redis_url, counts),
        audit=audit,
        audit_store=audit_store,
        compliance=compliance_of(settings, keys, users, factors, audit, catalogue, policies, retention),
        objects=objects,
        rotation=rotation,
        retention=retention,
        quotas=quotas,
        catalogue=catalogue,
        verdicts=verdicts,
        labels=labels,
        locator=locator,
        plane=plane,
        batcher=batcher,
        committer=committer,
        cache=cache,
        jobs=jobs,
        job_store=job_store,
        subjects=subjects,
        privacy=Privacy(subjects, consents, verdicts, jobs, labels.store, audit),
        counts=counts,
        monitoring=monitoring_of(settings, database, watchmen, counts, watched),
        detect=detect,
        detect_batch=plane.asking_many(detect, committer, quotas),
    )


def _sealing(
    settings: Settings, database: Database, audit: AuditTrail
) -> tuple[ConsentStore, SubjectKeys, SealedObjects, Rotation]:
    """Return what people have said, their keys, and what is sealed with these and others."""
    consents = ConsentStore(database, audit)
    subjects = subjects_of(settings, consents)
    return consents, subjects, *objects_of(settings, database, subjects, audit)


def _users(settings: Settings, database: Database, audit: AuditTrail) -> Users:
    return Users(UserStore(database, audit), second_factor_roles=second_factor_roles(settings))


def _committer(verdicts: VerdictStore, counts: Counts, watchmen: Watchmen, drift: DriftParts) -> Committer:
    guard = watchmen.breakers.guard("store", "ledger", LEDGER_PATIENCE)
    return Committer(verdicts, counts, [VerdictTimes(counts.measures), *drift.watchers], guard)


def _pings(database: Database, catalogue: Catalogue, objects: SealedObjects) -> Pings:
    return Pings({"database": database.ping, "detectors": catalogue.ping}, {"objects": objects.ping})


def _catalogue(settings: Settings, watchmen: Watchmen) -> Catalogue:
    return Catalogue(
        builtin=BUILTIN,
        home=settings.home,
        limits=VettingLimits(
            memory_bytes=settings.vetting_bytes,
            wall_seconds=settings.vetting_seconds,
            processor_seconds=math.ceil(settings.vetting_seconds),
        ),
        inference_threads=settings.inference_threads,
        variants=settings.variant == "served",
        breakers=watchmen.breakers,
        happenings=watchmen.happenings,
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


def _record_denial(
    audit: AuditTrail, counts: Counts, principal: Principal, action: str, resource: Resource, reason: str
) -> None:
    counts.add("access.denials", workspace=principal.workspace)
    audit.record(Act(principal.workspace, principal.id, action, str(resource), outcome="denied", reason=reason))


def _steps(plane: Plane, cache: AnswerCache, locator: FaceLocator, committer: Committer, meter: Meter) -> Answer:
    """Put the steps of the plane around each other, the innermost first."""
    answer: Answer = plane.assess
    answer = from_cache(answer, cache, locator)
    answer = on_ledger(answer, committer)
    return within_quota(answer, meter)


def bulk_parts(services: Services) -> Parts:
    """Return what bulk scoring works with. Needs pyarrow; raises ConsentMissing, for rows name no subjects."""
    services.subjects.admit(LOCAL.workspace, None)
    return bulk_parts_of(
        services.settings,
        services.catalogue,
        services.limits,
        services.locator,
        RunStore(services.database),
        services.quotas,
        LOCAL,
    )


def evaluation_parts(services: Services) -> EvaluationParts:
    """Return what an evaluation works with; the database need not be open. Needs the extra `evaluate`."""
    from discern.evaluation.service import Parts  # noqa: PLC0415 - needs an extra

    return Parts(
        open_detector=partial(_bundle_to_run, services.catalogue),
        measure_platforms=partial(_measure_platforms, services),
        limits=services.limits,
        locator=services.locator,
        threads=services.settings.detection_threads or os.cpu_count() or 1,
        windows=Windows,
    )


def _measure_platforms(services: Services, bundle: Bundle, source: FrozenSource) -> PlatformTable:
    """Return the table of a bundle's variants on every runtime, on some items of a dataset."""
    from discern.evaluation.platforms.service_measuring import measure_platforms  # noqa: PLC0415 - needs an extra
    from discern.evaluation.platforms.sources import MEASURED, labelled_rows  # noqa: PLC0415 - needs an extra

    rows = labelled_rows(source, bundle.manifest, services.limits, services.locator, most=MEASURED)
    return measure_platforms(bundle, rows, cache=services.settings.home / "browser", items=MEASURED)


def _bundle_to_run(catalogue: Catalogue, target: str) -> Bundle:
    """Return an installed bundle, or the one in a folder, whose models have run in a process apart.

    Whoever names a folder may run it unsigned: the bundle then says that nobody signed it.
    """
    if not Path(target).is_dir():
        name, version = split_reference(target)
        catalogue.get(name, version)
        return catalogue.find(name, version).bundle
    try:
        bundle = open_bundle(Path(target), catalogue.trust())
    except BundleUntrusted:
        bundle = open_bundle(Path(target), None)
    vet(bundle, catalogue.limits)
    return bundle
