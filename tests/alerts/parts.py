"""What the tests of alerts share: rules, readings that a test writes, channels that keep what they are sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from discern.alerts.ports import Sender, Sent
from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_states import begun
from discern.alerts.service_delivery import Deliveries
from discern.alerts.service_emergency import Emergency
from discern.alerts.service_engine import Engine
from discern.alerts.service_turns import Turns
from discern.alerts.sources_readings import LastReading
from discern.alerts.store import AlertStore, Written
from discern.alerts.types import Alert, Channel, Event, Inhibition, Matcher, Notice, Route, Rule, Selector, Table
from discern.app import Services
from discern.audit.ports import NoTrail
from discern.core.breakers import Breakers
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.monitoring.ports import NothingHappens
from discern.monitoring.types import Metric, Sample
from discern.store.database import Database

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
METRICS = (
    Metric("failures_total", "counter", "", ("workspace", "detector")),
    Metric("requests_total", "counter", "", ("status",)),
    Metric("up", "gauge", "", ("part",)),
    Metric("local_up", "gauge", "", ("part",), scope="machine"),
    Metric("local_total", "counter", "", ("part",), scope="machine"),
    Metric("level", "gauge", "", ("name",)),
    Metric("seconds", "histogram", "", ("route",), (0.1, 1.0, 10.0)),
)
KNOWN = Known(METRICS)


def rule(name: str = "level-high", **changes: Any) -> Rule:
    """Return a rule over a gauge, or another."""
    said: dict[str, Any] = {
        "name": name,
        "kind": "metric",
        "severity": "warning",
        "function": "value",
        "metric": Selector("level"),
        "by": ("name",),
        "above": 10.0,
        "summary": "{name} is {value}",
        "description": "It is high.",
    }
    said |= changes
    if said.get("below") is not None or said["function"] in {"absent", "stopped"}:
        said["above"] = changes.get("above")
    return Rule(**said)


def level(value: float, name: str = "a") -> Sample:
    return Sample("level", (name,), value)


def table(
    *rules: Rule,
    channels: Sequence[str] = ("mail",),
    routes: Sequence[Route] = (),
    inhibitions: Sequence[Inhibition] = (),
) -> Table:
    there = tuple(Channel(name=name, kind="log") for name in channels)
    default = (Route(name="all", channels=tuple(channels)),)
    return Table(rules, tuple(inhibitions), there, tuple(routes) or default)


def matcher(label: str, value: str) -> Matcher:
    return Matcher(label, "=", value)


class Clock:
    """A clock of walls and one that only goes on."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now
        self.moment = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.moment

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.moment += seconds


class Read:
    """Readings that a test writes."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.fault: Exception | None = None

    def read(self) -> list[Sample]:
        if self.fault is not None:
            raise self.fault
        return list(self.samples)


class Kept:
    """A channel that keeps what it is sent, or does what a test says first."""

    def __init__(self, first: Callable[[Notice], Sent] | None = None) -> None:
        self.notices: list[tuple[Notice, str]] = []
        self._first = first

    def send(self, notice: Notice, key: str) -> Sent:
        self.notices.append((notice, key))
        return Sent() if self._first is None else self._first(notice)


class Watch:
    """An engine and its deliveries over a database, with clocks and readings of the test's."""

    def __init__(
        self,
        database: Database,
        said: Table,
        folder: Path,
        clock: Clock,
        senders: Mapping[str, Sender] | None = None,
        *,
        machine: str = "box",
        give_up: timedelta = timedelta(hours=6),
    ) -> None:
        self.clock = clock
        self.table = said
        self.readings = Read()
        self.store = AlertStore(database, NoTrail())
        self.senders = {one.name: Kept() for one in said.channels} if senders is None else dict(senders)
        self.turns = Turns(database, machine, clock)
        lock = folder / "alerts.lock"
        emergency = Emergency(lambda: self.table, lambda: self.senders, lock, clock=clock, monotonic=clock.monotonic)
        self.deliveries = Deliveries(
            self.store.notices,
            lambda: self.senders,
            self.turns.lead,
            NothingHappens(),
            Breakers(clock.monotonic),
            give_up=give_up,
            clock=clock,
            monotonic=clock.monotonic,
        )
        self.engine = Engine(
            self.store,
            lambda: self.table,
            KNOWN,
            self.readings,
            self.turns,
            emergency,
            NothingHappens(),
            LastReading(folder / f"{machine}.readings"),
            keep=timedelta(days=30),
            clock=clock,
            monotonic=clock.monotonic,
        )

    def turn(self, *samples: Sample, after: float = 5.0) -> None:
        """Let some time go by, then evaluate these readings and send what is due."""
        self.clock.wait(after)
        self.readings.samples = list(samples)
        self.engine.turn()
        self.send()

    def send(self) -> None:
        """Send what is due, and wait for it."""
        self.deliveries.turn()
        joined()

    def alerts(self) -> list[Alert]:
        return list(self.store.page(None, 2000).alerts)

    def states(self) -> dict[str, str]:
        """Return the state of each alert by its label `name`, the latest."""
        return {one.labels.get("name", ""): one.state for one in reversed(self.alerts())}

    def told(self, channel: str = "mail") -> list[str]:
        """Return what a channel was told: the reason, with how many fire and are over."""
        kept = self.senders[channel]
        assert isinstance(kept, Kept)
        return [f"{notice.reason} {notice.firing}/{notice.ended}" for notice, _ in kept.notices]


def joined() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(("notice-", "emergency-")):
            thread.join(10)


class Posted:
    """A webhook on the loopback that keeps what was posted to it."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.hold: threading.Event | None = None
        self.url = ""

    def bodies(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(body) for _, body in self.requests]


@contextmanager
def webhook() -> Iterator[Posted]:
    """Serve a webhook while the block runs."""
    posted = Posted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.requests.append((dict(self.headers), body))
            if posted.hold is not None:
                posted.hold.wait(30)
            self.send_response(posted.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    posted.url = f"http://127.0.0.1:{server.server_address[1]}/hook/secret-token-of-the-path"
    try:
        yield posted
    finally:
        if posted.hold is not None:
            posted.hold.set()
        server.shutdown()
        server.server_close()


def fires(services: Services, detector: str = "x", workspace: str | None = None) -> Alert:
    """Write an alert that fires, and return it."""
    now = utc_now()
    labels = (("detector", detector), ("workspace", workspace or ""), ("name", str(uuid7())))
    said = rule(by=("detector", "workspace"), summary="{detector}")
    found = begun(uuid7(), said, labels, 1, now, workspace=workspace)
    found = msgspec.structs.replace(found, state="firing", fired_at=now)
    AlertStore(services.database, NoTrail()).write(Written(begun=[found], events=[(found, Event(now, "fired"))]))
    return found
