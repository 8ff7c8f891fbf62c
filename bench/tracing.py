"""What traces cost: processor time of a record where one in a hundred is traced, and what not tracing costs.

Two real servers answer records in turns, one of them with a receiver of OTLP that takes everything; the processor time
of the servers is compared, which drifts less than time. What is looked at for the sake of requests that are not traced is
too little for that: there two installations in one process answer by turns, in one of them without these looks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from bench import inputs
from bench.home import RECORD, furnish
from bench.load import Traffic, load
from bench.monitoring import _Installation
from bench.report import Row, table
from bench.rounds import in_turns
from bench.scratch import scratch
from bench.servers import Ours
from discern.detection import batching
from discern.detectors import cascade

MOST = 1.03
_CONNECTIONS = 8
_SECONDS = 2.0
_ROUNDS = 7
_ON, _OFF = "traced", "untraced"


class _Receiver:
    """Takes what it is sent, and counts it."""

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


def rows(folder: Path, *, rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Iterator[Row]:
    """Yield the rows."""
    yield _sampled(folder, rounds, seconds)
    yield _not_traced(folder, rounds)


def _sampled(folder: Path, rounds: int, seconds: float) -> Row:
    receiver = _Receiver()
    sides = {_ON: {"DISCERN_TRACE_URL": receiver.url, "DISCERN_TRACE_RATIO": "0.01"}, _OFF: {}}
    for name in sides:
        furnish(folder / f"served-{name}")
    with (
        Ours(folder / f"served-{_ON}", sides[_ON]) as traced,
        Ours(folder / f"served-{_OFF}", sides[_OFF]) as untraced,
    ):
        servers = {_ON: traced, _OFF: untraced}
        measures = {name: partial(_of_a_record, one, folder, seconds) for name, one in servers.items()}
        for measure in measures.values():
            measure()
        found = in_turns(measures, rounds)
    receiver.close()
    if not receiver.bytes:
        raise AssertionError("nothing was traced")
    ratio = found.ratio(_ON, _OFF, float)
    return Row(
        f"processor time of a record, one in 100 traced, {_CONNECTIONS} connections",
        f"{found.median(_ON, float):.0f} µs",
        f"{found.median(_OFF, float):.0f} µs, none traced; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )


def _of_a_record(server: Ours, folder: Path, seconds: float) -> float:
    headers = {"Authorization": f"Bearer {server.secret}", "Content-Type": "application/json"}
    traffic = Traffic(f"/v1/detectors/{RECORD}/verdicts", inputs.record_template, headers)
    before = server.processor_seconds()
    found = load(server.port, traffic, folder, connections=_CONNECTIONS, seconds=seconds)
    if found.failed or not found.answered:
        raise AssertionError(f"{found.failed} requests failed")
    return (server.processor_seconds() - before) / found.answered * 1e6


def _not_traced(folder: Path, rounds: int) -> Row:
    sides = {name: _Installation(folder / name, watched=True) for name in (_ON, _OFF)}
    with asyncio.Runner() as runner:

        def looking() -> float:
            return runner.run(sides[_ON].processor_microseconds())

        def not_looking() -> float:
            with _no_looks():
                return runner.run(sides[_OFF].processor_microseconds())

        for _ in range(3):
            looking()
            not_looking()
        found = in_turns({_ON: looking, _OFF: not_looking}, rounds)
    for one in sides.values():
        one.services.close()
    ratio = found.ratio(_ON, _OFF, float)
    return Row(
        "processor time of a record that is not traced, 8 at a time",
        f"{found.median(_ON, float):.1f} µs",
        f"{found.median(_OFF, float):.1f} µs where nobody looks whether it is; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )


@contextmanager
def _no_looks() -> Iterator[None]:
    def run(detector: object, items: object, _traced: object) -> object:
        return batching._outcomes(detector, items, [])  # type: ignore[arg-type]  # noqa: SLF001 - what is measured

    with (
        mock.patch.object(batching, "_traced", lambda _batch: ()),
        mock.patch.object(batching, "_run", run),
        mock.patch.object(cascade, "current_trace", lambda: None),
    ):
        yield


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
