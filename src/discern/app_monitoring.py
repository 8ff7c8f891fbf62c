"""What watches an installation, put together from settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from discern.core.breakers import Breakers
from discern.core.loops import Loop
from discern.monitoring.health.service import BreakerWatch, HealthService
from discern.monitoring.health.service_happenings import HappeningLog
from discern.monitoring.health.store import HappeningStore
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

    happenings: HappeningLog
    health: HealthService
    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]

    def close(self) -> None:
        """Write down what waits."""
        self.happenings.flush()


def watchmen_of(database: Database) -> Watchmen:
    """Return what is given to those that are watched."""
    breakers, happenings = Breakers(), HappeningLog(HappeningStore(database))
    return Watchmen(breakers, happenings, BreakerWatch(breakers, happenings))


def monitoring_of(
    settings: Settings,
    database: Database,
    watchmen: Watchmen,
    needed: Mapping[str, Callable[[], None]],
    beside: Mapping[str, Callable[[], None]],
) -> Monitoring:
    """Put the parts together; `needed` and `beside` are pings of parts, by their names."""
    happenings = watchmen.happenings
    health = HealthService(needed, beside, watchmen.breakers, HappeningStore(database), settings.tls_certificate)
    return Monitoring(
        happenings=happenings,
        health=health,
        collectors=(health.samples, watchmen.watch.samples),
        loops=(Loop("happenings", 1.0, happenings.flush),),
    )
