"""Jobs and bulk scoring, put together from settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from discern.access.types import Principal
from discern.app_storage import object_access, outbound, webhook_secret
from discern.core.breakers import Breakers
from discern.core.counts import Counts
from discern.core.errors import DiscernError, MissingExtra
from discern.core.tracing import Tracer
from discern.detection.bulk.store import RunStore
from discern.detection.jobs.ports import TableScorer
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.service import Parts as JobParts
from discern.detection.jobs.service_telling import Telling, webhook_guards
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import JobLimits
from discern.detection.store import VerdictStore
from discern.detection.types import Detect
from discern.inputs.faces import FaceLocator
from discern.inputs.types import InputLimits
from discern.objects.service import SealedObjects
from discern.objects.types import Address
from discern.privacy.service import SubjectKeys
from discern.quotas.ports import Meter
from discern.registry.service import Catalogue
from discern.settings import Settings

if TYPE_CHECKING:
    from discern.detection.bulk.service import Parts
    from discern.detection.jobs.service_queue import DbosQueue


class Watchmen(Protocol):
    """What jobs tell how they fare."""

    @property
    def breakers(self) -> Breakers:
        """What leaves alone the webhooks that do not answer."""
        ...

    @property
    def tracer(self) -> Tracer:
        """What is told where their time went."""
        ...


def bulk_parts_of(
    settings: Settings,
    catalogue: Catalogue,
    limits: InputLimits,
    locator: FaceLocator,
    runs: RunStore,
    meter: Meter,
    principal: Principal,
) -> Parts:
    """Return what bulk scoring works with. Needs pyarrow."""
    from discern.detection.bulk.service import Parts  # noqa: PLC0415 - needs an extra

    return Parts(
        detectors=catalogue,
        limits=limits,
        locator=locator,
        runs=runs,
        meter=meter,
        access=object_access(settings),
        threads=settings.detection_threads or os.cpu_count() or 1,
        principal=principal,
        face_model=settings.face_model,
    )


def jobs_of(
    settings: Settings,
    store: JobStore,
    objects: SealedObjects,
    verdicts: VerdictStore,
    detect: Detect,
    parts: Callable[[Principal], Parts],
    subjects: SubjectKeys,
    counts: Counts,
    watchmen: Watchmen,
) -> Jobs:
    """Return the jobs of an installation."""

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
        score_table=_scoring(objects, parts),
        problem_of=problem_of,
        objects=objects,
        telling=Telling(
            store,
            verdicts,
            outbound(settings),
            webhook_secret(settings),
            counts,
            webhook_guards(watchmen.breakers),
        ),
        subjects=subjects,
        limits=job_limits(settings),
        counts=counts,
        tracer=watchmen.tracer,
    )
    return Jobs(held, queue)


def job_limits(settings: Settings) -> JobLimits:
    """Return what bounds jobs."""
    return JobLimits(
        most_bytes=settings.job_bytes,
        most_waiting=settings.max_waiting_jobs,
        most_waiting_of_a_workspace=settings.max_waiting_jobs_per_workspace,
        body_seconds=settings.body_seconds,
        at_a_time=settings.jobs_at_a_time,
        keep_seconds=settings.job_keep_seconds,
        lease_seconds=settings.job_lease_seconds,
        record_bytes=settings.record_bytes,
    )


def _scoring(objects: SealedObjects, parts: Callable[[Principal], Parts]) -> TableScorer:
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

    return score
