"""What alerts cost and how soon they are told.

`python -m bench.alerts` prints which share of one core it takes to evaluate the shipped rules over an installation's
metrics, and how long it takes from a counter that grows to the webhook, with the pauses that are set by default.
"""

from __future__ import annotations

import argparse
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from bench.scratch import scratch
from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_readings import Memory
from discern.alerts.service_running import Alerts
from discern.app_alerts import alerts_of
from discern.app_storage import anchor_place, database_of, make_home
from discern.audit.service import AuditTrail
from discern.audit.store import AuditStore
from discern.core.breakers import Breakers
from discern.core.loops import Loop
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.ports import NothingHappens
from discern.monitoring.types import Metric, Sample
from discern.settings import load_settings

_LIMIT_SECONDS = 15.0
_ROUNDS = 40
_WARM = 200
_RULES = """
[channels.hook]
kind = "webhook"
url = "{url}"
allow = "127.0.0.1/32"
"""


class Growing:
    """Readings of every metric there is, `wide` series of each; counters grow with every reading."""

    def __init__(self, metrics: list[Metric], wide: int) -> None:
        self._metrics = metrics
        self._wide = wide
        self._read = 0
        self.failures = 0.0

    def read(self) -> list[Sample]:
        """Return them."""
        self._read += 1
        found: list[Sample] = [Sample("discern_stage_failures_total", ("bench", "screen"), self.failures)]
        for metric in self._metrics:
            if metric.name == "discern_stage_failures_total":
                continue
            for number in range(self._wide if metric.labels else 1):
                labels = tuple("200" if name == "status" else f"{name}-{number}" for name in metric.labels)
                found.extend(self._samples(metric, labels))
        return found

    def _samples(self, metric: Metric, labels: tuple[str, ...]) -> Iterator[Sample]:
        if metric.kind == "histogram":
            for bound in (*(f"{one:g}" for one in metric.buckets), "+Inf"):
                yield Sample(f"{metric.name}_bucket", (*labels, bound), self._read)
            yield Sample(f"{metric.name}_count", labels, self._read)
        else:
            high = 1e12 if metric.name.endswith(("free_bytes", "available_bytes")) else float(self._read)
            yield Sample(metric.name, labels, high if metric.kind == "gauge" and high > 1e9 else float(self._read))


@contextmanager
def installed(home: Path) -> Iterator[Alerts]:
    """Give the alerts of an installation on SQLite."""
    settings = load_settings({"DISCERN_HOME": str(home)})
    make_home(settings)
    database = database_of(settings)
    database.open()
    audit = AuditTrail(AuditStore(database), anchor_place(settings), settings.audit_anchor_seconds)
    metrics = list(CATALOGUE.values())
    alerts = alerts_of(settings, database, audit, metrics, NothingHappens(), Breakers())
    yield alerts
    alerts.close()
    database.close()


def cost(wide: int) -> str:
    """Return the share of a core that evaluating takes, with windows that are full of readings."""
    metrics = list(CATALOGUE.values())
    readings, known = Growing(metrics, wide), Known(metrics)
    with scratch() as home, installed(home) as alerts:
        rules, evaluate = alerts.open().rules, alerts.loops_over(Growing(metrics, 0))[0]
        memory, at = Memory(rules, known), 0.0
        times = []
        for _ in range(_WARM + _ROUNDS):
            at += evaluate.seconds
            samples = readings.read()
            began = time.process_time()
            memory.add(at, samples)
            for rule in rules:
                memory.observe(rule)
            times.append(time.process_time() - began)
        took = median(times[_WARM:]) + median(_times(evaluate.turn))
    share = took / evaluate.seconds
    return f"{len(samples):,} series: {took * 1000:.1f} ms each {evaluate.seconds:g} s, {share:.2%} of a core"


def soon(rounds: int) -> str:
    """Return how long it takes from a counter that grows to the webhook."""
    times = []
    for number in range(rounds):
        arrived = threading.Event()
        readings = Growing(list(CATALOGUE.values()), 3)
        with scratch() as home, hook(arrived) as url:
            (home / "alerts.toml").write_text(_RULES.format(url=url))
            with installed(home) as alerts:
                stop = threading.Event()
                threads = [threading.Thread(target=_go_on, args=[loop, stop]) for loop in alerts.loops_over(readings)]
                for thread in threads:
                    thread.start()
                time.sleep(11 + number * 1.3 % 5)  # at any time between two looks
                readings.failures = 5
                began = time.monotonic()
                arrived.wait(60)
                times.append(time.monotonic() - began)
                stop.set()
                for thread in threads:
                    thread.join()
    longest = max(times)
    return (
        f"from a failing stage to the webhook: median {median(times):.1f} s, longest {longest:.1f} s of {rounds}, "
        f"{longest / _LIMIT_SECONDS:.2f} of the {_LIMIT_SECONDS:g} s there are"
    )


@contextmanager
def hook(arrived: threading.Event) -> Iterator[str]:
    """Serve a webhook that notices the alert of a failing stage."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["groupLabels"].get("alertname") == "DiscernStageFailing":
                arrived.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wide", type=int, default=20, help="series of each metric")
    parser.add_argument("--rounds", type=int, default=5, help="times that something fails")
    asked = parser.parse_args()
    logging.getLogger("discern").setLevel(logging.CRITICAL)
    print(cost(asked.wide))
    print(soon(asked.rounds))


def _go_on(loop: Loop, stop: threading.Event) -> None:
    while not stop.wait(loop.seconds):
        loop.turn()


def _times(work: Callable[[], object]) -> Iterator[float]:
    for _ in range(_ROUNDS):
        began = time.process_time()
        work()
        yield time.process_time() - began


if __name__ == "__main__":
    main()
