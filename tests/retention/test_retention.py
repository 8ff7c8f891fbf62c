"""What is old is deleted, and nothing else; what was deleted is on record."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from starlette.testclient import TestClient

from discern.access.types import Principal, Session
from discern.app import Services, build_services
from discern.audit.types import Act
from discern.core.clock import utc_now
from discern.core.errors import CallerError, StorageUnavailable
from discern.core.ids import uuid7
from discern.core.months import Month, least_id
from discern.core.verdict import Verdict
from discern.detection.bulk.store import RunStore
from discern.detection.bulk.types import Run
from discern.detection.jobs.types import Job, folder_of
from discern.detection.types import LedgerEntry
from discern.objects.types import Address
from discern.retention.rules import has_expired
from discern.retention.service import Retention
from discern.retention.types import Expired, Keeping, Kind
from discern.settings import load_settings
from discern.store.partitions import MonthlyTable
from tests.detection.test_ledger import verdict
from tests.http.test_streams import Served

pytestmark = pytest.mark.system
NOW = utc_now()


@pytest.fixture
def services(two_workspaces: Services) -> Services:
    return two_workspaces


def aged(days: float, workspace: str = "default") -> Verdict:
    """A verdict that was asked for so many days ago."""
    moment = NOW - timedelta(days=days)
    low = uuid7().int & ((1 << 80) - 1)
    identifier = str(UUID(int=least_id(moment).int | low))
    return msgspec.structs.replace(verdict(workspace), id=identifier, created_at=moment)


def there(services: Services, *verdicts: Verdict) -> list[bool]:
    return [services.verdicts.get(one.workspace, UUID(one.id)) is not None for one in verdicts]


def acts(services: Services, workspace: str = "default") -> list[Act]:
    entries = services.audit_store.page(workspace, 50, None).entries
    return [entry.act for entry in entries if entry.act.act.startswith("retention.")]


def rows(found: list[Expired]) -> dict[tuple[str, Kind], int]:
    return {(one.workspace, one.kind): one.rows for one in found}


def test_without_a_word_nothing_is_deleted(services: Services) -> None:
    old = aged(5000)
    services.verdicts.append([LedgerEntry(old, "key:1")])
    assert services.retention.old() == services.retention.run() == []
    assert there(services, old) == [True]
    assert services.retention.show("default") == Keeping()
    assert acts(services) == []


def test_what_is_older_than_its_workspace_says_is_deleted_and_the_sums_are_on_record(services: Services) -> None:
    old, older, young = [aged(31) for _ in range(450)], aged(500), aged(29)
    theirs = aged(500, "other")
    services.verdicts.append([LedgerEntry(one, "key:1") for one in (*old, older, young, theirs)])
    services.retention.change("default", "verdicts", 30, Principal("key:1", "default", "owner"))
    assert rows(services.retention.old()) == {("default", "verdicts"): 451}
    assert there(services, older, young) == [True, True]
    assert rows(services.retention.run()) == {("default", "verdicts"): 451}
    assert not any(there(services, *old, older))
    assert there(services, young, theirs) == [True, True]
    ran, changed = acts(services)
    assert (ran.act, ran.who, ran.after) == ("retention.run", "local", {"deleted": {"verdicts": 451}})
    assert (changed.who, changed.before, changed.after) == ("key:1", {"verdicts": None}, {"verdicts": 30})
    assert rows(services.retention.run()) == {("default", "verdicts"): 0}
    assert len(acts(services)) == 2
    assert services.audit.verify("default").faults == ()


def test_jobs_with_their_files_sessions_and_runs_get_old_too(services: Services) -> None:
    for kind in ("jobs", "sessions", "runs"):
        services.retention.change("default", kind, 10)
    jobs = {days: _job(services, days) for days in (9, 11)}
    waiting = _job(services, 400, ended=False)
    sessions = {days: _session(services, days) for days in (9, 11)}
    runs = {days: _run(services, days) for days in (9, 11)}
    deleted = rows(services.retention.run())
    assert deleted == {("default", kind): 1 for kind in ("jobs", "sessions", "runs")}
    assert [services.job_store.get("default", UUID(jobs[days])) is None for days in (9, 11)] == [False, True]
    kept = [services.objects.names("default", folder_of(jobs[days])) for days in (9, 11)]
    assert kept == [["result.parquet"], []]
    assert services.job_store.get("default", UUID(waiting)) is not None
    with services.database.read() as connection:
        from discern.access.store_users import sessions as table

        assert {row.id for row in connection.execute(table.select())} == {sessions[9]}
    store = RunStore(services.database)
    assert [store.get("default", runs[days]) is None for days in (9, 11)] == [False, True]
    assert acts(services)[0].after == {"deleted": {"jobs": 1, "sessions": 1, "runs": 1}}


def _job(services: Services, days: float, *, ended: bool = True) -> str:
    moment = NOW - timedelta(days=days)
    job = Job(str(uuid7()), "default", "key:1", "file", "toy", "1", "waiting", 0.0, 0, 1, moment)
    services.job_store.add(job)
    if ended:
        services.job_store.finish(UUID(job.id), "done", moment)
    services.objects.put(Address("default", folder_of(job.id), "result.parquet"), b"rows")
    return job.id


def _session(services: Services, days: float) -> UUID:
    moment = NOW - timedelta(days=days)
    user = services.users.create("default", f"ann.{days}", "several words of ann", role="reviewer")
    session = Session(uuid7(), "default", user.id, "local", "", moment, moment)
    with services.database.write() as connection:
        from discern.access.store_users import sessions as table

        secret = uuid7().bytes * 2
        connection.execute(table.insert().values(msgspec.structs.asdict(session) | {"secret_sha256": secret}))
    return session.id


def _run(services: Services, days: float) -> UUID:
    moment, run_id = NOW - timedelta(days=days), uuid7()
    run = Run(str(run_id), "default", "local", "toy", "1", "00", "in.csv", "out.parquet", moment, finished_at=moment)
    store = RunStore(services.database)
    store.begin(run)
    store.finish(run)
    return run_id


def test_a_job_whose_verdict_was_deleted_says_so(services: Services) -> None:
    from discern.app_http import create_app

    old = aged(31)
    services.verdicts.append([LedgerEntry(old, "key:1")])
    job = Job(str(uuid7()), "default", "key:1", "input", "toy", "1", "waiting", 0.0, 0, 1, NOW, old.id)
    services.job_store.add(job)
    services.job_store.finish(UUID(job.id), "done", NOW)
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
    assert client.get(f"/v1/jobs/{job.id}/result").json()["id"] == old.id
    services.retention.change("default", "verdicts", 30)
    services.retention.run()
    gone = client.get(f"/v1/jobs/{job.id}/result")
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_verdict")
    assert client.get(f"/v1/jobs/{job.id}").json()["state"] == "done"


def test_a_month_that_everybody_lets_go_is_dropped_and_one_that_somebody_keeps_is_not(
    home: Path, postgresql_url: str
) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_DATABASE_URL": postgresql_url}))
    services.open()
    services.workspaces.create("other")
    from tests.store.test_partitions import past_months

    months = past_months(services.database, 5)  # type: ignore[arg-type]
    table = MonthlyTable(services.database, "verdicts")
    starts = [(NOW - month.start).days - 1 for month in months]
    ours, theirs = [aged(days) for days in starts], [aged(days, "other") for days in starts[:3]]
    services.verdicts.append([LedgerEntry(one, "key:1") for one in (*ours, *theirs)])
    services.retention.change("default", "verdicts", 1)
    # The other workspace keeps everything, so nothing of it goes, nor any month that it has verdicts in.
    assert rows(services.retention.run()) == {("default", "verdicts"): 5}
    assert table.months()[0] == months[0]
    assert all(there(services, *theirs))
    services.retention.change("other", "verdicts", starts[1] - 1)
    services.verdicts.append([LedgerEntry(one, "key:1") for one in ours])
    assert rows(services.retention.run()) == {("default", "verdicts"): 5, ("other", "verdicts"): 2}
    assert months[0] not in table.months()
    assert there(services, *theirs) == [False, False, True]
    assert acts(services, "other")[0].after == {"deleted": {"verdicts": 2}}
    assert Month.of(NOW) in table.months()
    services.close()


def test_one_process_at_a_time_and_once_a_day(services: Services) -> None:
    moment = [NOW]
    made = [build_services(services.settings) for _ in range(2)]
    for one in made:
        one.open()
    first, second = (one.retention for one in made)
    for retention in (first, second):
        retention._clock = lambda: moment[0]
    old = aged(31)
    services.verdicts.append([LedgerEntry(old, "key:1")])
    first.change("default", "verdicts", 30)
    assert first._store.take_turn(NOW, NOW + timedelta(hours=1), only_if_due=True)
    second.tend()
    assert there(services, old) == [True]
    with pytest.raises(CallerError, match="Another process"):
        second.run()
    # The first has died; its turn runs out.
    moment[0] = NOW + timedelta(hours=1, seconds=1)
    second.tend()
    assert there(services, old) == [False]
    again = aged(31)
    services.verdicts.append([LedgerEntry(again, "key:1")])
    first.tend()
    assert there(services, again) == [True]
    moment[0] += timedelta(days=1)
    first.tend()
    assert there(services, again) == [False]
    assert [act.who for act in acts(services) if act.act == "retention.run"] == ["retention", "retention"]
    for one in made:
        one.close()


def test_a_server_deletes_what_is_old_by_itself(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    old, young = aged(31), aged(1)
    services.verdicts.append([LedgerEntry(old, "key:1"), LedgerEntry(young, "key:1")])
    services.retention.change("default", "verdicts", 30)
    with Served(home):
        for _ in range(600):
            if there(services, old) == [False]:
                break
            time.sleep(0.05)
        assert there(services, old, young) == [False, True]
    assert acts(services)[0].who == "retention"
    services.close()


def test_processes_that_begin_together_have_one_turn_between_them(services: Services) -> None:
    store = services.retention._store
    taken: list[bool] = []

    def take() -> None:
        taken.append(store.take_turn(NOW, NOW + timedelta(hours=1), only_if_due=True))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 5 + [True]


def test_what_was_deleted_before_a_death_is_told_by_the_next_run(services: Services) -> None:
    services.verdicts.append([LedgerEntry(aged(31), "key:1") for _ in range(450)])
    services.retention.change("default", "verdicts", 30)
    expiring = services.retention._kinds["verdicts"]

    class Dying:
        def count(self, workspace: str, before: datetime) -> int:
            return expiring.count(workspace, before)

        def delete(self, *given: object) -> list[UUID]:
            found = list(expiring.delete(*given))  # type: ignore[arg-type]
            services.retention._store.tell = died  # type: ignore[method-assign, assignment]
            raise StorageUnavailable("gone") if found else AssertionError

    def died(*_: object) -> None:
        raise StorageUnavailable("gone")

    retention = Retention(services.retention._store, {"verdicts": Dying()}, services.retention._ledger)
    with pytest.raises(StorageUnavailable):
        retention.run()
    del services.retention._store.tell
    services.retention._store.end_turn(None)
    assert rows(services.retention.run()) == {("default", "verdicts"): 250}
    assert acts(services)[0].after == {"deleted": {"verdicts": 450}}


def test_a_run_that_is_told_to_stop_leaves_off_and_goes_on_at_the_next_start(services: Services) -> None:
    services.verdicts.append([LedgerEntry(aged(31), "key:1") for _ in range(10)])
    services.retention.change("default", "verdicts", 30)
    services.retention.stop()
    services.retention.tend()
    assert rows(services.retention.old()) == {("default", "verdicts"): 10}
    again = build_services(services.settings)
    again.open()
    again.retention.tend()
    assert rows(again.retention.old()) == {("default", "verdicts"): 0}
    again.close()


def test_writers_lose_nothing_while_old_verdicts_are_deleted(services: Services) -> None:
    services.verdicts.append([LedgerEntry(aged(31), "key:1") for _ in range(1500)])
    services.retention.change("default", "verdicts", 30)
    deleting = threading.Thread(target=services.retention.run)
    deleting.start()
    written: list[Verdict] = []
    while deleting.is_alive():
        one = verdict()
        services.verdicts.append([LedgerEntry(one, "key:1")])
        written.append(one)
    deleting.join()
    assert all(there(services, *written))
    assert rows(services.retention.old()) == {("default", "verdicts"): 0}


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_days_that_make_no_sense_are_refused(services: Services, days: int) -> None:
    with pytest.raises(CallerError, match=f"{days} days"):
        services.retention.change("default", "verdicts", days)
    assert services.retention.show("default") == Keeping()


def test_owners_read_and_change_what_their_own_workspace_keeps(services: Services) -> None:
    from discern.app_http import create_app

    client = TestClient(create_app(services), raise_server_exceptions=False)

    def headers(workspace: str, role: str) -> dict[str, str]:
        key = services.keys.issue(workspace, role, role=role)  # type: ignore[arg-type]
        return {"Authorization": f"Bearer {key.secret}"}

    owner = headers("default", "owner")
    forever = {"verdicts": None, "jobs": None, "sessions": None, "runs": None, "labels": None}
    assert client.get("/v1/retention", headers=owner).json() == forever
    changed = client.patch("/v1/retention", json={"kind": "verdicts", "days": 90}, headers=owner)
    assert changed.json() == forever | {"verdicts": 90}
    assert client.get("/v1/retention", headers=headers("default", "auditor")).json() == changed.json()
    assert client.get("/v1/retention", headers=headers("other", "owner")).json() == forever
    back = client.patch("/v1/retention", json={"kind": "verdicts", "days": None}, headers=owner)
    assert back.json() == forever
    wrongs: tuple[object, ...] = (
        {"kind": "audit", "days": 1},
        {"kind": "jobs"},
        {"kind": "jobs", "days": 0},
        {"days": 1},
        [],
    )
    for wrong in wrongs:
        answer = client.patch("/v1/retention", json=wrong, headers=owner)
        assert answer.status_code == 400, answer.text
    assert (
        client.patch(
            "/v1/retention", json={"kind": "jobs", "days": 1}, headers=headers("default", "operator")
        ).status_code
        == 403
    )
    one = services.keys.issue("default", "one", role="owner", detectors=("toy-image",))
    narrow = {"Authorization": f"Bearer {one.secret}"}
    refused = client.patch("/v1/retention", json={"kind": "verdicts", "days": 1}, headers=narrow)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert client.get("/v1/retention", headers=owner).json() == forever


def test_a_month_is_old_when_everybody_in_it_says_so() -> None:
    month, after = Month(2026, 3), datetime(2026, 4, 1, tzinfo=UTC)
    before = after - timedelta(seconds=1)
    assert has_expired(month, {"a", "b"}, {"a": after, "b": after})
    assert has_expired(month, {"a"}, {"a": after, "b": before})
    assert has_expired(month, set(), {"a": after})
    assert not has_expired(month, {"a", "b"}, {"a": after, "b": before})
    assert not has_expired(month, {"a", "b"}, {"a": after})
    assert not has_expired(month, set(), {})
    assert not has_expired(month, set(), {"a": before})
