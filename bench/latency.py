"""What the way through Discern adds to one caller's wait, over decoding and running in process.

One keep-alive connection, every request a body of its own. Both sides are asked in turns, ten times each.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import limit, sides
from bench.home import furnish
from bench.load import Traffic, load
from bench.report import Row
from bench.rounds import in_turns
from bench.servers import Ours
from bench.sides import Kind

_TURN = 10
_TARGET_MILLISECONDS = 1.0
_WHAT: dict[Kind, str] = {"records": "record of 30 fields", "images": "image, 640x480 JPEG, network of about 2 ms"}


def rows(folder: Path, *, turns: int = 40) -> Iterator[Row]:
    """Yield a row for records and one for images."""
    home = folder / "home"
    furnish(home)
    with Ours(home, workers=1) as server:
        for kind, what in _WHAT.items():
            traffic = sides.ours(kind, server.secret)
            load(server.port, traffic, folder, connections=1, seconds=2)
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                asked = _asking(connection, traffic)
                in_process = limit.one_row_milliseconds(kind, home / "models")
                found = in_turns({"ours": partial(_times, asked), "plain": partial(_times, in_process)}, turns)
            ours, plain = (_p50(found.results[name]) for name in ("ours", "plain"))
            added = ours - plain
            yield Row(
                f"{what}, one caller: p50 added over decode and model in process",
                f"{added:.2f} ms ({ours:.2f} ms over HTTP)",
                f"{plain:.2f} ms in process; at most {_TARGET_MILLISECONDS:g} ms added",
                added / _TARGET_MILLISECONDS,
                added <= _TARGET_MILLISECONDS,
            )


def _asking(connection: socket.socket, traffic: Traffic) -> Callable[[], float]:
    """Return a function that asks one question, over a bare socket: a client library would add its own cost."""
    serial = iter(range(100_000_000, 200_000_000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def asked() -> float:
        request = traffic.request("127.0.0.1", next(serial))
        started = time.perf_counter()
        connection.sendall(request)
        status = _read_answer(connection)
        elapsed = (time.perf_counter() - started) * 1000
        if not status.startswith(b"HTTP/1.1 2"):
            raise AssertionError(f"{traffic.path} answered {status.decode(errors='replace')}")
        return elapsed

    return asked


def _read_answer(connection: socket.socket) -> bytes:
    """Read one answer to its end, and return its status line."""
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(65_536)
    status, *headers = received[:end].split(b"\r\n")
    length = next(int(line[15:]) for line in headers if line.lower().startswith(b"content-length:"))
    while len(received) < end + 4 + length:
        received += connection.recv(65_536)
    return status


def _times(measure: Callable[[], float]) -> list[float]:
    return [measure() for _ in range(_TURN)]


def _p50(rounds: list[list[float]]) -> float:
    return statistics.median(one for several in rounds for one in several)
