"""The nouns of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from discern.objects.types import Address

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]
JobKind = Literal["input", "file"]
ENDED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})
_Utc = Annotated[datetime, msgspec.Meta(tz=True)]


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt to tell the webhook. `status` is what it answered, `error` why there was no answer."""

    at: _Utc
    status: int | None = None
    error: str | None = None


class Job(msgspec.Struct, frozen=True):
    """One job, as it is shown.

    `kind` "input" is one image, video or record and comes to a verdict; "file" is a table of records and comes to a
    file of results. `progress` is in [0, 1]; `rows` counts those of a file that are done, `not_judged` those among them
    whose result is an error. `verdict_id` is the id that the verdict will have, `subject` the reference of the person
    it is about. `error` holds the members of a problem document. `trace` is the W3C trace context of the request that
    handed the job in, where that was traced.
    """

    id: str
    workspace: str
    principal: str
    kind: JobKind
    detector: str
    version: str
    state: JobState
    progress: float
    rows: int
    bytes: int
    created_at: _Utc
    verdict_id: str | None = None
    webhook: str | None = None
    error: dict[str, Any] | None = None
    started_at: _Utc | None = None
    finished_at: _Utc | None = None
    deliveries: tuple[Delivery, ...] = ()
    not_judged: int = 0
    subject: str | None = None
    trace: str | None = None


class JobPage(msgspec.Struct, frozen=True):
    """A page of jobs, newest first. `next` continues it, None at the end."""

    jobs: tuple[Job, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class JobLimits:
    """See the settings of the same names.

    `most_bytes` is `job_bytes`, `most_waiting` is `max_waiting_jobs`, `most_waiting_of_a_workspace` is
    `max_waiting_jobs_per_workspace`; 0 sets no limit.
    """

    most_bytes: int
    most_waiting: int
    most_waiting_of_a_workspace: int
    body_seconds: float
    at_a_time: int
    keep_seconds: float
    lease_seconds: float
    record_bytes: int


FOLDERS = "jobs/"
INPUT, RESULT = "input", "result"


def folder_of(job_id: str) -> str:
    """Return the folder of a job's objects."""
    return FOLDERS + job_id


def object_of(job: Job, name: str) -> Address:
    """Return where an object of a job is."""
    return Address(job.workspace, folder_of(job.id), name)
