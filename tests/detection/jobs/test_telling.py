"""A webhook that goes wrong, in whichever way, keeps no other from being told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import insert

from discern.core.breakers import Breakers
from discern.core.clock import utc_now
from discern.core.counts import Counts
from discern.detection.jobs.service_telling import Telling, webhook_guards
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import Job
from discern.detection.store import VerdictStore
from discern.store.metadata import workspaces
from discern.store.secret_files import SecretFile
from discern.store.sqlite import SqliteDatabase
from tests.detection.jobs.conftest import ended


def test_the_others_are_told(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "discern.db")
    database.open()
    store = JobStore(database)
    odd = ended(store, webhook="https://odd.example")
    good = ended(store, webhook="https://good.example")

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        assert body
        assert headers
        if "odd" in url:
            raise RuntimeError(url)
        return 204

    secret = SecretFile("several words of nobody", tmp_path / "none")
    telling = Telling(store, VerdictStore(database), post, secret, Counts())

    def tries(job: Job) -> int:
        found = store.get("default", UUID(job.id))
        return 0 if found is None else len(found.deliveries)

    async def told(job: Job) -> None:
        while not tries(job):  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.05)

    async def run() -> None:
        task = asyncio.create_task(telling.run())
        await told(good)
        await told(ended(store, webhook="https://late.example"))
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert tries(odd) == 0  # its claim runs out, and it is tried again
    database.close()


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Hosts:
    """What is posted to, and a host that is down."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.down = True

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        assert body
        assert headers
        self.called.append(url)
        if self.down and "//down.example" in url:
            raise ConnectionRefusedError(url)
        return 200


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "discern.db")
    database.open()
    with database.write() as connection:
        connection.execute(insert(workspaces).values(workspace="other", created_at=utc_now()))
    yield database
    database.close()


def telling_of(database: SqliteDatabase, hosts: Hosts, clock: Clock, tmp_path: Path) -> Telling:
    secret = SecretFile("several words of nobody", tmp_path / "none")
    guards = webhook_guards(Breakers(clock))
    return Telling(JobStore(database), VerdictStore(database), hosts.post, secret, Counts(), guards)


def now_of(store: JobStore, job: Job) -> Job:
    found = store.get(job.workspace, UUID(job.id))
    assert found is not None
    return found


def test_a_host_that_keeps_failing_is_left_alone_for_who_named_it_and_then_tried_once(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    store, clock, hosts = JobStore(database), Clock(), Hosts()
    telling = telling_of(database, hosts, clock, tmp_path)
    jobs = [ended(store, webhook=f"https://down.example/{number}") for number in range(8)]
    for job in jobs:
        telling.tell(job)
    assert len(hosts.called) == 5  # the breaker opened
    assert [len(now_of(store, job).deliveries) for job in jobs] == [1] * 5 + [0] * 3  # no try is counted
    telling.tell(ended(store, webhook="https://down.example:8443/another-port"))
    theirs = ended(store, webhook="https://down.example/theirs", workspace="other")
    telling.tell(theirs)
    assert hosts.called[5:] == ["https://down.example:8443/another-port", "https://down.example/theirs"]
    clock.now += 6
    hosts.down = False
    put_off = {job.id for job in jobs[5:]}
    assert put_off <= {job.id for job in store.due_to_tell(utc_now() + timedelta(seconds=10), timedelta(), 100)}
    telling.tell(jobs[6])
    telling.tell(jobs[7])
    assert hosts.called[7:] == ["https://down.example/6", "https://down.example/7"]
    assert now_of(store, jobs[7]).deliveries[-1].status == 200


def test_what_nobody_could_be_told_for_an_hour_is_given_up(database: SqliteDatabase, tmp_path: Path) -> None:
    store = JobStore(database)
    telling = telling_of(database, Hosts(), Clock(), tmp_path)
    for number in range(5):
        telling.tell(ended(store, webhook=f"https://down.example/{number}"))
    old = ended(store, webhook="https://down.example/old", age=timedelta(hours=2))
    telling.tell(now_of(store, old))
    assert "left alone because it keeps failing" in str(now_of(store, old).deliveries[-1].error)
    due = store.due_to_tell(utc_now() + timedelta(days=1), timedelta(), 100)
    assert old.id not in [job.id for job in due]


def test_a_workspace_with_many_webhooks_keeps_no_other_waiting(database: SqliteDatabase) -> None:
    store = JobStore(database)
    for number in range(20):
        ended(store, webhook=f"https://slow.example/{number}")
    theirs = ended(store, webhook="https://good.example", workspace="other")
    assert theirs.id in [job.id for job in store.due_to_tell(utc_now(), timedelta(seconds=60), 8)]
