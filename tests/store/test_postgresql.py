"""The same promises on a real PostgreSQL as on SQLite, and those that only it gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from discern.app import Services, build_services
from discern.core.errors import InvalidSettings, StorageUnavailable
from discern.detection.store import VerdictStore
from discern.detection.types import LedgerEntry, VerdictQuery
from discern.settings import load_settings
from discern.store.database import Durability
from discern.store.migrations import LATEST_REVISION
from discern.store.postgresql import PostgresqlDatabase
from tests.access.test_federation import (  # noqa: F401 - run here on PostgreSQL
    test_failures_are_counted_until_they_are_forgotten,
    test_what_is_used_up_is_used_up_once_by_many_at_the_same_time,
)
from tests.detection.test_committing import (  # noqa: F401 - run here on PostgreSQL
    test_a_ledger_that_does_not_answer_answers_nobody,
    test_many_groups_over_time_are_all_there,
    test_one_caller_s_fault_is_not_the_other_s_answer,
)
from tests.detection.test_ledger import (  # noqa: F401 - run here on PostgreSQL
    test_a_verdict_of_another_workspace_is_not_there,
    test_an_unknown_id_is_not_there,
    test_every_filter_gives_what_a_look_at_everything_would,
    test_filters_narrow_the_page,
    test_pages_give_every_verdict_once_newest_first_while_new_ones_arrive,
    test_what_is_written_is_read_back_equal_to_the_last_bit,
    verdict,
)
from tests.ports import free_port
from tests.store.test_database import (  # noqa: F401 - run here on PostgreSQL
    opened_together,
    test_a_transaction_that_raises_leaves_nothing,
    test_every_table_carries_its_workspace,
    test_opening_makes_the_schema_that_the_code_speaks_of,
)

pytestmark = pytest.mark.system


@pytest.fixture
def database(postgresql_url: str) -> Iterator[PostgresqlDatabase]:
    database = PostgresqlDatabase(postgresql_url, connections=4)
    database.open()
    yield database
    database.close()


@pytest.fixture
def services(home: Path, postgresql_url: str) -> Iterator[Services]:
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_DATABASE_URL": postgresql_url}))
    services.open()
    yield services
    services.close()


def test_keys_are_made_checked_and_revoked(services: Services) -> None:
    issued = services.keys.issue("default", "one", role="owner")
    assert services.keys.authenticate(issued.secret).id == f"key:{issued.key.id}"
    services.keys.revoke("default", issued.key.id)
    assert services.keys.list("default")[0].revoked_at is not None


def test_the_audit_log_has_no_gap_and_shows_an_edit(services: Services) -> None:
    def make() -> None:
        for _ in range(10):
            services.keys.issue("default", "many")

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = services.audit.verify("default")
    assert (seen.entries, seen.faults) == (40, ())
    with services.database.write() as connection:
        changed = "convert_to(replace(convert_from(body, 'UTF8'), 'many', 'more'), 'UTF8')"
        connection.execute(text(f"UPDATE audit_entries SET body = {changed} WHERE number = 7"))
    assert [fault.number for fault in services.audit.verify("default").faults] == [7]


def test_processes_that_start_together_upgrade_one_after_the_other(postgresql_url: str) -> None:
    assert opened_together(lambda: PostgresqlDatabase(postgresql_url, connections=2)) == []
    database = PostgresqlDatabase(postgresql_url, connections=2)
    database.open()
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(LATEST_REVISION,)]
        assert connection.execute(text("SELECT count(*) FROM workspaces")).scalar() == 1
    database.close()


def test_a_schema_of_a_later_version_is_refused_and_left_alone(
    database: PostgresqlDatabase, postgresql_url: str
) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageUnavailable, match="schema 9999; this Discern knows schemas up to"):
        PostgresqlDatabase(postgresql_url, connections=2).open()


@pytest.mark.parametrize(("durability", "setting"), [("normal", "off"), ("full", "on")])
def test_durability_says_whether_a_commit_waits_for_the_disk(
    postgresql_url: str, durability: Durability, setting: str
) -> None:
    database = PostgresqlDatabase(postgresql_url, connections=2, durability=durability)
    database.open()
    with database.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == setting
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "1min"
    database.close()


def test_pages_are_read_off_an_index(services: Services) -> None:
    from discern.detection.store import stretch_statement

    services.verdicts.append([LedgerEntry(verdict(), "key:1") for _ in range(3000)])
    query = stretch_statement(VerdictQuery("default"), "toy", "flag").limit(5)
    with services.database.write() as connection:
        connection.execute(text("ANALYZE verdicts"))
        plan = connection.execute(text(f"EXPLAIN {query.compile(connection, compile_kwargs={'literal_binds': True})}"))
        steps = " ".join(str(row[0]) for row in plan)
    assert "Index" in steps
    assert "Sort" not in steps


def test_a_server_that_went_away_is_said_and_found_again(postgresql_url: str) -> None:
    database = PostgresqlDatabase(postgresql_url, connections=2)
    database.open()
    store = VerdictStore(database)
    written = verdict()
    store.append([LedgerEntry(written, "key:1")])
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    with database.write() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    # Connections that are gone are noticed before they are used.
    assert store.get("default", UUID(written.id)) == written
    database.close()
    gone = PostgresqlDatabase("postgresql://somebody:hidden-word@127.0.0.1:1/nothing", connections=2)
    with pytest.raises(StorageUnavailable, match=r"nothing on 127\.0\.0\.1 did not answer") as error:
        gone.open()
    assert "hidden-word" not in f"{error.value} {error.value.mend} {gone.name}"


@pytest.mark.parametrize("url", ["mysql://host/database", "not a url", "sqlite:///file"])
def test_another_kind_of_database_is_refused(home: Path, url: str) -> None:
    with pytest.raises(InvalidSettings, match="database_url") as refusal:
        build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_DATABASE_URL": url}))
    assert "postgresql://" in str(refusal.value.mend)


def test_a_password_stays_out_of_what_settings_show(home: Path) -> None:
    url = "postgresql://somebody:hidden-word@localhost/database"
    assert "hidden-word" not in repr(load_settings({"DISCERN_HOME": str(home), "DISCERN_DATABASE_URL": url}))


def test_two_processes_answer_and_what_they_answered_survives_the_death_of_one(home: Path, postgresql_url: str) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_DATABASE_URL": postgresql_url}))
    services.open()
    secret = services.keys.issue("default", "test", role="owner").secret
    port = free_port()
    environment = {
        "DISCERN_HOME": str(home),
        "DISCERN_PORT": str(port),
        "DISCERN_DATABASE_URL": postgresql_url,
        "DISCERN_LOG_LEVEL": "error",
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-m", "discern.cli.main", "up", "--workers", "2"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    answered: list[str] = []
    try:
        _wait_until_ready(port)
        address = f"http://127.0.0.1:{port}/v1/detectors/toy-record/verdicts"
        headers = {"Authorization": f"Bearer {secret}"}

        def ask(start: int) -> None:
            with httpx2.Client(headers=headers) as client:
                for number in range(start, start + 150):
                    try:
                        answer = client.post(address, json={"a": number / 10, "b": 0, "c": 0})
                    except httpx2.HTTPError:
                        continue
                    if answer.status_code == 200:
                        answered.append(answer.json()["id"])

        threads = [threading.Thread(target=ask, args=[start * 10]) for start in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        worker = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(worker.stdout.split()[0]), signal.SIGKILL)
        for thread in threads:
            thread.join()
    finally:
        process.terminate()
        assert process.wait(40) == 0
    assert len(answered) > 100
    assert all(services.verdicts.get("default", UUID(verdict_id)) is not None for verdict_id in answered)
    services.close()


def _wait_until_ready(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError
