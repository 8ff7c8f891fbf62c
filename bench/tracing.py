"""What traces cost: processor time of a record where one in a hundred is traced, where none is, and without the looks.

Servers of one process each answer the same load in short turns, from connection to answer, what sends the traces
included. A receiver of OTLP takes all of them. Processor time is compared: it drifts less than time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench import sides
from bench.home import furnish
from bench.load import Traffic, load
from bench.report import Row, table
from bench.rounds import Rounds, in_turns
from bench.scratch import scratch
from bench.servers import Ours

MOST = 1.03
_CONNECTIONS = 16
_WARM_SECONDS = 2.0
_ON, _OFF, _UNLOOKED = "traced", "untraced", "unlooked"


class Unlooked(Ours):
    """The same server, where nobody looks whether a request is traced."""

    module = "bench.unlooked"


class _Receiver:
    """Takes what it is sent."""

    def __init__(self) -> None:
        self.bytes = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bytes += len(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def rows(folder: Path, *, rounds: int = 15, seconds: float = 1) -> Iterator[Row]:
    """Yield the rows."""
    receiver = _Receiver()
    traced: Mapping[str, str] = {"DISCERN_TRACE_URL": receiver.url, "DISCERN_TRACE_RATIO": "0.01"}
    for name in (_ON, _OFF, _UNLOOKED):
        furnish(folder / name)
    servers = {_ON: Ours(folder / _ON, traced), _OFF: Ours(folder / _OFF), _UNLOOKED: Unlooked(folder / _UNLOOKED)}
    with ExitStack() as open_:
        measures = {}
        for name, server in servers.items():
            open_.enter_context(server)
            traffic = sides.ours("records", server.secret)
            load(server.port, traffic, folder, connections=_CONNECTIONS, seconds=_WARM_SECONDS)
            measures[name] = partial(_microseconds, server, traffic, folder, seconds)
        found = in_turns(measures, rounds)
    receiver.close()
    if not receiver.bytes:
        raise AssertionError("nothing was traced")
    yield _row(found, _ON, _OFF, "one in 100 traced", "none traced")
    yield _row(found, _OFF, _UNLOOKED, "none traced", "where nobody looks whether it is")


def _row(found: Rounds[float], ours: str, other: str, what: str, against: str) -> Row:
    ratio = found.ratio(ours, other, float)
    least, most = found.spread(ours, other, float)
    return Row(
        f"processor time of a record, {what}, {_CONNECTIONS} connections",
        f"{found.median(ours, float):.1f} µs",
        f"{found.median(other, float):.1f} µs {against}, {least:.2f} to {most:.2f} x; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )


def _microseconds(server: Ours, traffic: Traffic, folder: Path, seconds: float) -> float:
    before = server.processor_seconds()
    found = load(server.port, traffic, folder, connections=_CONNECTIONS, seconds=seconds)
    if found.failed:
        raise AssertionError(f"{found.failed} of {found.answered + found.failed} requests failed")
    return (server.processor_seconds() - before) / found.answered * 1e6


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
