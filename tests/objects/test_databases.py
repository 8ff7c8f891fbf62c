"""Writers that come to one address at the same time leave one object, on either database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from discern.audit.ports import NoTrail
from discern.objects.service import SealedObjects
from discern.objects.service_masters import FileMasterKey, KeyRing
from discern.objects.service_rotation import Rotation
from discern.objects.store import ObjectTable
from discern.store.database import Database
from discern.store.objects import ObjectAccess, ObjectStore
from discern.store.postgresql import PostgresqlDatabase
from discern.store.sqlite import SqliteDatabase
from tests.objects.conftest import SOME

WRITERS = 8


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database: Database
    if request.param == "sqlite":
        database = SqliteDatabase(tmp_path / "discern.db")
    else:
        database = PostgresqlDatabase(request.getfixturevalue("postgresql_url"), connections=10)
    database.open()
    yield database
    database.close()


def at_once(act: Callable[[int], object]) -> list[object]:
    """Return what each of several threads was told."""
    start = threading.Barrier(WRITERS)

    def run(number: int) -> object:
        start.wait()
        return act(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(run, range(WRITERS)))


def test_writers_at_the_same_time_leave_one_object(database: Database, tmp_path: Path) -> None:
    table, ring = ObjectTable(database), KeyRing(FileMasterKey(tmp_path / "master"))
    objects = SealedObjects(table, ObjectStore(tmp_path / "objects", ObjectAccess()), ring)
    first = at_once(lambda number: objects.put(SOME, b"%d" % number, replace=False))
    assert sorted(map(str, first)) == ["False"] * (WRITERS - 1) + ["True"]
    assert at_once(lambda number: objects.put(SOME, b"%d" % number)) == [True] * WRITERS
    assert Rotation(ring, (table,), NoTrail()).rotate("local").keys == 1
    with objects.open(SOME) as file:
        assert file.read() in {b"%d" % number for number in range(WRITERS)}
    objects.tidy()
    assert len(list((tmp_path / "objects").iterdir())) == 1
    assert objects.erase("default", SOME.folder) == 1
    assert list((tmp_path / "objects").iterdir()) == []
