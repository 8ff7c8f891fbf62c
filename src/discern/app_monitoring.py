"""What watches an installation, put together from settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from discern.access.store import WorkspaceStore
from discern.alerts.service_running import Alerts
from discern.app_alerts import alerts_of
from discern.app_analytics import AnalyticsParts, analytics_of
from discern.app_drift import DriftParts
from discern.app_review import quality_of
from discern.audit.service import AuditTrail
from discern.audit.store import AuditStore
from discern.core.breakers import Breakers
from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.core.loops import Loop
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detection.jobs.store import JobStore
from discern.detection.store_tallies import TallyStore
from discern.monitoring.analytics.service import SECONDS as ANALYTICS_SECONDS
from discern.monitoring.drift.service import Drift
from discern.monitoring.health.service import BreakerWatch, HealthService
from discern.monitoring.health.service_happenings import HappeningLog
from discern.monitoring.health.store import HappeningStore
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.metrics.service import Metrics
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.metrics.sources_host import Host
from discern.monitoring.metrics.sources_ledger import audit_samples, job_samples, verdict_samples
from discern.monitoring.ports import Collector
from discern.monitoring.quality.service import SECONDS as QUALITY_SECONDS
from discern.monitoring.quality.service import Quality
from discern.monitoring.tracing.service import OtlpTracer, Post
from discern.registry.service import Catalogue
from discern.review.store import LabelStore
from discern.settings import Settings
from discern.store.database import Database
from discern.store.turns import Turn

_FOLD_SECONDS = 1.0
_TIDY_SECONDS = 60.0


class Pings(NamedTuple):
    """What asks a part whether it answers, by its name: parts that are `needed`, and those `beside`."""

    needed: Mapping[str, Callable[[], None]]
    beside: Mapping[str, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Watchmen:
    """What those that are watched tell: their breakers, and what happens."""

    breakers: Breakers
    happenings: HappeningLog
    tracer: OtlpTracer


class Watched(NamedTuple):
    """What is watched, and what is told of it."""

    audit: AuditTrail
    audit_store: AuditStore
    jobs: JobStore
    pings: Pings
    labels: LabelStore
    catalogue: Catalogue
    drift: DriftParts


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that watch. `collectors` read what is exported, `loops` run in every server process."""

    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]
    alerts: Alerts
    analytics: AnalyticsParts
    drift: Drift
    happenings: HappeningLog
    health: HealthService
    metrics: Metrics
    quality: Quality
    tallies: TallyStore
    tracer: OtlpTracer

    def close(self) -> None:
        """Write down what waits, and let others go on."""
        self.alerts.close()
        self.tracer.close()
        self.happenings.flush()
        self.metrics.close()


def watchmen_of(settings: Settings, database: Database, counts: Counts) -> Watchmen:
    """Return what is given to those that are watched."""
    breakers, happenings = Breakers(), HappeningLog(HappeningStore(database))
    BreakerWatch(breakers, happenings, counts.measures)
    tracer = OtlpTracer(settings.trace_url, settings.trace_headers, settings.trace_ratio, counts.measures, _poster)
    return Watchmen(breakers, happenings, tracer)


def _poster(host: str) -> Post:
    """Return what posts to a host that the operator named, be it private."""
    from discern.store.outbound import Outbound  # noqa: PLC0415 - most have none

    return Outbound(named=(host,)).post


def monitoring_of(
    settings: Settings,
    database: Database,
    watchmen: Watchmen,
    counts: Counts,
    watched: Watched,
) -> Monitoring:
    """Put the parts together."""
    happenings = watchmen.happenings
    alerts = alerts_of(settings, database, watched.audit, list(CATALOGUE.values()), happenings, watchmen.breakers)
    tallies = TallyStore(database)
    quality = quality_of(settings, database, tallies, watched.labels, watched.catalogue)
    cost = analytics_of(settings, database, watched.audit, tallies, quality, watched.labels)
    process = ProcessMetrics(counts.measures, counts)
    health = HealthService(
        watched.pings.needed,
        watched.pings.beside,
        watchmen.breakers,
        HappeningStore(database),
        settings.tls_certificate,
    )
    collectors: tuple[Collector, ...] = (
        alerts.collect,
        cost.analytics.collect,
        cost.budgets.collect,
        partial(audit_samples, watched.audit_store.counted),
        watched.drift.drift.collect,
        health.samples,
        Host(settings.home).samples,
        partial(job_samples, lambda: watched.jobs.waiting(DEFAULT_WORKSPACE)[0]),
        partial(verdict_samples, tallies.ever),
        quality.collect,
    )
    named = partial(WorkspaceStore(database).first, settings.metrics_workspaces)
    metrics = Metrics(process, collectors, named)
    return Monitoring(
        alerts=alerts,
        analytics=cost,
        collectors=collectors,
        loops=(
            *alerts.loops_over(metrics),
            *watched.drift.loops,
            Loop("analytics", ANALYTICS_SECONDS, cost.analytics.tend),
            Loop("happenings", 1.0, happenings.flush),
            Loop("metrics", _FOLD_SECONDS, process.fold),
            Loop("quality", QUALITY_SECONDS, quality.tend),
            Loop("tallies", _TIDY_SECONDS, partial(_tidy, Turn(database, "tallies", seconds=180), tallies)),
        ),
        drift=watched.drift.drift,
        happenings=happenings,
        health=health,
        metrics=metrics,
        quality=quality,
        tallies=tallies,
        tracer=watchmen.tracer,
    )


def _tidy(turn: Turn, tallies: TallyStore) -> None:
    with suppress(StorageUnavailable):  # tried again
        if turn.take():
            tallies.tidy()
