"""Whether servers under measurement give right answers: one that fails fast, or gives another's score, must not win."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from bench import baseline, inputs
from bench.load import Traffic
from bench.sides import Kind

TOLERANCE = 1e-4
_CONNECTIONS = 16
SAMPLES = 48

ScoreOf = Callable[[Any], float]
"""Finds the score in a server's decoded answer."""


def expected(kind: Kind, models: Path) -> Callable[[int], float]:
    """Return what the model says of the input with a serial number, computed in this process."""
    if kind == "records":
        records = baseline.session(models / "record.onnx")
        return lambda serial: baseline.probability(records, "record", baseline.row(json.loads(inputs.record(serial))))
    images = baseline.session(models / "image.onnx")
    return lambda serial: baseline.probability(images, "image", baseline.picture(inputs.photo(serial)))


def check(url: str, traffic: Traffic, right: Callable[[int], float], *, score_of: ScoreOf, first: int) -> list[Any]:
    """Ask SAMPLES questions at once, and return the decoded answers.

    Raises AssertionError, which ends the benchmark, for an answer that is not 2xx or whose score is not the model's.
    """
    serials = range(first, first + SAMPLES)
    bodies = [traffic.body(serial) for serial in serials]
    with (
        httpx2.Client(base_url=url, headers=dict(traffic.headers), timeout=60) as client,
        ThreadPoolExecutor(_CONNECTIONS) as pool,
    ):
        responses = list(pool.map(lambda body: client.post(traffic.path, content=body), bodies))
    answers = []
    for serial, response in zip(serials, responses, strict=True):
        if not response.is_success:
            raise AssertionError(f"{url}{traffic.path} answered {response.status_code}: {response.text[:500]}")
        answer = response.json()
        score, wanted = score_of(answer), right(serial)
        if abs(score - wanted) > TOLERANCE:
            raise AssertionError(f"{url}{traffic.path} answered {score}, the model says {wanted}")
        answers.append(answer)
    return answers


def on_the_ledger(home: Path, detector: str) -> int:
    """Return how many verdicts of a detector the ledger of a home folder has."""
    with sqlite3.connect(f"file:{home / 'discern.db'}?mode=ro", uri=True) as database:
        (count,) = database.execute("select count(*) from verdicts where detector = ?", (detector,)).fetchone()
    database.close()
    return int(count)


def readable(url: str, secret: str, ids: Iterable[str]) -> int:
    """Return how many verdicts were read by their ids. Raises AssertionError for one that is not there."""
    read = 0
    with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=60) as client:
        for verdict_id in ids:
            response = client.get(f"/v1/verdicts/{verdict_id}")
            if not response.is_success or response.json()["id"] != verdict_id:
                raise AssertionError(
                    f"verdict {verdict_id} cannot be read: {response.status_code} {response.text[:300]}"
                )
            read += 1
    return read
