"""A defect in one turn of a loop does not end it, in any of the loops there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from sqlalchemy.exc import OperationalError

from discern.app import Services
from discern.app_http import create_app
from discern.cli import serving
from discern.core.ids import uuid7
from discern.core.loops import take_turn
from discern.detection.jobs import service, service_telling
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.service_queue import DbosQueue
from discern.detection.streams import api
from discern.detection.streams.api import StreamEndpoint
from discern.detection.streams.types import StreamLimits
from discern.privacy.ports import NoSubjects

SECONDS = 0.01


class Turns:
    """Goes wrong the first time it is called, and counts."""

    def __init__(self, then: object = None) -> None:
        self.taken = 0
        self._then = then

    def __call__(self, *_: object, **__: object) -> Any:
        self.taken += 1
        if self.taken == 1:
            raise RuntimeError("nobody thought of this")
        return self._then


def assert_goes_on(loop: Callable[[], Coroutine[Any, Any, None]], turns: Turns) -> None:
    """Run a loop until it has taken a second turn."""

    async def run() -> None:
        task = asyncio.create_task(loop())
        while turns.taken < 2 and not task.done():  # noqa: ASYNC110 - the loops have no event
            await asyncio.sleep(SECONDS)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(asyncio.wait_for(run(), 10))
    assert turns.taken >= 2


def test_what_went_wrong_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def turn() -> None:
        raise RuntimeError("nobody thought of this")

    with caplog.at_level(logging.ERROR, "discern.core.loops"):
        asyncio.run(take_turn("jobs", turn()))
    (record,) = caplog.records
    assert vars(record)["loop"] == "jobs"
    assert record.exc_info is not None
    assert "nobody thought of this" in str(record.exc_info[1])


def test_a_loop_that_is_cancelled_ends() -> None:
    async def run() -> None:
        task = asyncio.create_task(take_turn("jobs", asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


class _NoQueue:
    def put(self, job_id: str, takes: int) -> None:
        """Take nothing."""

    def forget(self, job_ids: object) -> None:
        """Have nothing to forget."""

    def close(self) -> None:
        """Have nothing to close."""


def test_jobs_are_held_on_to_after_a_defect(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_TEND_SECONDS", SECONDS)
    opened = Turns(_NoQueue())
    assert_goes_on(Jobs(services.jobs._parts, opened)._tend, opened)
    jobs, held = Jobs(services.jobs._parts, lambda _: _NoQueue()), Turns(set())
    monkeypatch.setattr(jobs, "_hold_on", held)
    assert_goes_on(jobs._tend, held)


def test_a_queue_that_could_not_be_opened_is_opened_later(home: Path) -> None:
    jobs = cast("Any", SimpleNamespace(at_a_time=1))
    with pytest.raises(OperationalError):
        DbosQueue(jobs, "", home / "missing" / "jobs.db")
    queue = DbosQueue(jobs, "", home / "jobs.db")
    queue.put(str(uuid7()), 0)
    queue.close()


def test_what_is_old_is_swept_after_a_defect(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_FORGET_EVERY_SECONDS", SECONDS)
    swept = Turns()
    monkeypatch.setattr(services.jobs, "_forget", swept)
    assert_goes_on(services.jobs._sweep, swept)


def test_webhooks_are_told_after_a_defect(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_telling, "_LOOK_SECONDS", SECONDS)
    due = Turns([])
    monkeypatch.setattr(services.job_store, "due_to_tell", due)
    assert_goes_on(services.jobs._parts.telling.run, due)


@pytest.mark.parametrize(
    ("part", "work", "loop"),
    [
        ("retention", "tend", "_tend_the_ledger"),
        ("objects", "look", "_keep_objects"),
        ("objects", "tidy", "_keep_objects"),
        ("quotas", "settle", "_keep_house"),
        ("audit", "anchor", "_keep_house"),
    ],
)
def test_the_server_keeps_house_after_a_defect(
    services: Services, monkeypatch: pytest.MonkeyPatch, part: str, work: str, loop: str
) -> None:
    for seconds in ("_TEND_SECONDS", "_LOOK_SECONDS", "_HOUSE_SECONDS"):
        monkeypatch.setattr(serving, seconds, SECONDS)
    turns = Turns()
    monkeypatch.setattr(getattr(services, part), work, turns)
    app = create_app(services)
    server = serving.Server(uvicorn.Config(app), app, services, lambda: None, lambda: None)
    assert_goes_on(getattr(server, loop), turns)


class _Odd:
    """A stream that cannot be looked at the first time, and has failed at the second."""

    def __init__(self) -> None:
        self.looks = Turns(then=True)

    @property
    def has_failed(self) -> bool:
        return bool(self.looks())


def test_streams_are_looked_after_after_a_defect(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_LOOK_SECONDS", SECONDS)
    unused = cast("Any", None)
    endpoint = StreamEndpoint(
        services.detect,
        unused,
        services.catalogue,
        StreamLimits(most=1, most_of_a_workspace=1, waiting=1, waiting_bytes=1, idle_seconds=60),
        services.counts,
        principal_of=unused,
        problem_of=unused,
        key_check_of=unused,
        subjects=NoSubjects(),
    )
    closed: list[Any] = []

    async def send(message: Any) -> None:
        closed.append(message["code"])

    odd = _Odd()
    endpoint._open[cast("Any", odd)] = send
    assert_goes_on(endpoint._look_after_all, odd.looks)
    assert closed[:1] == [1011]
