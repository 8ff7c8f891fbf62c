"""The batch route: records by the thousand, every verdict on the ledger and readable by its id.

Requests are sent over two connections. Afterwards the ledger is counted against what was answered, and verdicts of a
sample of answers are read one by one by their ids.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench import baseline, inputs, rightness
from bench.home import RECORD, furnish
from bench.report import Row
from bench.servers import Ours

_RECORDS = 1_000
_CONNECTIONS = 2
_TARGET = 50_000
_EVERY = 50
_SAMPLE = 200


@dataclass
class _Sent:
    """What a round's requests came to. `kept` are some of the answers, with their request's first serial number."""

    answered: int = 0
    kept: list[tuple[int, bytes]] = field(default_factory=list)


def rows(folder: Path, *, rounds: int = 5, seconds: float = 4, workers: int = 2) -> Iterator[Row]:
    """Yield the row of NDJSON in, JSON out."""
    home = folder / "home"
    furnish(home)
    serials = _Serials()
    with Ours(home, workers=workers) as server:
        headers = {"Authorization": f"Bearer {server.secret}", "Content-Type": "application/x-ndjson"}
        _send(server.port, headers, serials, 1.0)
        before = rightness.on_the_ledger(home, RECORD)
        rates: list[float] = []
        answered = 0
        kept: list[tuple[int, bytes]] = []
        for _ in range(rounds):
            started = time.perf_counter()
            sent = _send(server.port, headers, serials, seconds)
            rates.append(sent.answered / (time.perf_counter() - started))
            answered += sent.answered
            kept += sent.kept
        written = rightness.on_the_ledger(home, RECORD) - before
        if written != answered:
            raise AssertionError(f"{answered} verdicts were answered and {written} are on the ledger")
        ids = _right_ids(kept, home / "models")
        read = rightness.readable(server.url, server.secret, ids[:: max(1, len(ids) // _SAMPLE)])
    rate = statistics.median(rates)
    yield Row(
        f"records, batch route, {_RECORDS:,} a request as NDJSON, {_CONNECTIONS} connections of a Python client",
        f"{rate:,.0f} verdicts/s; all {answered:,} on the ledger, {read} sampled and read by their ids",
        f"at least {_TARGET:,} verdicts/s",
        rate / _TARGET,
        rate >= _TARGET,
    )


class _Serials:
    """Ranges of serial numbers that no two requests share."""

    def __init__(self) -> None:
        self._next = 1
        self._lock = threading.Lock()
        self._bodies = [inputs.record_template(variant) for variant in range(inputs.VARIANTS)]

    def body(self) -> tuple[int, bytes]:
        """Return the first serial number of a request and its body."""
        with self._lock:
            first, self._next = self._next, self._next + _RECORDS
        return first, b"\n".join(self.record(serial) for serial in range(first, first + _RECORDS))

    def record(self, serial: int) -> bytes:
        """Return the record of a serial number."""
        before, after = self._bodies[serial % inputs.VARIANTS]
        return before + inputs.serial_digits(serial) + after


def _send(port: int, headers: Mapping[str, str], serials: _Serials, seconds: float) -> _Sent:
    """Send for `seconds`. Raises AssertionError for a request that failed, whole or in part."""
    sent = _Sent()
    lock = threading.Lock()
    until = time.perf_counter() + seconds
    failures: list[str] = []

    def go_on() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        number = 0
        while time.perf_counter() < until and not failures:
            first, body = serials.body()
            connection.request("POST", f"/v1/detectors/{RECORD}/verdicts:batch", body, dict(headers))
            response = connection.getresponse()
            content = response.read()
            if response.status != 200 or b'"errors":0,' not in content:
                failures.append(f"{response.status}: {content[:500].decode(errors='replace')}")
                break
            with lock:
                sent.answered += _RECORDS
                if number % _EVERY == 0:
                    sent.kept.append((first, content))
            number += 1
        connection.close()

    threads = [threading.Thread(target=go_on) for _ in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise AssertionError(f"the batch route answered {failures[0]}")
    return sent


def _right_ids(kept: list[tuple[int, bytes]], models: Path) -> list[str]:
    """Return the ids of the kept answers. Raises AssertionError where a score is not the model's for its record."""
    model = baseline.session(models / "record.onnx")
    serials = _Serials()
    ids = []
    for first, content in kept:
        answers = sorted(json.loads(content)["answers"], key=lambda answer: int(answer["index"]))
        verdicts: list[dict[str, Any]] = [answer["verdict"] for answer in answers]
        batch = [baseline.row(json.loads(serials.record(serial))) for serial in range(first, first + _RECORDS)]
        wanted = baseline.probabilities(model, "record", batch)
        for verdict, score in zip(verdicts, wanted, strict=True):
            if abs(verdict["score"] - score) > rightness.TOLERANCE:
                raise AssertionError(f"the batch route answered {verdict['score']}, the model says {score}")
            ids.append(verdict["id"])
    return ids
