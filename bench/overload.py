"""Ten times too much: what is still answered, how the server stays, and how it comes back.

Clips are offered at ten times the rate that the server can judge, whatever it answers: an open loop, unlike `wrk`,
which waits. Meanwhile `/livez` is asked ten times a second, and the memory of the server looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from bench import sides
from bench.home import furnish
from bench.inputs import VARIANTS
from bench.load import Traffic, load
from bench.report import Row, at_least, at_most
from bench.servers import ROOT, Ours

_TIMES = 10
_CONNECTIONS = 16
_MOST_CONNECTIONS = 4_000
_GIVE_UP_SECONDS = 40


def rows(folder: Path, *, seconds: float = 20) -> Iterator[Row]:
    """Yield the rows of a storm of clips."""
    furnish(folder / "home")
    with Ours(folder / "home", workers=1) as server:
        traffic = sides.ours("clips", server.secret)
        load(server.port, traffic, folder, connections=_CONNECTIONS, seconds=2)
        before = [load(server.port, traffic, folder, connections=_CONNECTIONS, seconds=5) for _ in range(3)]
        peak = sorted(one.per_second for one in before)[1]
        calm_bytes = _resident(server.pid)
        command = [sys.executable, "-m", "bench.overload", str(server.port), server.secret]
        storm = subprocess.Popen(
            [*command, str(peak * _TIMES), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        most_bytes = calm_bytes
        while storm.poll() is None:
            most_bytes = max(most_bytes, _resident(server.pid))
            time.sleep(0.1)
        assert storm.stdout is not None
        found = json.loads(storm.stdout.read())
        after = load(server.port, traffic, folder, connections=_CONNECTIONS, seconds=5)
    statuses = found["statuses"]
    unexpected = {status: count for status, count in statuses.items() if status not in {"200", "429", "503"}}
    if unexpected or found["without_retry_after"]:
        raise AssertionError(f"answers that should not be: {unexpected}, without Retry-After: {found}")
    refused = statuses.get("503", 0)
    what = f"clips at {_TIMES} x capacity ({found['offered'] / seconds:,.0f}/s offered, {refused:,} refused)"
    good = statuses.get("200", 0) / found["seconds"]
    yield at_least(f"{what}: judged", f"{good:.1f}/s", f"{peak:.1f}/s without the storm", good / peak, 0.8)
    livez = sorted(found["livez"])
    p99 = livez[int(len(livez) * 0.99)]
    yield at_most(f"{what}: p99 of `/livez` (longest {livez[-1]:.0f} ms, {len(livez)} asked)", p99, 100, "ms")
    yield Row(
        f"{what}: memory",
        f"{most_bytes / 1e6:.0f} MB at most",
        f"{calm_bytes / 1e6:.0f} MB before; `max_waiting` and `waiting_bytes` bound it",
        most_bytes / calm_bytes,
    )
    yield at_least("after the storm", f"{after.per_second:.1f}/s", f"{peak:.1f}/s before", after.per_second / peak, 0.9)


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Storm:
    """Sends requests at a rate, over as many connections as that takes."""

    def __init__(self, port: int, traffic: Traffic) -> None:
        self._port = port
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._requests = [traffic.split_request("127.0.0.1", variant) for variant in range(VARIANTS)]
        self.statuses: Counter[str] = Counter()
        self.without_retry_after = 0
        self.open = 0
        self.livez: list[float] = []
        self.last_at = 0.0

    async def ask(self, serial: int) -> None:
        """Send one request, and count what it is answered."""
        before, after = self._requests[serial % VARIANTS]
        try:
            async with asyncio.timeout(_GIVE_UP_SECONDS):
                reader, writer = self._idle.pop() if self._idle else await self._opened()
                writer.write(before + b"%012d" % serial + after)
                status, keeps = await self._answer(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.statuses[type(error).__name__] += 1
            self.open -= 1
            return
        self.statuses[str(status)] += 1
        self.last_at = time.monotonic()
        if keeps:
            self._idle.append((reader, writer))
        else:
            writer.close()
            self.open -= 1

    async def watch(self, until: float) -> None:
        """Ask whether the server lives, ten times a second, over a connection of its own each time."""
        while time.monotonic() < until:
            started = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            self.livez.append((time.monotonic() - started) * 1000)
            assert b" 200 " in head.split(b"\r\n")[0]
            writer.close()
            await asyncio.sleep(0.1)

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.open += 1
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bool]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split()[1])
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        if status in {429, 503} and b"\r\nretry-after: " not in head:
            self.without_retry_after += 1
        return status, b"connection: close" not in head


async def _rage(port: int, secret: str, per_second: float, seconds: float) -> dict[str, object]:
    storm = _Storm(port, sides.ours("clips", secret))
    started = time.monotonic()
    watching = asyncio.create_task(storm.watch(started + seconds))
    asked: set[asyncio.Task[None]] = set()
    offered = 0
    first = 900_000_000_000  # no other load comes that far, and none is answered from the cache
    while (elapsed := time.monotonic() - started) < seconds:
        while offered < elapsed * per_second and storm.open - len(storm.statuses) < _MOST_CONNECTIONS:
            task = asyncio.create_task(storm.ask(first + offered))
            asked.add(task)
            task.add_done_callback(asked.discard)
            offered += 1
        await asyncio.sleep(0.005)
    await watching
    good = storm.statuses["200"]
    in_time = time.monotonic() - started
    for task in asked:
        task.cancel()
    return {
        "offered": offered,
        "seconds": in_time,
        "statuses": {**storm.statuses, "200": good},
        "without_retry_after": storm.without_retry_after,
        "livez": storm.livez,
    }


def main() -> None:
    """Be the storm, or run the benchmark where no arguments are given."""
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
            for row in rows(Path(name)):
                print(f"{row.what}: {row.found} ({row.against}) {row.ratio:.2f}")
        return
    port, secret, per_second, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(_rage(int(port), secret, float(per_second), float(seconds)))))


if __name__ == "__main__":
    main()
