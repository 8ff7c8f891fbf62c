"""The bundled load generator, for machines without `wrk`: bare sockets, requests written beforehand.

`python -m bench.client PORT CONNECTIONS SECONDS TEMPLATES FIRST_SERIAL` prints one line, `RESULT` and JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.load import read_templates


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Iterator[bytes], tally: _Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._received = b""
        self._needed = 0
        self._good = False
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._received[:end].lower()
            self._good = head.startswith(b"http/1.1 2")
            at = head.find(b"content-length:")
            if at < 0:
                raise ValueError("an answer without Content-Length")
            self._needed = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._received) >= self._needed:
            self._tally.count(self._good, self._sent_at)
            self._received, self._needed = b"", 0
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._tally.over:
            self._tally.broken += 1

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))


class _Tally:
    def __init__(self) -> None:
        self.refused = self.broken = 0
        self.milliseconds: list[float] = []
        self.over = False

    def count(self, good: bool, sent_at: float) -> None:
        if self.over:
            return
        self.refused += not good
        self.milliseconds.append((time.perf_counter() - sent_at) * 1000)


def main() -> None:
    """Send, and print what came of it."""
    port, connections, seconds, templates, first = sys.argv[1:]
    requests = _requests(read_templates(Path(templates)), int(first))
    tally = asyncio.run(_send_for(int(port), int(connections), float(seconds), requests))
    p50, p95, p99 = np.percentile(tally.milliseconds or [0.0], [50, 95, 99])
    result = {
        "requests": len(tally.milliseconds),
        "microseconds": int(float(seconds) * 1e6),
        "refused": tally.refused,
        "broken": tally.broken,
        "p50": p50,
        "p95": p95,
        "p99": p99,
    }
    print("RESULT", json.dumps(result))


async def _send_for(port: int, connections: int, seconds: float, requests: Iterator[bytes]) -> _Tally:
    tally = _Tally()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(requests, tally), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    tally.over = True
    return tally


def _requests(templates: list[tuple[bytes, bytes]], first: int) -> Iterator[bytes]:
    for serial in itertools.count(first + 1):
        before, after = templates[serial % len(templates)]
        yield before + b"%012d" % serial + after


if __name__ == "__main__":
    main()
