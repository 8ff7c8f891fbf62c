"""The ledger by month on PostgreSQL: every verdict has a place, and is read where it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text

from discern.core.clock import utc_now
from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7
from discern.core.months import Month, least_id
from discern.core.verdict import Verdict
from discern.detection.store import VerdictStore, stretch_statement
from discern.detection.types import LedgerEntry, VerdictQuery
from discern.privacy.types import Subject
from discern.store.partitions import MONTHS_AHEAD, MonthlyTable
from discern.store.postgresql import PostgresqlDatabase
from tests.detection.test_ledger import verdict

pytestmark = pytest.mark.system


@pytest.fixture
def database(postgresql_url: str) -> Iterator[PostgresqlDatabase]:
    database = PostgresqlDatabase(postgresql_url, connections=6)
    database.open()
    yield database
    database.close()


@pytest.fixture
def table(database: PostgresqlDatabase) -> MonthlyTable:
    return MonthlyTable(database, "verdicts")


def made_at(moment: datetime) -> Verdict:
    """A verdict that was asked for at a time."""
    low = uuid7().int & ((1 << 80) - 1)
    return msgspec.structs.replace(verdict(), id=str(UUID(int=least_id(moment).int | low)), created_at=moment)


def part_of(database: PostgresqlDatabase, one: Verdict) -> str:
    with database.read() as connection:
        where = text("SELECT CAST(tableoid AS regclass) FROM verdicts WHERE id = :id")
        return str(connection.execute(where, {"id": one.id}).scalar_one())


def test_a_fresh_ledger_has_this_month_and_those_to_come(table: MonthlyTable) -> None:
    this = Month.of(utc_now())
    assert table.months() == [this.plus(number) for number in range(MONTHS_AHEAD + 1)]
    assert table.make_ahead(utc_now()) == []


def test_months_are_made_ahead_and_what_came_before_them_moves_in(
    database: PostgresqlDatabase, table: MonthlyTable
) -> None:
    store, now = VerdictStore(database), utc_now()
    later = [made_at(Month.of(now).plus(months).start + timedelta(hours=1)) for months in (0, 3, 4, 5, 6, 20)]
    store.append([LedgerEntry(one, "key:1") for one in later])
    assert [part_of(database, one) for one in later][2:] == ["verdicts_after"] * 4
    made = table.make_ahead(Month.of(now).plus(2).start)
    assert made == [Month.of(now).plus(4), Month.of(now).plus(5)]
    names = [f"verdicts_{str(Month.of(now).plus(months)).replace('-', '_')}" for months in (0, 3, 4, 5)]
    assert [part_of(database, one) for one in later] == [*names, "verdicts_after", "verdicts_after"]
    assert store.page(VerdictQuery("default")).verdicts == tuple(reversed(later))


def test_an_id_of_any_kind_has_a_place(database: PostgresqlDatabase) -> None:
    store = VerdictStore(database)
    odd = [UUID(int=0), UUID(int=2**128 - 1), *(uuid4() for _ in range(20))]
    entries = [msgspec.structs.replace(verdict(), id=str(one)) for one in odd]
    store.append([LedgerEntry(entry, "key:1") for entry in entries])
    assert [store.get("default", one) for one in odd] == entries


def test_processes_that_make_months_together_make_each_once_while_others_write(
    postgresql_url: str, database: PostgresqlDatabase, table: MonthlyTable
) -> None:
    store, then = VerdictStore(database), Month.of(utc_now()).plus(12).start
    written: list[Verdict] = []
    made: list[Month] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            entries = [made_at(then + timedelta(days=number)) for number in range(5)]
            store.append([LedgerEntry(entry, "key:1") for entry in entries])
            written.extend(entries)

    def make() -> None:
        own = PostgresqlDatabase(postgresql_url, connections=2)
        own.open()
        for _ in range(20):
            try:
                made.extend(MonthlyTable(own, "verdicts").make_ahead(then))
                break
            except StorageUnavailable:  # whoever has to wait too long tries again
                continue
        own.close()

    writer = threading.Thread(target=write)
    makers = [threading.Thread(target=make) for _ in range(3)]
    for thread in (writer, *makers):
        thread.start()
    for thread in makers:
        thread.join()
    done.set()
    writer.join()
    assert sorted(made) == [Month.of(then).plus(number - 8) for number in range(12)]
    assert all(store.get("default", UUID(one.id)) == one for one in written)
    assert {part_of(database, one) for one in written[-5:]} == {f"verdicts_{str(Month.of(then)).replace('-', '_')}"}


def test_a_dropped_month_leaves_no_hole(database: PostgresqlDatabase, table: MonthlyTable) -> None:
    store, now = VerdictStore(database), utc_now()
    this = Month.of(now)
    assert not table.drop_oldest(this, lambda _: None)  # it is not over
    assert not table.drop_oldest(this.plus(1), lambda _: None)  # nor is it the oldest
    older = past_months(database, 3)
    entries = [made_at(month.start + timedelta(hours=1)) for month in older]
    store.append([LedgerEntry(entry, "key:1") for entry in entries])
    assert table.rows(older[0]) == {"default": 1}
    assert table.workspaces(older[0]) == {"default"}
    seen: list[object] = []
    assert table.drop_oldest(older[0], lambda connection: seen.append(connection.execute(text("SELECT 1")).scalar()))
    assert (seen, table.months()[0]) == ([1], older[1])
    assert [store.get("default", UUID(one.id)) for one in entries] == [None, *entries[1:]]
    late = made_at(older[0].start + timedelta(hours=2))
    store.append([LedgerEntry(late, "key:1")])
    assert part_of(database, late) == "verdicts_before"
    assert table.drop_oldest(older[1], lambda _: None)
    assert store.page(VerdictQuery("default")).verdicts == (entries[2], late)


def test_who_a_dropped_month_was_about_goes_with_it_and_nobody_else(database: PostgresqlDatabase) -> None:
    table = MonthlyTable(database, "verdicts", linked=("verdict_subjects", "verdict_id"))
    store, (dropped, kept) = VerdictStore(database), past_months(database, 2)
    moments = (dropped.start - timedelta(days=1), dropped.start + timedelta(hours=1), kept.start + timedelta(hours=1))
    about = [made_at(moment) for moment in moments]
    ann = Subject("default", "a" * 64, bytes(16), bytes(32))
    store.append([LedgerEntry(one, "key:1", ann) for one in about])
    assert part_of(database, about[0]) == "verdicts_before"
    assert table.drop_oldest(dropped, lambda _: None)
    with database.read() as connection:
        linked = {str(one) for one in connection.execute(text("SELECT verdict_id FROM verdict_subjects")).scalars()}
    assert linked == {about[0].id, about[2].id}


def test_what_goes_with_a_drop_and_fails_keeps_the_month(database: PostgresqlDatabase, table: MonthlyTable) -> None:
    def fail(_: object) -> None:
        raise RuntimeError

    (month,) = past_months(database, 1)
    one = made_at(month.start)
    VerdictStore(database).append([LedgerEntry(one, "key:1")])
    with pytest.raises(RuntimeError):
        table.drop_oldest(month, fail)
    assert table.months()[0] == month
    assert VerdictStore(database).get("default", UUID(one.id)) == one


def test_whoever_cannot_have_the_table_lets_the_others_go_on(database: PostgresqlDatabase, table: MonthlyTable) -> None:
    with database.read() as connection:
        connection.execute(text("LOCK TABLE verdicts IN ACCESS SHARE MODE"))
        with pytest.raises(StorageUnavailable, match="lock timeout"):
            table.make_ahead(utc_now() + timedelta(days=400))
    assert table.make_ahead(utc_now() + timedelta(days=400)) != []


def plan_of(database: PostgresqlDatabase, statement: str) -> str:
    """What PostgreSQL did for a statement, without the steps that it never came to."""
    with database.write() as connection:
        connection.execute(text("ANALYZE verdicts"))
        found = connection.execute(
            text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) {statement}")
        )
        return "\n".join(str(row[0]) for row in found if "never executed" not in str(row[0]))


def test_one_verdict_and_a_page_touch_no_more_months_than_they_need(database: PostgresqlDatabase) -> None:
    store = VerdictStore(database)
    months = past_months(database, 4)
    entries = [made_at(month.start + timedelta(hours=hour)) for month in months for hour in range(1, 200)]
    store.append([LedgerEntry(entry, "key:1") for entry in entries])
    parts = [f"verdicts_{str(month).replace('-', '_')}" for month in months]
    one = entries[-1]
    plan = plan_of(database, f"SELECT body FROM verdicts WHERE workspace = 'default' AND id = '{one.id}'")
    assert parts[-1] in plan
    assert not any(part in plan for part in (*parts[:-1], "verdicts_before", "verdicts_after"))
    after = entries[2 * 199 + 100].id  # in the third month
    rest = "ORDER BY id DESC LIMIT 51"
    plan = plan_of(database, f"SELECT body FROM verdicts WHERE workspace = 'default' AND id < '{after}' {rest}")
    assert parts[2] in plan
    assert not any(part in plan for part in (*parts[:2], parts[3], "verdicts_before", "verdicts_after"))
    assert "Sort" not in plan
    with database.read() as connection:
        query = stretch_statement(VerdictQuery("default", after=UUID(after)), "toy", "flag").limit(51)
        spelled = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
    plan = plan_of(database, spelled)
    assert parts[2] in plan
    assert "Index Only Scan" in plan or "Index Scan" in plan
    assert not any(part in plan for part in (*parts[:2], parts[3]))


def past_months(database: PostgresqlDatabase, count: int) -> list[Month]:
    """Give the ledger parts for months before the first it has, as if it were older; return them, oldest first."""
    (first, *_) = MonthlyTable(database, "verdicts").months()
    months = [first.plus(-number) for number in range(count, 0, -1)]
    with database.write() as connection:
        connection.execute(text("ALTER TABLE verdicts DETACH PARTITION verdicts_before"))
        for month in months:
            bounds = f"FROM ('{least_id(month.start)}') TO ('{least_id(month.end)}')"
            name = f"verdicts_{month.year:04d}_{month.month:02d}"
            connection.execute(text(f"CREATE TABLE {name} PARTITION OF verdicts FOR VALUES {bounds}"))
        upper = f"FROM (MINVALUE) TO ('{least_id(months[0].start)}')"
        connection.execute(text(f"ALTER TABLE verdicts ATTACH PARTITION verdicts_before FOR VALUES {upper}"))
    return months


def test_months_count_on_over_the_years() -> None:
    assert [Month(2026, 11).plus(number) for number in (-11, -10, 0, 1, 2, 14)] == [
        *(Month(2025, 12), Month(2026, 1), Month(2026, 11)),
        *(Month(2026, 12), Month(2027, 1), Month(2028, 1)),
    ]
    assert Month(2026, 12).end == datetime(2027, 1, 1, tzinfo=UTC)
    assert Month.of(datetime.fromisoformat("2026-12-01T00:30:00+02:00")) == Month(2026, 11)
    assert str(Month(2026, 3)) == "2026-03"
