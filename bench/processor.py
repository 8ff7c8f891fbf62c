"""Processor time of a request, of servers that answer the same load in turns, and what of it one of them takes more.

The servers have one process each. Their processor time is compared, from connection to answer, what runs beside
requests included: it drifts less than time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import sides
from bench.load import Traffic, load
from bench.report import Row
from bench.rounds import Rounds, in_turns
from bench.servers import Ours
from bench.sides import Kind

MOST = 1.03
CONNECTIONS = 16
_WARM_SECONDS = 2.0


def microseconds(folder: Path, kind: Kind, servers: Mapping[str, Ours], rounds: int, seconds: float) -> Rounds[float]:
    """Return what a request of each server takes. They are started, and ended. `folder` takes a scratch file."""
    with ExitStack() as running:
        measures = {}
        for name, server in servers.items():
            running.enter_context(server)
            traffic = sides.ours(kind, server.secret)
            load(server.port, traffic, folder, connections=CONNECTIONS, seconds=_WARM_SECONDS)
            measures[name] = partial(_of_a_request, server, traffic, folder, seconds)
        return in_turns(measures, rounds)


def compared(found: Rounds[float], one: str, other: str, what: str, against: str) -> Row:
    """Return the row that says how much more a request takes one server than another."""
    ratio = found.ratio(one, other, float)
    least, most = found.interval(one, other, float)
    return Row(
        f"processor time of {what}, {CONNECTIONS} connections",
        f"{found.median(one, float):.1f} µs",
        f"{found.median(other, float):.1f} µs {against}, [{least:.2f}, {most:.2f}] x; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )


def _of_a_request(server: Ours, traffic: Traffic, folder: Path, seconds: float) -> float:
    before = server.processor_seconds()
    found = load(server.port, traffic, folder, connections=CONNECTIONS, seconds=seconds)
    if found.failed:
        raise AssertionError(f"{found.failed} of {found.answered + found.failed} requests failed")
    return (server.processor_seconds() - before) / found.answered * 1e6
