"""What watches an installation, put together from settings."""

from __future__ import annotations

from dataclasses import dataclass

from discern.alerts.ports import Unread
from discern.alerts.service_running import Alerts
from discern.alerts.types import METRICS as ALERT_METRICS
from discern.app_alerts import alerts_of
from discern.audit.service import AuditTrail
from discern.core.loops import Loop
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.ports import Collector, NothingHappens
from discern.settings import Settings
from discern.store.database import Database


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that watch. `collectors` read what is exported, `loops` run in every server process."""

    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]
    alerts: Alerts

    def close(self) -> None:
        """End what the parts have begun."""
        self.alerts.close()


def monitoring_of(settings: Settings, database: Database, audit: AuditTrail) -> Monitoring:
    """Put the parts together."""
    metrics = [*CATALOGUE.values(), *ALERT_METRICS]
    alerts = alerts_of(settings, database, audit, metrics, Unread(), NothingHappens())
    return Monitoring(collectors=(alerts.collect,), loops=alerts.loops, alerts=alerts)
