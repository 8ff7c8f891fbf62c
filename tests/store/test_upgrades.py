"""Every schema that was ever released is brought up to date, and what was in it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, create_engine, insert, select, text

from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7
from discern.core.months import Month, least_id
from discern.detection.store import VerdictStore
from discern.detection.store_tallies import TallyStore
from discern.detection.types import LedgerEntry, VerdictQuery
from discern.store import migrations
from discern.store.database import Database
from discern.store.migrations import LATEST_REVISION
from discern.store.partitions import MonthlyTable
from discern.store.postgresql import PostgresqlDatabase
from discern.store.sqlite import SqliteDatabase
from tests.detection.test_ledger import verdict

pytestmark = pytest.mark.system
REVISIONS = [path.name[:4] for path in sorted((Path(migrations.__file__).parent / "versions").glob("[0-9]*.py"))]
LONG_AGO = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
Make = Callable[[], tuple[str, Database]]


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """What gives the URL of an empty database, and the database as Discern opens it."""
    opened: list[Database] = []

    def made() -> tuple[str, Database]:
        database: Database
        if request.param == "sqlite":
            path = tmp_path / "discern.db"
            url, database = f"sqlite:///{path}", SqliteDatabase(path)
        else:
            found = request.getfixturevalue("postgresql_url")
            url = found.replace("postgresql://", "postgresql+psycopg://")
            database = PostgresqlDatabase(found, connections=4)
        opened.append(database)
        return url, database

    yield made
    for database in opened:
        database.close()


def bring_to(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def value_for(column: Any, table: str, number: int) -> Any:
    """A value that a column takes, another in each row where it has to be."""
    if column.name == "workspace":
        return "default"
    if table == "verdicts" and column.name == "id":
        return UUID(int=least_id(LONG_AGO).int + number)
    kind = UUID if type(column.type).__name__.upper() in {"UUID", "CHAR"} else column.type.python_type
    given = {"decision": "flag", "id": number if kind is int else uuid7(), "number": number, "outcome": "done"}
    if column.name in given:
        return given[column.name]
    by_type: dict[type, Callable[[], Any]] = {
        str: lambda: f"{column.name[:8]} {number}"[: getattr(column.type, "length", None) or 20],
        bytes: f"{column.name} {number}".encode,
        int: lambda: number,
        float: lambda: number + 0.1 + 0.2,
        bool: lambda: True,
        datetime: lambda: LONG_AGO,
    }
    return uuid7() if kind is UUID else by_type[kind]()


def fill(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Put three rows into every table there is, by what the database says of it; return them by table."""
    found = MetaData()
    found.reflect(engine)
    written: dict[str, list[dict[str, Any]]] = {}
    with engine.begin() as connection:
        for table in found.sorted_tables:
            if table.name in {"alembic_version", "workspaces"} or table.name.startswith("verdicts_"):
                continue
            rows = (
                1 if "workspace" in {column.name for column in table.primary_key} and len(table.primary_key) == 1 else 3
            )
            for number in range(1, rows + 1):
                row = {column.name: value_for(column, table.name, number) for column in table.columns}
                for column in table.columns:
                    for key in column.foreign_keys:
                        if key.column.table.name != "workspaces":
                            row[column.name] = written[key.column.table.name][number - 1][key.column.name]
                connection.execute(insert(table).values(_stored(row, engine)))
                written.setdefault(table.name, []).append(row)
    return written


def _stored(row: dict[str, Any], engine: Engine) -> dict[str, Any]:
    # SQLite has ids as 32 characters, and that is what reflection finds.
    if engine.dialect.name != "sqlite":
        return row
    return {name: value.hex if isinstance(value, UUID) else value for name, value in row.items()}


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_schema_there_was_is_brought_up_to_date_with_its_rows(make: Make, revision: str) -> None:
    url, database = make()
    engine = create_engine(url)
    bring_to(engine, revision)
    written = fill(engine)
    assert written["verdicts"]
    database.open()
    found = MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == LATEST_REVISION
        for name, rows in written.items():
            table = found.tables[name]
            there = [dict(row._mapping) for row in connection.execute(select(table))]
            assert len(there) == len(rows), name
            for row in rows:
                wanted = _comparable(_stored(row, engine))
                assert any(wanted.items() <= _comparable(one).items() for one in there), (name, row)
    engine.dispose()


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which times are alike whether the database has their zone or not."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in row.items()
    }


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_verdicts_of_months_ago_are_read_and_found_on_pages_after_the_upgrade(make: Make, revision: str) -> None:
    url, database = make()
    engine = create_engine(url)
    bring_to(engine, revision)
    months = [Month(2025, 12), Month(2026, 1), Month(2026, 3)]
    old = [msgspec.structs.replace(verdict(), id=str(UUID(int=least_id(month.start).int + 5))) for month in months]
    columns = "id, workspace, principal, detector, version, decision, score, input_sha256, created_at, body"
    places = ":id, 'default', 'key:1', 'toy', '1.0.0', 'flag', 0.1, 'x', :at, :body"
    with engine.begin() as connection:
        for one in old:
            identifier = one.id if engine.dialect.name == "postgresql" else one.id.replace("-", "")
            values = {"id": identifier, "at": "2026-01-01 00:00:00", "body": msgspec.json.encode(one)}
            connection.execute(text(f"INSERT INTO verdicts ({columns}) VALUES ({places})"), values)
    engine.dispose()
    database.open()
    store = VerdictStore(database)
    assert [store.get("default", UUID(one.id)) for one in old] == old
    assert store.page(VerdictQuery("default", decision="flag")).verdicts == tuple(reversed(old))
    there = MonthlyTable(database, "verdicts").months()
    if database.dialect == "postgresql" and revision < "0008":
        assert there[:4] == [Month(2025, 12).plus(number) for number in range(4)]
    fresh = verdict()
    store.append([LedgerEntry(fresh, "key:1")])
    assert store.page(VerdictQuery("default", limit=1)).verdicts == (fresh,)
    # Those of before were counted by the upgrade, where it came to that.
    told = {
        (row.hour, row.stages): row.verdicts for row in TallyStore(database).since(datetime(2026, 1, 1, tzinfo=UTC))
    }
    assert sum(told.values()) == (4 if revision < "0012" else 1)
    if revision < "0012":
        assert told[datetime(2026, 1, 1, tzinfo=UTC), ()] == 3


def test_an_upgrade_that_fails_leaves_everything_as_it_was(make: Make) -> None:
    url, database = make()
    engine = create_engine(url)
    bring_to(engine, "0005")
    written = fill(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE quotas (in_the_way INTEGER)"))
    with pytest.raises(StorageUnavailable, match="quotas"):
        database.open()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0005"
        assert connection.execute(text("SELECT count(*) FROM verdicts")).scalar() == len(written["verdicts"])
        connection.rollback()
        connection.execute(text("DROP TABLE quotas"))
        connection.commit()
    engine.dispose()
    database.open()


def test_a_schema_of_a_later_discern_is_refused_and_left_alone(make: Make) -> None:
    url, database = make()
    database.open()
    database.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(
        StorageUnavailable, match=f"schema 0999; this Discern knows schemas up to {LATEST_REVISION}"
    ) as no:
        database.open()
    assert "restore a backup" in str(no.value.mend)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0999"
    engine.dispose()
