"""A job for the tests of what happens to jobs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import Job


def ended(
    store: JobStore, *, age: timedelta = timedelta(), webhook: str | None = None, workspace: str = "default"
) -> Job:
    """Make a job over a table that has ended so long ago."""
    moment = utc_now() - age
    job = Job(
        id=str(uuid7()),
        workspace=workspace,
        principal="key:1",
        kind="file",
        detector="toy-record",
        version="1.0.0",
        state="waiting",
        progress=0.0,
        rows=0,
        bytes=1,
        created_at=moment,
        webhook=webhook,
    )
    store.add(job)
    store.finish(UUID(job.id), "done", moment)
    return job
