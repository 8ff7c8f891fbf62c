"""Alerts of one installation, put together: the table, the engine, the deliveries and the desk."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from discern.alerts.ports import Sender
from discern.alerts.rules_catalogue import Known
from discern.alerts.service import AlertDesk
from discern.alerts.service_channels import sender_of
from discern.alerts.service_delivery import Deliveries
from discern.alerts.service_emergency import Emergency
from discern.alerts.service_engine import Engine
from discern.alerts.service_turns import Turns
from discern.alerts.sources import AlertTable
from discern.alerts.sources_readings import LastReading
from discern.alerts.store import AlertStore
from discern.alerts.types import Table
from discern.audit.ports import Trail
from discern.core.breakers import Breakers
from discern.core.errors import StorageUnavailable
from discern.core.loops import Loop
from discern.monitoring.ports import Happenings, Readings
from discern.monitoring.types import Metric, Sample
from discern.store.database import Database
from discern.store.outbound import Network
from discern.store.secret_files import SecretFile

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_OUTCOMES = ("delivered", "failed", "refused", "gave_up")


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """What is set of alerts. `file` is the operator's table; `allowed` networks are called although private."""

    file: Path
    home: Path
    seconds: float
    keep: timedelta
    give_up: timedelta
    allowed: tuple[Network, ...]
    secret: SecretFile
    address: str


class Alerts:
    """The alerts of an installation. Nothing is read or opened before it is asked for."""

    def __init__(
        self,
        said: AlertSettings,
        database: Database,
        trail: Trail,
        metrics: Sequence[Metric],
        happenings: Happenings,
        breakers: Breakers,
    ) -> None:
        self._said = said
        self.known = Known(metrics)
        self.file = AlertTable(said.file, self.known)
        self._happenings = happenings
        self._store = AlertStore(database, trail)
        self._turns = Turns(database)
        self._deliveries = Deliveries(
            self._store.notices, self.senders, self._turns.lead, happenings, breakers, give_up=said.give_up
        )
        self._emergency = Emergency(self.open, self.senders, said.home / "alerts.lock")
        self.desk = AlertDesk(self._store, trail, self.open, self.senders, self._deliveries)

    def loops_over(self, readings: Readings) -> tuple[Loop, ...]:
        """Return what evaluates readings and sends, to run in every server process."""
        engine = Engine(
            self._store,
            self.open,
            self.known,
            readings,
            self._turns,
            self._emergency,
            self._happenings,
            LastReading(self._said.home / "alerts.readings"),
            keep=self._said.keep,
        )
        return Loop("alerts", self._said.seconds, engine.turn), Loop("notices", _LOOK_SECONDS, self._deliveries.turn)

    def open(self) -> Table:
        """Return the table, read when it is first asked for. Raises InvalidSettings."""
        return self.file.open()

    def senders(self) -> Mapping[str, Sender]:
        """Return what sends by each channel. Raises InvalidSettings."""
        return self._senders

    def collect(self) -> Iterator[Sample]:
        """Yield the metrics of alerts. Raises StorageUnavailable."""
        alerts = self._store.counts()
        for severity in ("critical", "warning", "info"):
            for state in ("pending", "firing"):
                yield Sample("discern_alerts", (severity, state), alerts.get((severity, state), 0))
        sent, waiting = self._store.notices.counts(), self._store.notices.waiting()
        for channel in sorted({*self.senders(), *waiting, *(channel for channel, _ in sent)}):
            yield Sample("discern_notifications_waiting", (channel,), waiting.get(channel, 0))
            for outcome in _OUTCOMES:
                yield Sample("discern_notifications_total", (channel, outcome), sent.get((channel, outcome), 0))

    def close(self) -> None:
        """Begin nothing any more, and let another process go on at once."""
        was_begun = self._deliveries.close()
        self._emergency.close()
        if was_begun:
            try:
                self._turns.give_back()
            except StorageUnavailable as error:  # it runs out by itself
                log.info("turn_not_given_back", extra={"detail": error.detail})

    @cached_property
    def _senders(self) -> Mapping[str, Sender]:
        said = self._said
        return {
            channel.name: sender_of(channel, said.allowed, said.secret, said.address)
            for channel in self.open().channels
        }
