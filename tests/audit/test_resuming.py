"""A log that a restore has cut off is continued with a word on record; a cut that nobody acknowledges still shows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from discern.access.store import WorkspaceStore
from discern.access.types import Workspace
from discern.audit.service import AuditTrail
from discern.audit.service_anchors import FileAnchors, HttpAnchors, read_anchors
from discern.audit.store import AuditStore
from discern.audit.types import Act, Anchor
from discern.core.clock import utc_now
from discern.core.errors import CallerError, OperatorError
from discern.store.sqlite import SqliteDatabase

REASON = "the disk was lost, backup of Tuesday"


class House:
    """A log whose backup has six entries, anchored at the fifth; later come four, anchored at the eighth and tenth."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "discern.db"
        self.backup = folder / "backup.db"
        self.place = FileAnchors(folder / "anchors.jsonl")
        self.anchors = folder / "anchors.jsonl"
        self.open()
        self.write(5)
        self.write(1, anchor=False)
        self.database.close()
        self.copy(self.path, self.backup)
        self.open()
        self.write(2)
        self.write(2)

    def open(self) -> None:
        self.database = SqliteDatabase(self.path)
        self.database.open()
        self.trail = AuditTrail(AuditStore(self.database), self.place, 0)

    def write(self, count: int, *, anchor: bool = True, what: str = "key:x") -> None:
        for _ in range(count):
            self.trail.record(Act("default", "key:1", "keys.create", what))
        if anchor:
            self.trail.anchor(now=True)

    def restore(self) -> None:
        self.database.close()
        self.copy(self.backup, self.path)
        self.open()

    @staticmethod
    def copy(source: Path, target: Path) -> None:
        for one in target.parent.glob(f"{target.name}*"):
            one.unlink()
        with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
            old.backup(new)
        old.close()
        new.close()

    def found(self) -> list[str]:
        return [fault.what for fault in self.trail.verify("default").faults]

    def gaps(self) -> list[str]:
        return [gap.what for gap in self.trail.verify("default").gaps]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.database.close()


def test_a_restored_log_is_continued_and_the_gap_is_told_for_good(house: House) -> None:
    before = house.anchors.read_bytes()
    house.restore()
    assert house.found() == [
        "Entry 8 was anchored and is gone: the log ends with 6.",
        "Entry 10 was anchored and is gone: the log ends with 6.",
    ]
    house.trail.resume("default", "local", REASON)
    house.write(6)
    assert house.found() == []
    (gap,) = house.gaps()
    assert gap.startswith("Entries 7 to 10 were anchored and lost. Entry 7, ")
    assert f"continues the log from entry 6 (the last before it that an anchor fits is 5): {REASON}" in gap
    assert house.anchors.read_bytes().startswith(before)  # what was anchored before stays
    told = json.loads(house.anchors.read_bytes()[len(before) :].splitlines()[0])
    assert told["number"] == 7
    assert told["continues"] | {"digest": ""} == {
        "continued_from": 6,
        "digest": "",
        "lost_to": 10,
        "who": "local",
        "reason": REASON,
    }
    assert told["continues"]["digest"] == AuditStore(house.database).digest("default", 6)


def test_a_server_that_wrote_before_somebody_resumed_does_not_stand_in_the_way(house: House) -> None:
    house.restore()
    house.write(3)
    assert house.found() == [
        "Entry 8 is not the one that was anchored.",
        "Entry 10 was anchored and is gone: the log ends with 9.",
    ]
    house.trail.resume("default", "local", REASON)
    assert house.found() == []
    assert "continues the log from entry 7" in house.gaps()[0]


def test_a_cut_after_the_continuation_still_shows(house: House) -> None:
    house.restore()
    house.trail.resume("default", "local", REASON)
    house.write(2)
    digest = AuditStore(house.database).digest("default", 8)
    with sqlite3.connect(house.path) as connection:
        connection.execute("DELETE FROM audit_entries WHERE number > 8")
        connection.execute("UPDATE audit_heads SET number = 8, digest = ?", (digest,))
    assert house.found() == ["Entry 9 was anchored and is gone: the log ends with 8."]


