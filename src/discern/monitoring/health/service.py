"""How an installation is: its parts asked, its breakers looked at, its certificate read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path

import msgspec
from cryptography import x509

from discern.core.breakers import BreakerReading, Breakers, BreakerState
from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError
from discern.core.measures import Measures
from discern.monitoring.health.rules import concluded
from discern.monitoring.health.store import HappeningStore
from discern.monitoring.health.types import (
    STATES,
    BreakerHealth,
    HappeningEntry,
    Health,
    PartHealth,
    WorkersHealth,
)
from discern.monitoring.ports import Happenings
from discern.monitoring.types import Sample

Ping = Callable[[], None]
_SHOWN = 20


class HealthService:
    """Tells how an installation is. Pings of `needed` and `beside` raise a DiscernError while a part is unwell."""

    def __init__(
        self,
        needed: Mapping[str, Ping],
        beside: Mapping[str, Ping],
        breakers: Breakers,
        store: HappeningStore,
        certificate: Path | None,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._needed = needed
        self._beside = beside
        self._breakers = breakers
        self._store = store
        self._certificate = certificate
        self._clock = clock

    def look(
        self, workspace: str | None, slot: int = 0, supervised: Callable[[], tuple[int, float]] | None = None
    ) -> Health:
        """Return how it is at this moment, with the newest happenings of a workspace, or of all.

        A workspace is not told why a part of the installation does not answer: reasons name hosts and files.
        """
        parts, breakers, expires_at = self.parts(), self.breakers(), self.certificate_expires_at()
        if workspace is not None:
            parts = tuple(msgspec.structs.replace(one, reason=None) for one in parts)
            breakers = tuple(msgspec.structs.replace(one, reason=None) for one in breakers)
        status, sentence = concluded(parts, breakers, expires_at, self._clock())
        workers = None
        if supervised is not None:
            deaths, absent = supervised()
            workers = WorkersHealth(deaths, round(absent, 3))
        happenings = self._happenings(workspace)
        breakers += self._of_workspaces(workspace)
        return Health(status, sentence, slot, os.getpid(), parts, breakers, happenings, workers, expires_at)

    def parts(self) -> tuple[PartHealth, ...]:
        """Ask every part."""
        asked = [(name, ping, True) for name, ping in self._needed.items()]
        asked += [(name, ping, False) for name, ping in self._beside.items()]
        return tuple(_asked(name, ping, needed=needed) for name, ping, needed in asked)

    def breakers(self) -> tuple[BreakerHealth, ...]:
        """Return the installation's circuit breakers of this process."""
        return tuple(map(_breaker, self._breakers.readings()))

    def _of_workspaces(self, workspace: str | None) -> tuple[BreakerHealth, ...]:
        """Return breakers for what a workspace named, or all did, that are not closed; some where there are many."""
        found = (one for guards in self._breakers.many().values() for one in guards.readings())
        return tuple(map(_breaker, islice((one for one in found if workspace in {None, one.workspace}), _SHOWN)))

    def certificate_expires_at(self) -> datetime | None:
        """Return when the server's own certificate expires; None without one, or where it cannot be read."""
        if self._certificate is None:
            return None
        try:
            return x509.load_pem_x509_certificate(self._certificate.read_bytes()).not_valid_after_utc
        except (OSError, ValueError):
            return None

    def samples(self) -> Iterator[Sample]:
        """Yield the metrics of what every server of an installation sees alike, and of its certificate."""
        for part in self.parts():
            yield Sample("discern_part_up", (part.name,), float(part.up))
        expires_at = self.certificate_expires_at()
        if expires_at is not None:
            yield Sample("discern_certificate_expiry_seconds", (), (expires_at - self._clock()).total_seconds())

    def _happenings(self, workspace: str | None) -> tuple[HappeningEntry, ...]:
        try:
            return tuple(self._store.newest(workspace, _SHOWN))
        except DiscernError:  # the parts say it
            return ()


class BreakerWatch:
    """Tells of breakers that open and close, of the states they are in, and how often they opened."""

    def __init__(self, breakers: Breakers, happenings: Happenings, measures: Measures) -> None:
        self._breakers = breakers
        self._happenings = happenings
        self._measures = measures
        breakers.listener = self._changed
        measures.labelled.append(self._states)

    def _states(self) -> Iterator[Sample]:
        for one in self._breakers.readings():
            yield Sample("discern_breaker_state", (one.part, one.name), float(STATES[one.state]))
        # Whoever names a host would name a label.
        for part, guards in self._breakers.many().items():
            yield Sample("discern_breaker_state", (part, "any"), float(STATES[guards.worst()]))

    def _changed(self, part: str, name: str, state: BreakerState, reason: str) -> None:
        if state == "open":
            self._measures.count("discern_breaker_openings_total", part, name)
        kind = "breaker.opened" if state == "open" else "breaker.closed"
        self._happenings.tell(kind, f"{part} {name}", reason=reason, pid=os.getpid())


def _breaker(one: BreakerReading) -> BreakerHealth:
    reason, seconds = one.reason or None, round(one.seconds, 1)
    return BreakerHealth(one.part, one.name, one.state, seconds, one.failures, reason, one.workspace)


def _asked(name: str, ping: Ping, *, needed: bool) -> PartHealth:
    try:
        ping()
    except DiscernError as error:
        return PartHealth(name, up=False, needed=needed, code=error.code, reason=error.detail)
    return PartHealth(name, up=True, needed=needed)
