"""What watches an installation, put together from settings."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from discern.access.store import WorkspaceStore
from discern.app_review import quality_of
from discern.audit.store import AuditStore
from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.core.loops import Loop
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detection.jobs.store import JobStore
from discern.detection.store_tallies import TallyStore
from discern.monitoring.metrics.service import Metrics
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.metrics.sources_host import Host
from discern.monitoring.metrics.sources_ledger import audit_samples, job_samples, verdict_samples
from discern.monitoring.ports import Collector
from discern.monitoring.quality.service import SECONDS as QUALITY_SECONDS
from discern.monitoring.quality.service import Quality
from discern.registry.service import Catalogue
from discern.review.store import LabelStore
from discern.settings import Settings
from discern.store.database import Database
from discern.store.turns import Turn

_FOLD_SECONDS = 1.0
_TIDY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that watch. `collectors` read what is exported, `loops` run in every server process."""

    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]
    metrics: Metrics
    quality: Quality
    tallies: TallyStore


def monitoring_of(
    settings: Settings,
    database: Database,
    counts: Counts,
    audit: AuditStore,
    jobs: JobStore,
    labels: LabelStore,
    catalogue: Catalogue,
) -> Monitoring:
    """Put the parts together."""
    tallies = TallyStore(database)
    quality = quality_of(settings, database, tallies, labels, catalogue)
    process = ProcessMetrics(counts.measures, counts)
    collectors: tuple[Collector, ...] = (
        partial(audit_samples, audit.counted),
        Host(settings.home).samples,
        partial(job_samples, lambda: jobs.waiting(DEFAULT_WORKSPACE)[0]),
        partial(verdict_samples, tallies.ever),
        quality.collect,
    )
    named = partial(WorkspaceStore(database).first, settings.metrics_workspaces)
    return Monitoring(
        collectors=collectors,
        loops=(
            Loop("metrics", _FOLD_SECONDS, process.fold),
            Loop("quality", QUALITY_SECONDS, quality.tend),
            Loop("tallies", _TIDY_SECONDS, partial(_tidy, Turn(database, "tallies", seconds=180), tallies)),
        ),
        metrics=Metrics(process, collectors, named),
        quality=quality,
        tallies=tallies,
    )


def _tidy(turn: Turn, tallies: TallyStore) -> None:
    with suppress(StorageUnavailable):  # tried again
        if turn.take():
            tallies.tidy()
