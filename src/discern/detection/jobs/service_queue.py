"""The durable queue, on DBOS, in the database or beside it.

- A job is a workflow of one step, judging, named by the job's id and how often it was taken before: it is
  queued once however many processes ask for it, and a job that is taken over is a workflow of its own.
- What is written is JSON, not pickle, and says nothing of an input.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from discern.core.errors import MissingExtra

if TYPE_CHECKING:
    from dbos import DBOSConfig

    from discern.detection.jobs.service import Jobs

_QUEUE = "jobs"
_POLL_SECONDS = 0.25
_VERSION = "1"


class DbosQueue:
    """The queue. `database_url` is a PostgreSQL; where it is empty, `file` is an SQLite database."""

    def __init__(self, jobs: Jobs, database_url: str, file: Path) -> None:
        try:
            from dbos import DBOS, SetWorkflowID  # noqa: PLC0415 - an extra, and a second to import
            from dbos._serialization import DBOSPortableJSONSerializer  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "Jobs need DBOS, which is not installed.", mend="Install the extra `server`.", extra="server"
            ) from error
        self._dbos: Any = DBOS
        self._named: Any = SetWorkflowID
        config: DBOSConfig = {
            "name": "discern",
            "application_version": _VERSION,
            # A process never takes up by itself what an earlier one left: the lease says who may.
            "executor_id": secrets.token_hex(8),
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "CRITICAL",
            "sys_db_pool_size": 4,
        }
        if database_url:
            config["system_database_url"] = database_url.replace("postgres://", "postgresql://", 1)
        else:
            config["system_database_engine"] = _engine(file)
        DBOS(config=config)

        @DBOS.step(name="judge")
        def judge(job_id: str) -> None:
            jobs.judge(job_id)

        @DBOS.workflow(name="job")
        def run(job_id: str) -> None:
            judge(job_id)

        self._run = run
        try:
            DBOS.launch()
            self._queue = DBOS.register_queue(
                _QUEUE, worker_concurrency=jobs.at_a_time, polling_interval_sec=_POLL_SECONDS
            )
        except Exception:  # or what is half there would be taken for the queue the next time
            self.close()
            raise

    def put(self, job_id: str, takes: int) -> None:
        """Queue a job that was taken so often; whoever asks for the same is too late."""
        if takes:
            # Of the process that had it before nothing comes any more, and it must not start again with it.
            self._dbos.cancel_workflow(f"{job_id}.{takes - 1}")
        with self._named(f"{job_id}.{takes}"):
            self._queue.enqueue(self._run, job_id)

    def forget(self, job_ids: Sequence[str]) -> None:
        """Delete what is kept of jobs."""
        for job_id in job_ids:
            for workflow in self._dbos.list_workflows(workflow_id_prefix=f"{job_id}.", load_input=False):
                self._dbos.delete_workflow(workflow.workflow_id)

    def close(self) -> None:
        """Take nothing more."""
        self._dbos.destroy(destroy_registry=True, workflow_completion_timeout_sec=1)


def _engine(file: Path) -> Any:  # noqa: ANN401
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
