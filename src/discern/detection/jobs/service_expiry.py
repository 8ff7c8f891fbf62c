"""Jobs that get old, with the files of their results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from discern.detection.jobs.service import Jobs
from discern.store.old_rows import Also, OldRows


class ExpiringJobs:
    """The jobs of workspaces that have ended, and of which nobody is to be told any more."""

    def __init__(self, jobs: Jobs, rows: OldRows) -> None:
        self._jobs = jobs
        self._rows = rows

    def count(self, workspace: str, before: datetime) -> int:
        """Return how many jobs of a workspace ended before a time."""
        return self._rows.count(workspace, before)

    def delete(self, workspace: str, before: datetime, most: int, also: Also) -> Sequence[UUID]:
        """Delete some of them, `also` in the same transaction, and then their files; return their ids."""
        gone = self._rows.delete(workspace, before, most, also)
        self._jobs.clean_up([(workspace, str(job_id)) for job_id in gone])
        return gone
