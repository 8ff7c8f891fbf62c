"""`discern audit` as it is typed: every workspace is verified, and a restore is acknowledged on record."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.commands import Run

pytestmark = pytest.mark.system


def back_up(home: Path, to: Path) -> None:
    with sqlite3.connect(home / "discern.db") as old, sqlite3.connect(to) as copy:
        old.backup(copy)
    old.close()
    copy.close()


def restore(home: Path, backup: Path) -> None:
    for one in home.glob("discern.db*"):
        one.unlink()
    shutil.copy(backup, home / "discern.db")


def edit(home: Path, statement: str) -> None:
    with sqlite3.connect(home / "discern.db") as connection:
        connection.execute(statement)
    connection.close()


def test_every_workspace_is_verified_and_one_is_enough_to_fail(run: Run, home: Path) -> None:
    run("workspace", "create", "acme")
    run("key", "create", "one")
    run("key", "create", "two", "--workspace", "acme")
    well = run("audit", "verify")
    assert well.code == 0
    assert [line.partition(":")[0] for line in well.out.splitlines()] == ["acme", "default"]
    edit(home, "UPDATE audit_entries SET who = 'nobody' WHERE workspace = 'acme' AND number = 2")
    found = run("audit", "verify")
    assert found.code == 1
    assert "acme: Entry 2 was changed: its column `who` says nobody, its body local." in found.out
    assert "default: 1 entries, 2 anchors: it holds." in found.out
    assert run("audit", "verify", "--workspace", "default").code == 0
    assert run("audit", "verify", "--workspace", "nowhere").code == 1


def test_a_restore_is_acknowledged_and_told_for_good(run: Run, home: Path, tmp_path: Path) -> None:
    run("key", "create", "one")
    back_up(home, tmp_path / "backup.db")
    run("key", "create", "two")
    run("key", "create", "three")
    restore(home, tmp_path / "backup.db")
    assert run("audit", "verify").code == 1
    assert run("audit", "resume").code == 2
    done = run("audit", "resume", "--reason", "backup of Tuesday")
    assert done.code == 0, done.err
    assert done.out.startswith("default: Entries 2 to 3 were anchored and lost. Entry 2, ")
    run("key", "create", "four")
    told = run("audit", "verify")
    assert told.code == 0
    assert told.out.startswith("default: acknowledged gap: Entries 2 to 3 were anchored and lost.")
    assert "it holds, but for 1 acknowledged gap." in told.out
    numbers = [json.loads(line)["number"] for line in (home / "audit-anchors.jsonl").read_text().splitlines()]
    assert numbers[:4] == [1, 2, 3, 2]
    (again,) = run("audit", "resume", "--reason", "once more").err.splitlines()
    assert "there is nothing to acknowledge" in again


def test_a_workspace_that_the_backup_does_not_know_is_made_before_its_log_is_continued(
    run: Run, home: Path, tmp_path: Path
) -> None:
    run("key", "create", "one")
    back_up(home, tmp_path / "backup.db")
    run("workspace", "create", "acme")
    run("key", "create", "two", "--workspace", "acme")
    restore(home, tmp_path / "backup.db")
    assert "acme: Entry 2 was anchored and is gone: the log ends with 0." in run("audit", "verify").out
    refused = run("audit", "resume", "--reason", "backup of Tuesday")
    assert refused.code == 1
    assert "acme" in refused.err
    run("workspace", "create", "acme")
    assert run("audit", "resume", "--reason", "backup of Tuesday").code == 0
    assert run("audit", "verify").code == 0


def test_tables_are_whole_where_they_go_through_a_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "a-key-with-a-name-that-is-longer-than-a-terminal-is-wide"
    run("key", "create", name)
    listed = run("key", "list").out.splitlines()
    assert len(listed) == 2
    assert name in listed[1]
    (_, entry) = run("audit", "list").out.splitlines()
    assert "keys.create" in entry
    assert "key:" in entry
