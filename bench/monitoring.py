"""What it costs to watch: processor time of a record with all of monitoring and with none, and of a transaction.

Two installations stand side by side in one process and answer the same number of requests in short turns, from the
request as the connection has it to the bytes of the answer; parsing HTTP and the socket are left out of both, so the
share that watching takes of a request is rather less than this. Processor time is compared: it drifts less than time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from bench import inputs
from bench.durability import verdict
from bench.home import RECORD, furnish
from bench.report import Row, table
from bench.rounds import in_turns
from bench.scratch import scratch
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.measures import Measures
from discern.detection.store import VerdictStore
from discern.detection.store_tallies import Tallying
from discern.detection.types import LedgerEntry
from discern.http.exchange import Exchange
from discern.quotas.types import Amount
from discern.settings import load_settings
from discern.store.sqlite import SqliteDatabase

MOST = 1.03
_TOGETHER = 8
_GROUPS = 250
_ROUNDS = 50
_LOOK_UPS = 5
_ON, _OFF = "watched", "unwatched"


class _Uncounted(Tallying):
    def values(self, entries: object) -> list[list[object]]:  # noqa: ARG002 - counts nothing
        return []


class _Line:
    """Stands where the connection does. `answered` is set when as many answers have come as were asked for."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self.left = 0
        self.answered: asyncio.Future[None] | None = None

    def standing_headers(self) -> bytes:
        return b""

    def send_whole(self, answer: bytes, *, keep_alive: bool) -> None:  # noqa: ARG002 - as a connection's
        if not answer.startswith(b"HTTP/1.1 200"):
            raise AssertionError(answer[:200])
        self.left -= 1
        if not self.left and self.answered is not None:
            self.answered.set_result(None)


class _Installation:
    """One that answers on the way of the connection. Without `watched` nothing is noted, counted or told."""

    def __init__(self, home: Path, *, watched: bool) -> None:
        furnish(home)
        settings = load_settings({"DISCERN_HOME": str(home)})
        with mock.patch.object(Measures, "noting", _noting_nothing) if not watched else _as_it_is():
            self.services: Services = build_services(settings)
            self.services.open()
            self._direct = create_app(self.services).direct
        if not watched:
            self.services.verdicts._tallying = _Uncounted()  # noqa: SLF001 - nobody but a benchmark wants it so
            self.services.committer._watchers = ()  # noqa: SLF001 - likewise
        self._watched = watched
        self._serial = 0
        self._secret = self.services.keys.issue("default", "bench", role="owner").secret
        headers = {"authorization": f"Bearer {self._secret}", "content-type": "application/json"}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.services.catalogue.get(RECORD)

    async def processor_microseconds(self) -> float:
        """Return what a record took."""
        self._look_up()
        bodies = [[self._body() for _ in range(_TOGETHER)] for _ in range(_GROUPS)]
        started = time.process_time()
        for group in bodies:
            await self._ask(group)
        if self._watched:
            # As often as a busy server does it, about.
            for loop in self.services.monitoring.loops:
                if loop.seconds <= 1:
                    loop.turn()
        return (time.process_time() - started) / (_GROUPS * _TOGETHER) * 1e6

    def _look_up(self) -> None:
        self.services.catalogue.get(RECORD)
        self.services.keys.authenticate(self._secret)
        self.services.quotas.take("default", Amount(1))
        self.services.subjects.admit("default", None)

    async def _ask(self, bodies: list[bytes]) -> None:
        line, loop = _Line(), asyncio.get_running_loop()
        line.left, line.answered = len(bodies), loop.create_future()
        for body in bodies:
            exchange = Exchange(line, RECORD, self._headers, keep_alive=True)
            exchange.body = body
            # Several things are remembered for a second; a server looks them up by way of the framework.
            for _ in range(_LOOK_UPS):
                if self._direct.take(exchange):
                    break
                self._look_up()
            else:
                raise AssertionError("the request was not answered on the way of the connection")
        await line.answered

    def _body(self) -> bytes:
        self._serial += 1
        before, after = inputs.record_template(self._serial % inputs.VARIANTS)
        return before + b"%012d" % self._serial + after


def _noting_nothing(_self: Measures, _name: str, *_labels: str) -> Callable[[float], None]:
    return deque[float](maxlen=0).append


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def rows(folder: Path, *, rounds: int = _ROUNDS) -> Iterator[Row]:
    """Yield the rows."""
    sides = {name: _Installation(folder / name, watched=name == _ON) for name in (_ON, _OFF)}
    with asyncio.Runner() as runner:
        measures = {name: partial(_measured, runner, one) for name, one in sides.items()}
        for _ in range(5):
            for measure in measures.values():
                measure()
        found = in_turns(measures, rounds)
    for one in sides.values():
        one.services.close()
    ratio = found.ratio(_ON, _OFF, float)
    yield Row(
        f"processor time of a record with all monitoring, {_TOGETHER} at a time",
        f"{found.median(_ON, float):.1f} µs",
        f"{found.median(_OFF, float):.1f} µs with none; at most {MOST:g} x",
        ratio,
        ratio <= MOST,
    )
    yield _transactions(folder, rounds)


def _measured(runner: asyncio.Runner, one: _Installation) -> float:
    return runner.run(one.processor_microseconds())


def _transactions(folder: Path, rounds: int) -> Row:
    measures: dict[str, Callable[[], float]] = {}
    databases = []
    for name, tallying in ((_ON, Tallying()), (_OFF, _Uncounted())):
        database = SqliteDatabase(folder / f"{name}.db")
        database.open()
        databases.append(database)
        store = VerdictStore(database)
        store._tallying = tallying  # noqa: SLF001 - nobody but a benchmark wants it otherwise
        measures[name] = partial(_of_a_transaction, store)
    found = in_turns(measures, rounds)
    for database in databases:
        database.close()
    return Row(
        f"processor time of a transaction of {_TOGETHER} verdicts on SQLite, counted",
        f"{found.median(_ON, float):.0f} µs",
        f"{found.median(_OFF, float):.0f} µs not counted",
        found.ratio(_ON, _OFF, float),
    )


def _of_a_transaction(store: VerdictStore) -> float:
    groups = [[LedgerEntry(verdict(), "key:bench") for _ in range(_TOGETHER)] for _ in range(_GROUPS)]
    started = time.process_time()
    for group in groups:
        if not store.append_at_once(group):
            raise AssertionError("the database was not to be had at once")
    took = (time.process_time() - started) / _GROUPS * 1e6
    store.tidy()
    store.finish_tidying()
    return took


def main() -> None:
    """Print the rows."""
    with scratch() as folder:
        print(table(rows(folder)))


if __name__ == "__main__":
    main()
