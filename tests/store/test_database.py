from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from discern.core.errors import StorageUnavailable
from discern.store.database import Database, Durability
from discern.store.metadata import metadata
from discern.store.migrations import LATEST_REVISION
from discern.store.sqlite import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = SqliteDatabase(tmp_path / "discern.db")
    database.open()
    yield database
    database.close()


def test_opening_makes_the_schema_that_the_code_speaks_of(database: Database) -> None:
    import discern.access.store
    import discern.detection.store  # noqa: F401 - both add their tables to the metadata

    with database.read() as connection:
        inspector = inspect(connection)
        for table in metadata.sorted_tables:
            columns = {column["name"]: column for column in inspector.get_columns(table.name)}
            assert set(columns) == {column.name for column in table.columns}
            assert {name: bool(column["nullable"]) for name, column in columns.items()} == {
                column.name: bool(column.nullable) for column in table.columns
            }
            indexes = {index["name"] for index in inspector.get_indexes(table.name)}
            assert {index.name for index in table.indexes} <= indexes


def test_every_table_carries_its_workspace(database: Database) -> None:
    with database.read() as connection:
        inspector = inspect(connection)
        for name in inspector.get_table_names():
            if name != "alembic_version":
                assert "workspace" in {column["name"] for column in inspector.get_columns(name)}, name


def test_opening_again_keeps_what_is_there(tmp_path: Path, database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO workspaces VALUES ('other', '2026-01-01 00:00:00')"))
    again = SqliteDatabase(tmp_path / "discern.db")
    again.open()
    with again.read() as connection:
        names = set(connection.execute(text("SELECT workspace FROM workspaces")).scalars())
    again.close()
    assert names == {"default", "other"}


def test_a_schema_of_a_later_version_is_refused_and_left_alone(tmp_path: Path, database: Database) -> None:
    database.close()
    with sqlite3.connect(tmp_path / "discern.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageUnavailable, match="schema 9999; this Discern knows schemas up to"):
        SqliteDatabase(tmp_path / "discern.db").open()
    with sqlite3.connect(tmp_path / "discern.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    connection.close()


def opened_together(make: Callable[[], Database]) -> list[StorageUnavailable]:
    """Open what `make` returns in four threads at once; return what went wrong."""
    failures: list[StorageUnavailable] = []

    def open_one() -> None:
        database = make()
        try:
            database.open()
            database.ping()
        except StorageUnavailable as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_processes_that_start_together_upgrade_one_after_the_other(tmp_path: Path) -> None:
    assert opened_together(lambda: SqliteDatabase(tmp_path / "shared.db")) == []
    with sqlite3.connect(tmp_path / "shared.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(LATEST_REVISION,)]
        assert connection.execute("SELECT count(*) FROM workspaces").fetchone() == (1,)
    connection.close()


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def write_half() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO workspaces VALUES ('half', '2026-01-01 00:00:00')"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM workspaces")).scalar() == 1


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("full", 2)])
def test_durability_sets_how_far_a_commit_goes(tmp_path: Path, durability: Durability, level: int) -> None:
    database = SqliteDatabase(tmp_path / "discern.db", durability=durability)
    database.open()
    with database.read() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == level
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    database.close()


def test_the_database_is_readable_by_its_owner_only(tmp_path: Path, database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO workspaces VALUES ('other', '2026-01-01 00:00:00')"))
        files = list(tmp_path.glob("discern.db*"))
        assert {path.name for path in files} >= {"discern.db", "discern.db-wal", "discern.db-shm"}
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="Set DISCERN_HOME to a writable folder"):
        SqliteDatabase(tmp_path / "file" / "discern.db").open()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "discern.db").write_bytes(b"this is not a database, it only stands where one should be" * 20)
    with pytest.raises(StorageUnavailable, match=r"discern\.db did not answer: file is not a database"):
        SqliteDatabase(tmp_path / "discern.db").open()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_goes_away_under_the_service_is_noticed(
    tmp_path: Path, database: Database, replaced: bool
) -> None:
    (tmp_path / "discern.db").rename(tmp_path / "away.db")
    if replaced:
        other = SqliteDatabase(tmp_path / "discern.db")
        other.open()
        other.close()
    with pytest.raises(StorageUnavailable, match="removed or replaced"), database.write():
        pass
    with pytest.raises(StorageUnavailable, match="removed or replaced"):
        database.ping()


@pytest.mark.parametrize("name", ["a?b", "per%20cent", "with space", "ünïcode", "hash#"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    database = SqliteDatabase(tmp_path / name / "discern.db")
    database.open()
    database.close()
    assert (tmp_path / name / "discern.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
