"""Many open streams: 10,000 WebSockets that send 1,000 records a second in all, to one process.

The clients are processes of their own that speak WebSocket by hand, for a client library would cost more than the
server. Each sends a record, waits for its verdict, and measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import inputs
from bench.home import RECORD, furnish
from bench.report import Row, at_most
from bench.servers import ROOT, Ours

_CONNECTIONS = 10_000
_PER_SECOND = 1_000
_SECONDS = 20
_CLIENTS = 2
_OPENING_AT_A_TIME = 200
_HEADER_BYTES = 4
_LARGEST_SHORT = 125


def rows(folder: Path, *, connections: int = _CONNECTIONS, seconds: float = _SECONDS) -> Iterator[Row]:
    """Yield a row for the wait and one for the memory."""
    furnish(folder / "home")
    most = str(connections + 100)
    settings = {"DISCERN_MAX_STREAMS": most, "DISCERN_MAX_STREAMS_PER_WORKSPACE": most}
    with Ours(folder / "home", settings, workers=1) as server:
        _warm_up(server)
        before = _resident(server.pid)
        each = connections // _CLIENTS
        command = [sys.executable, "-m", "bench.streams", str(server.port), server.secret, str(each)]
        clients = [
            subprocess.Popen(
                [*command, str(_PER_SECOND / _CLIENTS), str(seconds)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(_CLIENTS)
        ]
        try:
            for client in clients:
                _line(client, "OPEN")
            open_bytes = _resident(server.pid) - before
            for client in clients:
                assert client.stdin is not None
                client.stdin.write("GO\n")
                client.stdin.flush()
            found = [json.loads(_line(client, "RESULT")) for client in clients]
            used_bytes = _resident(server.pid) - before
        finally:
            for client in clients:
                client.kill()
                client.wait()
    waits = sorted(wait for part in found for wait in part["milliseconds"])
    failed = sum(part["failed"] for part in found)
    if failed or len(waits) < _PER_SECOND * seconds * 0.9:
        raise AssertionError(f"{failed} answers failed, {len(waits)} of {_PER_SECOND * seconds:.0f} came")
    p50, p95, p99 = (waits[int(len(waits) * share)] for share in (0.5, 0.95, 0.99))
    what = f"{connections:,} open streams, {len(waits) / seconds:,.0f} records/s in all"
    yield at_most(f"{what}: p95 of a verdict (p50 {p50:.1f}, p99 {p99:.1f} ms)", p95, 500, "ms")
    kilobytes = max(open_bytes, used_bytes) / connections / 1000
    yield at_most(f"{what}: memory a connection", kilobytes, 60, "kB")


def _line(client: subprocess.Popen[str], mark: str) -> str:
    assert client.stdout is not None
    for line in client.stdout:
        if line.startswith(mark):
            return line.removeprefix(mark).strip()
    raise RuntimeError(f"a client ended before it said {mark}")


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _warm_up(server: Ours) -> None:
    """Have the server import and allocate what the first hundred streams need."""
    asyncio.run(_serve_clients(server.port, server.secret, 100, 500, 2, wait=False))


class _Client(asyncio.Protocol):
    """One stream that sends when it is told to, and notes how long the answer took."""

    def __init__(self, request: bytes, opened: asyncio.Future[None], waits: list[float]) -> None:
        self._request = request
        self._opened = opened
        self._waits = waits
        self._received = bytearray()
        self._sent_at: float | None = None
        self.failed = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def ask(self, record: bytes) -> bool:
        """Send a record, unless the last answer has not come yet."""
        if self._sent_at is not None or self.transport is None:
            return False
        # A mask of zeros is a mask: RFC 6455, section 5.3, asks for one, and the server undoes it like any other.
        head = struct.pack("!BBH4s", 0x81, 0x80 | 126, len(record), bytes(_HEADER_BYTES))
        self._sent_at = time.perf_counter()
        self.transport.write(head + record)
        return True

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._opened.done():
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._received.startswith(b"HTTP/1.1 101"):
                self._opened.set_exception(RuntimeError(bytes(self._received[:300]).decode()))
                return
            del self._received[: end + 4]
            self._opened.set_result(None)
        while (message := self._message()) is not None:
            if message and self._sent_at is not None:
                self._waits.append((time.perf_counter() - self._sent_at) * 1000)
                self.failed += b'"type":"verdict"' not in message
                self._sent_at = None

    def _message(self) -> bytes | None:
        """Take one whole frame off what was received: its text, or nothing for a ping."""
        if len(self._received) < 2:
            return None
        opcode, length = self._received[0] & 0x0F, self._received[1]
        start = 2
        if length > _LARGEST_SHORT:
            length, start = int.from_bytes(self._received[2:4], "big"), 4
        if len(self._received) < start + length:
            return None
        content = bytes(self._received[start : start + length])
        del self._received[: start + length]
        if opcode == 9 and self.transport is not None:  # ping
            self.transport.write(struct.pack("!BB4s", 0x8A, 0x80 | length, bytes(4)) + content)
        return content if opcode == 1 else b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += 1
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionError("closed"))


async def _serve_clients(
    port: int, secret: str, connections: int, per_second: float, seconds: float, *, wait: bool
) -> tuple[list[float], int]:
    request = (
        f"GET /v1/detectors/{RECORD}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {secret}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    clients: list[_Client] = []
    for start in range(0, connections, _OPENING_AT_A_TIME):
        opened = [loop.create_future() for _ in range(min(_OPENING_AT_A_TIME, connections - start))]
        for future in opened:
            _, client = await loop.create_connection(
                lambda future=future: _Client(request, future, waits),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            clients.append(client)
        await asyncio.gather(*opened)
    if wait:
        print("OPEN", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
    chance = random.Random(os.getpid())
    bodies = [inputs.record(serial) for serial in range(2000)]
    started = loop.time()
    sent = 0
    while (elapsed := loop.time() - started) < seconds:
        due = int(elapsed * per_second)
        while sent < due:
            sent += chance.choice(clients).ask(chance.choice(bodies))
        await asyncio.sleep(0.002)
    await asyncio.sleep(2)
    failed = sum(client.failed for client in clients)
    for client in clients:
        if client.transport is not None:
            client.transport.abort()
    await asyncio.sleep(0.1)
    return waits, failed


def main() -> None:
    """Be the clients, or run the benchmark where no arguments are given."""
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
            for row in rows(Path(name)):
                print(f"{row.what}: {row.found} ({row.against})")
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, secret, connections, per_second, seconds = sys.argv[1:]
    waits, failed = asyncio.run(
        _serve_clients(int(port), secret, int(connections), float(per_second), float(seconds), wait=True)
    )
    print("RESULT", json.dumps({"milliseconds": [round(wait, 3) for wait in waits], "failed": failed}), flush=True)
    print(f"median {statistics.median(waits):.2f} ms", file=sys.stderr)


if __name__ == "__main__":
    main()
