"""A webhook that goes wrong in a way nobody thought of keeps no other from being told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from discern.core.counts import Counts
from discern.detection.jobs.service_telling import Telling
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import Job
from discern.detection.store import VerdictStore
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
