"""What watches an installation, put together from settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from discern.alerts.ports import Unread
from discern.alerts.service_running import Alerts
from discern.alerts.types import METRICS as ALERT_METRICS
from discern.app_alerts import alerts_of
from discern.audit.service import AuditTrail
from discern.core.breakers import Breakers
from discern.core.loops import Loop
from discern.monitoring.health.service import BreakerWatch, HealthService
from discern.monitoring.health.service_happenings import HappeningLog
from discern.monitoring.health.store import HappeningStore
from discern.monitoring.health.types import METRICS as HEALTH_METRICS
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.ports import Collector
from discern.settings import Settings
from discern.store.database import Database


@dataclass(frozen=True, slots=True)
class Watchmen:
    """What those that are watched tell: their breakers, and what happens."""

    breakers: Breakers
    happenings: HappeningLog
    watch: BreakerWatch


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that watch. `collectors` read what is exported, `loops` run in every server process."""

    alerts: Alerts
    happenings: HappeningLog
    health: HealthService
    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]

    def close(self) -> None:
        """Write down what waits, and let others go on."""
        self.alerts.close()
        self.happenings.flush()


def watchmen_of(database: Database) -> Watchmen:
    """Return what is given to those that are watched."""
    breakers, happenings = Breakers(), HappeningLog(HappeningStore(database))
    return Watchmen(breakers, happenings, BreakerWatch(breakers, happenings))


def monitoring_of(
    settings: Settings,
    database: Database,
    audit: AuditTrail,
    watchmen: Watchmen,
    needed: Mapping[str, Callable[[], None]],
    beside: Mapping[str, Callable[[], None]],
) -> Monitoring:
    """Put the parts together; `needed` and `beside` are pings of parts, by their names."""
    happenings = watchmen.happenings
    metrics = [*CATALOGUE.values(), *HEALTH_METRICS, *ALERT_METRICS]
    alerts = alerts_of(settings, database, audit, metrics, Unread(), happenings, watchmen.breakers)
    health = HealthService(needed, beside, watchmen.breakers, HappeningStore(database), settings.tls_certificate)
    return Monitoring(
        alerts=alerts,
        happenings=happenings,
        health=health,
        collectors=(alerts.collect, health.samples, watchmen.watch.samples),
        loops=(*alerts.loops, Loop("happenings", 1.0, happenings.flush)),
    )