def test_what_a_continuation_does_not_name_is_not_forgiven(house: House) -> None:
    house.restore()
    house.trail.resume("default", "local", REASON)
    house.place.put(Anchor("default", 9, "f" * 64, utc_now()))
    assert house.found() == ["Entry 9 was anchored and is gone: the log ends with 7."]


def test_a_continuation_that_is_written_anew_is_not_the_one_that_was_anchored(house: House) -> None:
    house.restore()
    house.trail.resume("default", "local", REASON)
    house.restore()
    with pytest.raises(CallerError, match="A reason"):
        house.trail.resume("default", "local", "  ")
    assert "Entry 7 was anchored and is gone: the log ends with 6." in house.found()
    house.trail.resume("default", "local", "once more")
    assert house.found() == []
    (gap,) = house.gaps()
    assert "Entries 7 to 10 were anchored and lost." in gap


def test_restores_one_after_the_other_leave_a_gap_each(house: House) -> None:
    house.restore()
    house.trail.resume("default", "local", "the first")
    house.database.close()
    house.copy(house.path, house.backup)
    house.open()
    house.write(2)
    house.restore()
    assert house.found() == ["Entry 9 was anchored and is gone: the log ends with 7."]
    house.trail.resume("default", "local", "the second")
    assert house.found() == []
    first, second = house.gaps()
    assert first.endswith("the first")
    assert second.startswith("Entries 8 to 9 were")


def test_nothing_is_continued_where_nothing_is_lost(house: House) -> None:
    with pytest.raises(CallerError, match="Nothing that was anchored is lost"):
        house.trail.resume("default", "local", REASON)
    assert len(house.trail.verify("default").gaps) == 0


def test_an_edited_log_is_not_continued(house: House) -> None:
    house.restore()
    with sqlite3.connect(house.path) as connection:
        connection.execute("UPDATE audit_entries SET who = 'key:2' WHERE number = 3")
    with pytest.raises(CallerError, match="a restore does not explain it: Entry 3 was changed"):
        house.trail.resume("default", "local", REASON)


def test_a_continuation_that_was_never_anchored_does_not_hold(house: House) -> None:
    known = read_anchors(house.anchors)
    house.restore()
    house.trail.resume("default", "local", REASON)
    found = [fault.what for fault in house.trail.verify("default", known).faults]
    assert found == ["Entry 7 continues the log, and no anchor holds it or one after it."]


def test_anchors_that_cannot_be_read_back_are_given_in_a_file(house: House) -> None:
    known = read_anchors(house.anchors)
    house.restore()
    sent: list[bytes] = []

    def post(_url: str, body: bytes, _headers: object) -> int:
        sent.append(body)
        return 200

    trail = AuditTrail(AuditStore(house.database), HttpAnchors("https://anchors.example", post), 0)
    with pytest.raises(OperatorError, match="--anchors FILE"):
        trail.resume("default", "local", REASON)
    trail.resume("default", "local", REASON, known)
    assert json.loads(sent[0])["continues"]["lost_to"] == 10
    assert len(trail.verify("default").gaps) == 1  # without anchors too


def test_a_continuation_that_cannot_be_anchored_is_anchored_later(house: House) -> None:
    known = read_anchors(house.anchors)
    house.restore()
    statuses, sent = [503, 200], []

    def post(_url: str, body: bytes, _headers: object) -> int:
        sent.append(json.loads(body))
        return statuses.pop(0)

    trail = AuditTrail(AuditStore(house.database), HttpAnchors("https://anchors.example", post), 0)
    with pytest.raises(OperatorError, match="answered with 503"):
        trail.resume("default", "local", REASON, known)
    trail.close()
    assert [one["number"] for one in sent] == [7, 7]
    known.append(Anchor("default", 7, sent[1]["digest"], utc_now()))
    assert trail.verify("default", known).faults == ()


def test_every_workspace_is_named_one_that_is_gone_too(house: House) -> None:
    WorkspaceStore(house.database, house.trail).add(
        Workspace("acme", utc_now()), Act("acme", "local", "workspaces.create", "workspace:acme")
    )
    house.trail.anchor(now=True)
    assert house.trail.workspaces() == ["acme", "default"]
    house.restore()
    assert house.trail.workspaces() == ["acme", "default"]
    (fault,) = house.trail.verify("acme").faults
    assert fault.what == "Entry 1 was anchored and is gone: the log ends with 0."
