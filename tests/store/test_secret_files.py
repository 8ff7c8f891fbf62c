from __future__ import annotations

import threading
from pathlib import Path

import pytest

from discern.core.errors import StorageUnavailable
from discern.store.secret_files import SecretFile


def test_all_who_need_it_at_once_get_the_same_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "x.secret"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(SecretFile("", path).get())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found)), len(found[0])) == (20, 1, 43)
    assert path.stat().st_mode & 0o077 == 0
    assert [one.name for one in path.parent.iterdir()] == ["x.secret"]


def test_what_is_given_wins_and_makes_no_file(tmp_path: Path) -> None:
    assert SecretFile("several words of mine", tmp_path / "x").get() == "several words of mine"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_was_emptied_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(StorageUnavailable, match="is empty"):
        SecretFile("", tmp_path / "x").get()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(StorageUnavailable, match="keys"):
        SecretFile("", tmp_path / "keys" / "x").get()
