"""The audit log shows an edit, a deletion, a reordering and a cut tail; what cannot be put on it is not done."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from discern.access.service import Keys
from discern.access.store import KeyStore, WorkspaceStore
from discern.access.types import Workspace
from discern.audit.service import AuditTrail
from discern.audit.service_anchors import FileAnchors, HttpAnchors
from discern.audit.store import AuditStore
from discern.audit.types import Act, Anchor, Verification
from discern.core.clock import utc_now
from discern.core.errors import OperatorError, StorageUnavailable
from discern.core.origin import Origin, set_origin
from discern.store.sqlite import SqliteDatabase


def summary(seen: Verification) -> tuple[int, int, int | None]:
    return seen.entries, len(seen.faults), seen.anchors


class Log:
    """A log of five acts, anchored after the third."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "discern.db"
        self.database = SqliteDatabase(self.path)
        self.database.open()
        self.store = AuditStore(self.database)
        self.anchors = FileAnchors(folder / "anchors.jsonl")
        self.trail = AuditTrail(self.store, self.anchors, 0)
        for number in range(1, 6):
            self.trail.record(Act("default", f"key:{number}", "keys.create", "key:x", after={"name": f"n{number}"}))
            if number == 3:
                self.trail.anchor()

    def change(self, *statements: str) -> list[str]:
        """Do something to the database behind its back; return what is found."""
        with sqlite3.connect(self.path) as connection:
            for statement in statements:
                connection.execute(statement)
        return [fault.what for fault in self.trail.verify("default").faults]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.database.close()


def test_a_log_that_nobody_touched_holds(log: Log) -> None:
    assert summary(log.trail.verify("default")) == (5, 0, 1)
    assert summary(log.trail.verify("nobody")) == (0, 0, 0)


def test_an_edit_shows(log: Log) -> None:
    assert log.change("UPDATE audit_entries SET body = replace(body, 'n2', 'nX') WHERE number = 2") == [
        "Entry 2 was changed: its digest does not fit it."
    ]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("who", "key:9", "key:9, its body key:2"),
        ("act", "keys.revoke", "keys.revoke, its body keys.create"),
        ("outcome", "denied", "denied, its body done"),
        ("at", "2020-01-01 00:00:00.000000", "2020-01-01 00:00:00+00:00, its body "),
        ("at", "yesterday", "yesterday, its body "),
    ],
)
def test_an_edit_of_a_column_beside_the_body_shows(log: Log, column: str, value: str, said: str) -> None:
    (found,) = log.change(f"UPDATE audit_entries SET {column} = '{value}' WHERE number = 2")
    assert found.startswith(f"Entry 2 was changed: its column `{column}` says {said}")


def test_an_entry_that_was_moved_to_another_workspace_shows_in_both(log: Log) -> None:
    WorkspaceStore(log.database).add(Workspace("acme", utc_now()), Act("acme", "local", "workspaces.create", "x"))
    found = log.change("UPDATE audit_entries SET workspace = 'acme' WHERE number = 5")
    assert found == ["The log ends with entry 4, its head says 5."]
    faults = [fault.what for fault in log.trail.verify("acme").faults]
    assert "Entry 5 was changed: its column `workspace` says acme, its body default." in faults


@pytest.mark.parametrize("body", ["'{}'", "'nothing'", "x'ff'", "body || ' '"])
def test_a_body_that_is_no_entry_shows_and_stops_nothing(log: Log, body: str) -> None:
    found = log.change(f"UPDATE audit_entries SET body = {body} WHERE number = 2")
    assert found[0] == "Entry 2 was changed: its body is none that Discern writes."


def test_a_deletion_shows(log: Log) -> None:
    found = log.change("DELETE FROM audit_entries WHERE number IN (2, 3)")
    assert found == ["Entry 2 to 3 is gone."]


def test_an_entry_before_the_first_shows(log: Log) -> None:
    columns = "workspace, number, at, who, act, outcome, body"
    forged = f"INSERT INTO audit_entries ({columns}) SELECT {columns.replace('number', '0')} FROM audit_entries LIMIT 1"
    found = log.change(forged)
    assert found[:2] == [
        "Entry 1 was changed: its column `number` says 0, its body 1.",
        "Entry 1 stands where 2 should: the order was changed.",
    ]


