"""The tallies say what the ledger holds, whoever wrote it, was refused or puts rows together meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from discern.app import Services
from discern.core.verdict import StageReading, Verdict
from discern.detection.store import VerdictStore, verdicts
from discern.detection.store_tallies import TallyStore, tallies
from discern.detection.types import LedgerEntry, VerdictQuery
from discern.monitoring.types import TallyRow
from discern.store.metadata import workspaces
from tests.detection.test_ledger import verdict

NOW = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)
REFUSED = (IntegrityError, sqlite3.IntegrityError)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def drawn(draw: Random, at: datetime = NOW) -> Verdict:
    """A verdict with anything in it that is counted apart."""
    stages = (StageReading("screen", 0.5, 1.0), StageReading("expert", 0.5, 1.0))[: draw.choice((1, 2))]
    return msgspec.structs.replace(
        verdict(draw.choice(("default", "other")), draw.choice(("a", "b")), draw.choice(("clear", "review", "flag"))),
        version=draw.choice(("1.0.0", "1.1.0")),
        score=draw.random(),
        stages=stages,
        decided_by=stages[-1].name,
        cached=draw.random() < 0.5,
        degraded=draw.choice((None, "expert")),
        created_at=at,
        milliseconds=draw.randrange(10_000) / 1000,
    )


def entries(written: list[Verdict]) -> list[LedgerEntry]:
    return [LedgerEntry(one, "key:1") for one in written]


def key(one: Verdict | TallyRow) -> tuple[Any, ...]:
    stages = tuple(stage if isinstance(stage, str) else stage.name for stage in one.stages)
    return (
        one.workspace,
        one.detector,
        one.version,
        one.decision,
        one.decided_by,
        stages,
        one.cached,
        one.degraded or "",
    )


def check(rows: list[TallyRow], written: list[Verdict]) -> None:
    """Every sum is that of the verdicts, and there is nothing besides."""
    counted: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        counted[key(row)] += row.verdicts
    assert counted == Counter(map(key, written))
    assert sum(row.milliseconds for row in rows) == pytest.approx(sum(one.milliseconds for one in written))
    assert sum(row.scores for row in rows) == pytest.approx(sum(one.score for one in written))
    variances = sum(one.score * (1 - one.score) for one in written)
    assert sum(row.variances for row in rows) == pytest.approx(variances)


def test_every_verdict_is_counted_with_all_that_tells_it_apart(two_workspaces: Services) -> None:
    draw, store = Random(1), TallyStore(two_workspaces.database)
    written: list[Verdict] = []
    for size in (1, 3, 100, 7):
        group = [drawn(draw) for _ in range(size)]
        if not two_workspaces.verdicts.append_at_once(entries(group)):
            two_workspaces.verdicts.append(entries(group))
        written += group
    check(store.ever(), written)
    check(store.since(NOW.replace(minute=0)), written)
    check(store.since(BEGINNING, "other"), [one for one in written if one.workspace == "other"])
    assert store.since(NOW) == []
    with two_workspaces.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(verdicts)).scalar() == len(written)


def test_verdicts_are_counted_in_the_hour_they_were_made_in(two_workspaces: Services) -> None:
    moments = [NOW - timedelta(minutes=minutes) for minutes in (0, 29, 31, 91, 60 * 24 * 400)]
    two_workspaces.verdicts.append(
        entries([msgspec.structs.replace(verdict(), created_at=moment) for moment in moments])
    )
    rows = TallyStore(two_workspaces.database).since(BEGINNING)
    hours = Counter({row.hour: row.verdicts for row in rows})
    assert hours == Counter(moment.replace(minute=0) for moment in moments)
    assert TallyStore(two_workspaces.database).since(NOW.replace(hour=17, minute=0), "other") == []


def test_what_is_refused_is_not_counted(two_workspaces: Services) -> None:
    first = verdict()
    two_workspaces.verdicts.append(entries([first]))
    assert not two_workspaces.verdicts.append_at_once(entries([verdict(), first]))
    with pytest.raises(REFUSED):
        two_workspaces.verdicts.append(entries([verdict(), first]))
    unknown = msgspec.structs.replace(verdict(), workspace="nobody")
    with pytest.raises(REFUSED):
        two_workspaces.verdicts.append(entries([verdict(), unknown]))
    check(TallyStore(two_workspaces.database).ever(), [first])


def test_what_is_deleted_stays_counted(two_workspaces: Services) -> None:
    written = [verdict() for _ in range(3)]
    two_workspaces.verdicts.append(entries(written))
    with two_workspaces.database.write() as connection:
        connection.execute(verdicts.delete())
    check(TallyStore(two_workspaces.database).ever(), written)


def test_rows_of_many_processes_are_put_together_and_say_the_same(two_workspaces: Services) -> None:
    draw, written = Random(2), list[Verdict]()
    for number in range(6):
        group = [drawn(draw, NOW - timedelta(hours=number % 2)) for _ in range(40)]
        VerdictStore(two_workspaces.database).append(entries(group))  # each counts as a process
        written += group
    before = rows_of(two_workspaces)
    store = TallyStore(two_workspaces.database, lambda: NOW)
    store.tidy()
    check(store.ever(), written)
    assert rows_of(two_workspaces, NOW.replace(hour=17, minute=0)) < before
    TallyStore(two_workspaces.database, lambda: NOW + timedelta(hours=1)).tidy()
    distinct = {(one.created_at, *key(one)[:3], *key(one)[4:]) for one in written}
    assert rows_of(two_workspaces) == len(distinct)
    check(TallyStore(two_workspaces.database).ever(), written)


def test_what_is_written_while_rows_are_put_together_is_counted(two_workspaces: Services) -> None:
    stop, written = threading.Event(), list[Verdict]()

    def write() -> None:
        draw = Random(3)
        while not stop.is_set():
            group = [drawn(draw) for _ in range(3)]
            VerdictStore(two_workspaces.database).append(entries(group))
            same.append(entries(later := [drawn(draw)]))
            written.extend(group + later)

    same = VerdictStore(two_workspaces.database)
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for hours in range(1, 30):
            later = NOW + timedelta(hours=hours)
            TallyStore(two_workspaces.database, partial(lambda moment: moment, later)).tidy()
    finally:
        stop.set()
        thread.join()
    assert len(written) > 20
    check(TallyStore(two_workspaces.database).ever(), written)


def test_of_what_is_long_past_whole_days_are_kept(two_workspaces: Services) -> None:
    moments = [NOW - timedelta(days=days, hours=hours) for days in (1, 100, 101) for hours in (0, 3, 9)]
    written = [msgspec.structs.replace(verdict(), created_at=moment) for moment in moments]
    two_workspaces.verdicts.append(entries(written))
    store = TallyStore(two_workspaces.database, lambda: NOW)
    store.tidy()
    rows = store.since(BEGINNING)
    check(rows, written)
    days = {moment.replace(hour=0, minute=0) for moment in moments[3:]}
    assert {row.hour for row in rows} == days | {moment.replace(minute=0) for moment in moments[:3]}


def test_the_sum_of_all_time_is_right_however_often_it_is_asked_for(two_workspaces: Services) -> None:
    clock = [NOW]
    store = TallyStore(two_workspaces.database, lambda: clock[0])
    draw, written = Random(4), list[Verdict]()
    for minutes in (0, 1, 11, 60 * 50, 60 * 51):
        clock[0] = NOW + timedelta(minutes=minutes)
        group = [drawn(draw, clock[0]) for _ in range(5)]
        two_workspaces.verdicts.append(entries(group))
        written += group
        check(store.ever(), written)
    clock[0] = NOW  # a clock that was put back
    check(store.ever(), written)


def rows_of(services: Services, hour: datetime | None = None) -> int:
    query = select(func.count()).select_from(tallies)
    if hour is not None:
        query = query.where(tallies.c.hour == hour)
    with services.database.read() as connection:
        return int(connection.execute(query).scalar_one())


def test_a_thousand_workspaces_are_counted_each(two_workspaces: Services) -> None:
    names = [f"tenant-{number}" for number in range(1_000)]
    with two_workspaces.database.write() as connection:
        connection.execute(insert(workspaces), [{"workspace": name, "created_at": NOW} for name in names])
    written = [verdict(name) for name in names]
    two_workspaces.verdicts.append(entries(written))
    check(TallyStore(two_workspaces.database).ever(), written)
    assert two_workspaces.verdicts.page(VerdictQuery("tenant-7")).verdicts == (written[7],)
