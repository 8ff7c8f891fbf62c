"""What traces cost: processor time of a record where one in a hundred is traced, where none is, and without the looks.

A receiver of OTLP takes all of them; what sends them is included.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.home import furnish
from bench.processor import compared, microseconds
from bench.report import Row, table
from bench.scratch import scratch
from bench.servers import Ours

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


def rows(folder: Path, *, rounds: int = 15, seconds: float = 2) -> Iterator[Row]:
    """Yield the rows."""
    receiver = _Receiver()
    traced: Mapping[str, str] = {"DISCERN_TRACE_URL": receiver.url, "DISCERN_TRACE_RATIO": "0.01"}
    for name in (_ON, _OFF, _UNLOOKED):
        furnish(folder / name)
    servers = {_ON: Ours(folder / _ON, traced), _OFF: Ours(folder / _OFF), _UNLOOKED: Unlooked(folder / _UNLOOKED)}
    found = microseconds(folder, "records", servers, rounds, seconds)
    receiver.close()
    if not receiver.bytes:
        raise AssertionError("nothing was traced")
    yield compared(found, _ON, _OFF, "a record, one in 100 traced", "where none is")
    yield compared(found, _OFF, _UNLOOKED, "a record, none traced", "where nobody looks whether it is")


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