def test_a_reordering_shows(log: Log) -> None:
    found = log.change(
        "UPDATE audit_entries SET number = 99 WHERE number = 4",
        "UPDATE audit_entries SET number = 4 WHERE number = 5",
        "UPDATE audit_entries SET number = 5 WHERE number = 99",
    )
    assert found[0] == "Entry 4 is gone."
    assert len(found) >= 2


def test_a_tail_that_was_cut_off_shows_though_the_head_was_mended(log: Log) -> None:
    digest = next(entry.digest for entry in log.store.all("default") if entry.number == 2)
    found = log.change(
        "DELETE FROM audit_entries WHERE number > 2",
        f"UPDATE audit_heads SET number = 2, digest = '{digest}'",
    )
    assert found == ["Entry 3 was anchored and is gone: the log ends with 2."]
    assert [fault.number for fault in log.trail.verify("default", []).faults] == []  # without anchors nobody can tell


def test_a_history_that_was_written_anew_is_not_the_one_that_was_anchored(log: Log, tmp_path: Path) -> None:
    with sqlite3.connect(log.path) as connection:
        connection.execute("DELETE FROM audit_entries")
        connection.execute("DELETE FROM audit_heads")
    for number in range(1, 6):
        log.trail.record(Act("default", "key:honest", "keys.create", f"key:{number}"))
    assert [fault.what for fault in log.trail.verify("default").faults] == ["Entry 3 is not the one that was anchored."]


def test_an_act_that_cannot_be_put_on_record_is_not_done(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "discern.db")
    database.open()
    keys = Keys(KeyStore(database, AuditTrail(AuditStore(database), FileAnchors(tmp_path / "a"), 0)))
    key = keys.issue("default", "one").key
    with sqlite3.connect(tmp_path / "discern.db") as connection:
        connection.execute("ALTER TABLE audit_entries RENAME TO gone")
    attempts: list[Callable[[], object]] = [
        lambda: keys.issue("default", "two"),
        lambda: keys.revoke("default", key.id),
    ]
    for attempt in attempts:
        with pytest.raises(StorageUnavailable):
            attempt()
    assert [one.revoked_at for one in keys.list("default")] == [None]
    database.close()


def test_writers_at_the_same_time_leave_no_gap(log: Log) -> None:
    def write() -> None:
        for _ in range(20):
            log.trail.record(Act("default", "key:t", "keys.create", "key:x"))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert summary(log.trail.verify("default"))[:2] == (125, 0)


def test_an_entry_says_where_it_came_from(log: Log) -> None:
    def ask() -> None:
        set_origin(Origin("10.1.2.3", "r1"))
        log.trail.record(Act("default", "key:t", "keys.create", "key:x"))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    newest, before = log.store.page("default", 2, None).entries
    assert (newest.address, newest.request_id) == ("10.1.2.3", "r1")
    assert before.address == "local"


def test_anchors_go_where_they_are_to_and_are_tried_again(log: Log) -> None:
    sent: list[bytes] = []
    statuses = [503, 200]

    def post(_url: str, body: bytes, _headers: object) -> int:
        sent.append(body)
        return statuses.pop(0)

    trail = AuditTrail(log.store, HttpAnchors("https://anchors.example", post), 0)
    trail.anchor()
    trail.anchor()
    trail.anchor()
    assert [json.loads(body)["number"] for body in sent] == [5, 5]  # what is anchored is not sent again
    assert trail.verify("default").anchors is None
    known = list(log.anchors.all())
    assert summary(trail.verify("default", known)) == (5, 0, 1)


def test_a_process_anchors_what_it_has_written_when_it_ends(log: Log) -> None:
    reader = AuditTrail(log.store, log.anchors, 3600)
    reader.close()
    assert len(list(log.anchors.all())) == 1  # it wrote nothing
    log.trail.close()
    assert [anchor.number for anchor in log.anchors.all()] == [3, 5]


def test_a_file_of_anchors_that_is_no_such_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "anchors").write_text("{}\n")
    with pytest.raises(OperatorError, match="line 1"):
        FileAnchors(tmp_path / "anchors").all()
    with pytest.raises(OperatorError, match="cannot be written"):
        FileAnchors(tmp_path).put(Anchor("default", 1, "0", utc_now()))
