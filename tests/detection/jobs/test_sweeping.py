"""What no job has any more, or never had, is erased."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import update

from discern.app import Services
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.detection.jobs.types import INPUT, RESULT, Job, folder_of, object_of
from discern.objects.store import objects
from discern.objects.types import Address
from tests.detection.jobs.conftest import ended


def made(services: Services, *, age: timedelta) -> Job:
    """Make a job that has ended, with its result, so long ago."""
    job = ended(services.job_store, age=age)
    services.objects.put(object_of(job, RESULT), b"result")
    return job


def test_an_old_job_goes_with_its_result(services: Services) -> None:
    old, young = made(services, age=timedelta(days=30)), made(services, age=timedelta())
    services.jobs._forget()
    assert services.job_store.get("default", UUID(old.id)) is None
    assert services.objects.names("default", folder_of(old.id)) == []
    assert services.objects.names("default", folder_of(young.id)) == [RESULT]


def test_an_input_that_no_job_was_made_of_is_erased_after_days(services: Services) -> None:
    job = made(services, age=timedelta())
    lost, fresh = folder_of(str(uuid7())), folder_of(str(uuid7()))
    for folder in (lost, fresh):
        services.objects.put(Address("default", folder, INPUT), b"input")
    with services.database.write() as connection:
        old = update(objects).where(objects.c.folder.in_([lost, folder_of(job.id)]))
        connection.execute(old.values(created_at=utc_now() - timedelta(days=8)))
    services.jobs._erase_lost()
    assert services.objects.names("default", lost) == []
    assert services.objects.names("default", fresh) == [INPUT]
    assert services.objects.names("default", folder_of(job.id)) == [RESULT]
