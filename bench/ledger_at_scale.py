"""A full ledger against an empty one: what a new verdict and the first page of the list take.

`python -m bench.ledger_at_scale` fills ten million rows, which takes minutes and ten gigabytes; `make bench` fills a
million. Both ledgers are asked in turns, over one connection each.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import sides
from bench.home import RECORD, furnish
from bench.load import Traffic
from bench.report import Row
from bench.rounds import in_turns
from bench.servers import Ours

_ROWS = 1_000_000
_ALL_ROWS = 10_000_000
_CHUNK = 50_000
_TURN = 20
_AT_MOST = 1.2
_PAGES = {
    "first page": "/v1/verdicts",
    "first page of a detector": f"/v1/verdicts?detector={RECORD}",
    "first page of a decision": "/v1/verdicts?decision=flag",
}
_DAY_MILLISECONDS = 86_400_000


def rows(folder: Path, *, rows: int = _ROWS, turns: int = 60) -> Iterator[Row]:
    """Yield a row for a new verdict and one for each kind of page."""
    homes = {"empty": folder / "empty", "full": folder / "full"}
    for home in homes.values():
        furnish(home)
    started = time.monotonic()
    with Ours(homes["full"]) as server:  # one verdict of each is the pattern that the rest is filled after
        _once(server.port, sides.ours("records", server.secret).request("127.0.0.1", 1))
    fill(homes["full"] / "discern.db", rows)
    print(f"{rows:,} rows in {time.monotonic() - started:.0f} s", file=sys.stderr)
    with Ours(homes["empty"]) as empty, Ours(homes["full"]) as full:
        servers = {"empty": empty, "full": full}
        traffic = {name: sides.ours("records", server.secret) for name, server in servers.items()}
        kinds: dict[str, dict[str, Callable[[], list[float]]]] = {
            "new verdict": {
                name: partial(_times, server.port, _posts(traffic[name])) for name, server in servers.items()
            }
        }
        for what, path in _PAGES.items():
            kinds[what] = {
                name: partial(_times, server.port, _gets(path, server.secret)) for name, server in servers.items()
            }
        _fill_a_page(empty, traffic["empty"])
        for what, asked in kinds.items():
            for ask in asked.values():
                ask()
            found = in_turns(asked, turns)
            p99 = {name: _p99(results) for name, results in found.results.items()}
            ratio = p99["full"] / p99["empty"]
            yield Row(
                f"{what}, {rows:,} verdicts on the ledger: p99",
                f"{p99['full']:.2f} ms",
                f"{p99['empty']:.2f} ms on an empty one; at most {_AT_MOST:g} x",
                ratio,
                ratio <= _AT_MOST,
            )


def fill(database: Path, rows: int) -> None:
    """Write `rows` verdicts of the last thirty days into a ledger that has one, after its pattern."""
    chance = random.Random(7)
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    names = [row[1] for row in connection.execute("PRAGMA table_info(verdicts)")]
    pattern = dict(zip(names, connection.execute("SELECT * FROM verdicts").fetchone(), strict=True))
    places = ", ".join("?" * len(names))
    insert = f"INSERT INTO verdicts ({', '.join(names)}) VALUES ({places})"
    now = time.time_ns() // 1_000_000
    first = now - 30 * _DAY_MILLISECONDS
    step = 30 * _DAY_MILLISECONDS / rows
    for start in range(0, rows, _CHUNK):
        chunk = []
        for number in range(start, min(rows, start + _CHUNK)):
            at = int(first + number * step)
            identifier = f"{at:012x}7{chance.getrandbits(12):03x}8{chance.getrandbits(60):015x}"
            decision = chance.choices(("clear", "review", "flag"), (90, 7, 3))[0]
            row = pattern | {"id": identifier, "decision": decision, "detector": chance.choice((RECORD, "other"))}
            chunk.append(tuple(row[name] for name in names))
        connection.execute("BEGIN")
        connection.executemany(insert, chunk)
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    # Else the disk would still be busy with it while the first answers are measured.
    os.sync()


def _fill_a_page(server: Ours, traffic: Traffic) -> None:
    """Give the empty ledger as many verdicts as a page shows, of every decision as far as they come."""
    for serial in range(500):
        _once(server.port, traffic.request("127.0.0.1", serial))


def _posts(traffic: Traffic) -> Callable[[int], bytes]:
    return partial(traffic.request, "127.0.0.1")


def _gets(path: str, secret: str) -> Callable[[int], bytes]:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
    return lambda _serial: request


_serial = iter(range(10_000_000, 2_000_000_000))


def _times(port: int, request: Callable[[int], bytes]) -> list[float]:
    """Return milliseconds to each of twenty answers."""
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(_TURN):
            content = request(next(_serial))
            started = time.perf_counter()
            connection.sendall(content)
            _answer(connection)
            found.append((time.perf_counter() - started) * 1000)
    return found


def _once(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        _answer(connection)


def _answer(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(262_144)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    missing = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
    while missing > 0:
        missing -= len(connection.recv(262_144))


def _p99(results: list[list[float]]) -> float:
    times = sorted(time for result in results for time in result)
    return times[int(len(times) * 0.99)]


def main() -> None:
    """Fill as many rows as asked for, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ALL_ROWS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
        for row in rows(Path(name), rows=options.rows):
            print(f"{row.what}: {row.found} ({row.against}) {row.ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
