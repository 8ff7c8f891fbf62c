"""What traces cost: processor time of a record where one in a hundred is traced, and what not tracing costs.

Two installations in one process answer the same requests in short turns, as in `bench.monitoring`. What is traced goes
by way of the framework and is put into OTLP's words, all of which is counted; the socket that it leaves by is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from bench.home import RECORD
from bench.monitoring import _GROUPS, _LOOK_UPS, _TOGETHER, _Installation, _Line
from bench.report import Row, table
from bench.rounds import in_turns
from bench.scratch import scratch
from discern.app_http import create_app
from discern.detection import batching
from discern.detectors import cascade
from discern.http.exchange import Exchange

MOST = 1.03
_SHARE = 0.01
_ROUNDS = 15
_ON, _OFF = "traced", "untraced"


class _Tracing(_Installation):
    """One that traces a share of the requests, and sends what it traced to nobody."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, watched=True)
        tracer = self._tracer = self.services.monitoring.tracer
        tracer._url, tracer._ratio = "http://localhost:4318", _SHARE  # noqa: SLF001 - as the settings would say
        tracer._poster = lambda host: self._take  # noqa: ARG005, SLF001 - nothing leaves the process
        tracer.open()
        self._app = create_app(self.services)
        self.traced = self.bytes = 0

    async def processor_microseconds(self) -> float:
        """Return what a record took, with what was still to be done for those that were traced."""
        found = await super().processor_microseconds()
        started = time.process_time()
        while self._tracer._spans:  # noqa: ASYNC110, SLF001 - a thread sends them
            await asyncio.sleep(0.05)
        return found + (time.process_time() - started) / (_GROUPS * _TOGETHER) * 1e6

    def _take(self, _url: str, body: bytes, _headers: object) -> int:
        self.bytes += len(body)
        return 200

    async def _ask(self, bodies: list[bytes]) -> None:
        line, loop = _Line(), asyncio.get_running_loop()
        line.left, line.answered = len(bodies), loop.create_future()
        others: list[Awaitable[None]] = []
        for body in bodies:
            exchange = Exchange(line, RECORD, self._headers, keep_alive=True)
            exchange.body = body
            for _ in range(_LOOK_UPS):
                if self._direct.take(exchange):
                    break
                if exchange.sampled is not None:
                    others.append(self._by_the_framework(exchange, line))
                    break
                self._look_up()
            else:
                raise AssertionError("the request was not answered on the way of the connection")
        self.traced += len(others)
        await asyncio.gather(line.answered, *others)

    async def _by_the_framework(self, exchange: Exchange, line: _Line) -> None:
        path = f"/v1/detectors/{RECORD}/verdicts"
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*exchange.headers, (b"content-length", b"%d" % len(exchange.body))],
            "client": ("127.0.0.1", 1),
            "state": {"sampled": exchange.sampled},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": exchange.body}

        async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
            if message.get("status", 200) != 200:
                raise AssertionError(message)
            if message["type"] == "http.response.body":
                line.send_whole(b"HTTP/1.1 200", keep_alive=True)

        await self._app(scope, receive, send)


def rows(folder: Path, *, rounds: int = _ROUNDS) -> Iterator[Row]:
    """Yield the rows."""
    yield _sampled(folder, rounds)
    yield _not_traced(folder, rounds)


def _sampled(folder: Path, rounds: int) -> Row:
    traced, untraced = _Tracing(folder / "one-in-100"), _Installation(folder / "none", watched=True)
    found = _compared(traced.processor_microseconds, untraced.processor_microseconds, rounds)
    for one in (traced, untraced):
        one.services.close()
    if not traced.traced or not traced.bytes:
        raise AssertionError("nothing was traced")
    return _row(f"processor time of a record, one in {round(1 / _SHARE)} traced, 8 at a time", "none traced", found)


def _not_traced(folder: Path, rounds: int) -> Row:
    sides = {name: _Installation(folder / name, watched=True) for name in (_ON, _OFF)}

    async def not_looking() -> float:
        with _no_looks():
            return await sides[_OFF].processor_microseconds()

    found = _compared(sides[_ON].processor_microseconds, not_looking, rounds)
    for one in sides.values():
        one.services.close()
    return _row("processor time of a record that is not traced, 8 at a time", "where nobody looks whether it is", found)


def _compared(on: Callable[[], Any], off: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Return the median of both, and of the rounds' ratios."""
    with asyncio.Runner() as runner:
        measures: dict[str, Callable[[], float]] = {_ON: lambda: runner.run(on()), _OFF: lambda: runner.run(off())}
        for _ in range(3):
            for measure in measures.values():
                measure()
        found = in_turns(measures, rounds)
    return found.median(_ON, float), found.median(_OFF, float), found.ratio(_ON, _OFF, float)


def _row(what: str, other: str, found: tuple[float, float, float]) -> Row:
    on, off, ratio = found
    return Row(what, f"{on:.1f} µs", f"{off:.1f} µs, {other}; at most {MOST:g} x", ratio, ratio <= MOST)


@contextmanager
def _no_looks() -> Iterator[None]:
    def run(detector: object, items: object, _traced: object) -> object:
        return batching._outcomes(detector, items, [])  # type: ignore[arg-type]  # noqa: SLF001 - what is measured

    with (
        mock.patch.object(batching, "_traced", return_value=()),
        mock.patch.object(batching, "_run", run),
        mock.patch.object(cascade, "current_trace", return_value=None),
    ):
        yield


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
