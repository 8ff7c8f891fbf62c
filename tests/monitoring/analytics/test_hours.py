"""Hours are what the ledger counted, whoever writes at the same time, dies halfway, comes late or deletes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from discern.app import Services, build_services
from discern.detection.store import verdicts
from discern.detection.types import LedgerEntry
from discern.monitoring.analytics.rules_sketches import callers_in
from discern.monitoring.analytics.store import hours
from discern.monitoring.analytics.types import NOTHING, HourRow, Numbers, Prices, Release
from discern.monitoring.drift.types import DriftChange
from discern.privacy.types import Subject
from discern.settings import load_settings
from tests.monitoring.analytics.worlds import NOW, World, asked, busy_hours, verdict

pytestmark = pytest.mark.system
HOUR = timedelta(hours=1)
THIS = NOW.replace(minute=0)
DAY = datetime(2026, 3, 16, tzinfo=UTC)
EVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def world(two_workspaces: Services) -> World:
    return World(two_workspaces)


def on_the_ledger(services: Services) -> dict[tuple[str, str, str], int]:
    key = verdicts.c.workspace, verdicts.c.detector, verdicts.c.decision
    with services.database.read() as connection:
        rows = connection.execute(select(*key, func.count()).group_by(*key)).all()
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def in_hours(rows: list[HourRow]) -> dict[tuple[str, str, str], int]:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        for decision in ("clear", "review", "flag"):
            found[row.release.workspace, row.release.detector, decision] += getattr(row.numbers, decision)
    return {key: count for key, count in found.items() if count}


def stored(services: Services) -> list[Any]:
    with services.database.read() as connection:
        return list(connection.execute(select(hours).order_by(*hours.primary_key.columns)).all())


def test_hours_equal_the_ledger_and_the_metrics_after_many_have_written_at_the_same_time(world: World) -> None:
    moments = [THIS - number * HOUR for number in range(28)]
    writers = [
        threading.Thread(target=busy_hours, args=(world.services, moments[start::4], 15, workspace))
        for start, workspace in enumerate(("default", "default", "other", "other"))
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        world.analytics.roll_up()
    world.analytics.roll_up()
    ledger = on_the_ledger(world.services)
    assert sum(ledger.values()) == 28 * 15
    assert in_hours(world.analytics.hours(*EVER)) == ledger
    # What is rolled up is all but the hour that is not over.
    rolled = in_hours(world.store.between(EVER[0]))
    assert sum(rolled.values()) == 27 * 15
    samples = {one.labels: one.value for one in world.analytics.collect()}
    exported: Counter[str] = Counter()
    for row in world.services.monitoring.tallies.ever():
        exported[row.workspace] += row.verdicts
    assert exported == {"default": 14 * 15, "other": 14 * 15}
    assert sum(samples.values()) == pytest.approx(sum(row.cost for row in world.analytics.hours(*EVER)))


def test_rolling_up_again_changes_nothing(world: World) -> None:
    busy_hours(world.services, [DAY + number * HOUR for number in range(5)])
    assert world.analytics.roll_up() == 5
    before = stored(world.services)
    assert world.analytics.roll_up(whole=True) == 0
    assert World(world.services).analytics.roll_up() == 0
    assert stored(world.services) == before


def test_what_is_rolled_up_while_somebody_reads_is_not_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_hours(world.services, [THIS - 80 * HOUR, THIS - 20 * HOUR])
    read = world.store.between

    def between(*arguments: Any, **options: Any) -> list[HourRow]:
        monkeypatch.setattr(world.store, "between", read)
        found = read(*arguments, **options)
        World(world.services).analytics.roll_up()
        return found

    monkeypatch.setattr(world.store, "between", between)
    assert in_hours(world.analytics.hours(*EVER)) == on_the_ledger(world.services)


def test_verdicts_that_come_late_are_counted_with_their_hour(world: World) -> None:
    busy_hours(world.services, [THIS - 20 * HOUR, THIS - 50 * HOUR])
    assert world.analytics.roll_up() == 2
    late = [verdict(THIS - 20 * HOUR, detector="toy"), verdict(THIS - 50 * HOUR, detector="toy")]
    asked(world.services, late, "key:late")
    # Those of the last two days show at once, older ones after the next look at all hours.
    assert sum(in_hours(world.analytics.hours(*EVER)).values()) == 41
    assert world.analytics.roll_up(whole=True) == 2
    assert in_hours(world.analytics.hours(*EVER)) == on_the_ledger(world.services)
    table = world.analytics.table("default", THIS - 100 * HOUR, THIS, detector="toy", step="month")
    assert [row.callers for row in table.rows] == [4]


def test_what_is_deleted_from_the_ledger_stays_counted_with_its_callers_and_times(world: World) -> None:
    busy_hours(world.services, [THIS - 30 * HOUR])
    world.analytics.roll_up()
    before = world.analytics.table("default", *EVER, step="month")
    with world.services.database.write() as connection:
        connection.execute(delete(verdicts))
    asked(world.services, [verdict(THIS - 30 * HOUR, detector="toy")], "key:another")
    world.analytics.roll_up(whole=True)
    after = world.analytics.table("default", *EVER, step="month")
    by_detector = {row.detector: row for row in before.rows}
    for row in after.rows:
        known = by_detector[row.detector]
        assert row.verdicts == known.verdicts + (row.detector == "toy")
        assert (row.callers, row.p50, row.p99) == (known.callers, known.p50, known.p99)


def test_days_of_which_the_ledger_has_no_hours_any_more_are_taken_over_once(world: World) -> None:
    old = THIS - timedelta(days=200)
    busy_hours(world.services, [old, old + HOUR, THIS - 5 * HOUR])
    world.services.monitoring.tallies.tidy()  # by the real clock, which is later: all days of then are days
    tidy = World(world.services).analytics
    tidy.roll_up()
    assert tidy.roll_up(whole=True) == 0
    assert in_hours(tidy.hours(*EVER)) == on_the_ledger(world.services)


def test_an_hour_costs_what_it_cost_when_it_was_counted(world: World) -> None:
    asked(world.services, [verdict(THIS - 20 * HOUR, 1000.0)])
    asked(world.services, [verdict(THIS - 20 * HOUR, 2000.0, detector="else")])
    world.analytics.roll_up()
    costs = {one.labels: one.value for one in world.analytics.collect()}
    # 3.60 an hour is 0.001 a second.
    assert costs == {("default", "toy"): pytest.approx(0.011), ("default", "else"): pytest.approx(0.003)}
    dearer = World(world.services, prices=Prices("EUR", 0.0, (("*", 5.0),)))
    dearer.analytics.roll_up(whole=True)
    assert {one.labels: one.value for one in dearer.analytics.collect()} == costs
    asked(world.services, [verdict(THIS - 20 * HOUR)])
    dearer.now += timedelta(seconds=5)
    assert sum(one.value for one in dearer.analytics.collect()) == pytest.approx(5.014)
    dearer.analytics.roll_up()
    assert sum(row.cost for row in dearer.store.between(EVER[0])) == pytest.approx(5.014)


def test_what_it_cost_does_not_fall_when_a_server_starts_that_was_down_for_days(world: World) -> None:
    asked(world.services, [verdict(THIS - number * 24 * HOUR) for number in range(3, 9)])
    costs = sum(one.value for one in world.analytics.collect())
    assert costs == pytest.approx(6 * 0.01001)
    world.now -= timedelta(days=5)
    World(world.services, now=world.now).analytics.roll_up()
    started = World(world.services)
    assert sum(one.value for one in started.analytics.collect()) == pytest.approx(costs)
    started.analytics.roll_up()
    started.now += timedelta(hours=1)
    assert sum(one.value for one in started.analytics.collect()) == pytest.approx(costs)


def test_an_hour_is_not_rolled_up_before_it_is_over(world: World) -> None:
    world.now = DAY + timedelta(hours=9, minutes=4)
    busy_hours(world.services, [DAY + 8 * HOUR])
    assert world.analytics.roll_up() == 0
    assert sum(in_hours(world.analytics.hours(*EVER)).values()) == 20
    world.now += timedelta(minutes=1)
    assert world.analytics.roll_up() == 1


def test_drift_is_that_of_the_hour(world: World) -> None:
    began, ended = DAY + 3.5 * HOUR, DAY + 5.5 * HOUR
    world.changes = [
        DriftChange("toy", "1.0.0", "score", "ended", ended, ended, 9),
        DriftChange("toy", "1.0.0", "score", "began", began, DAY, 5),
    ]
    for number in range(8):
        asked(world.services, [verdict(DAY + number * HOUR)])
    world.analytics.roll_up()
    found = [row.drift_alarms for row in world.analytics.hours(DAY, DAY + 8 * HOUR)]
    assert found == [0, 0, 0, 1, 1, 1, 0, 0]


def test_quantiles_are_near_those_of_the_verdicts_and_busy_hours_weigh_more(world: World) -> None:
    asked(world.services, [verdict(DAY + timedelta(seconds=number), 10 + number / 100) for number in range(900)])
    asked(world.services, [verdict(DAY + HOUR + timedelta(seconds=number), 100.0) for number in range(100)])
    world.analytics.roll_up()
    (row,) = world.analytics.table("default", DAY, DAY + 24 * HOUR).rows
    assert row.p50 == pytest.approx(15, rel=0.03)
    assert row.p95 == pytest.approx(100, rel=0.03)
    assert row.milliseconds == pytest.approx(sum(10 + number / 100 for number in range(900)) + 10_000)


def test_what_is_sealed_for_a_person_is_counted_and_not_opened(world: World) -> None:
    subject = Subject("default", "somebody", b"k" * 16, b"s" * 32)
    world.services.verdicts.append([LedgerEntry(verdict(DAY, 5.0), "key:1", subject)])
    world.analytics.roll_up()
    (row,) = world.analytics.table("default", DAY, DAY + 24 * HOUR).rows
    assert (row.verdicts, row.callers, row.p50, row.milliseconds) == (1, 1, None, 5.0)


def test_workspaces_do_not_see_each_other(world: World) -> None:
    busy_hours(world.services, [DAY], workspace="other")
    asked(world.services, [verdict(DAY)])
    world.analytics.roll_up()
    assert sum(row.verdicts for row in world.analytics.table("default", *EVER, step="month").rows) == 1
    assert sum(row.verdicts for row in world.analytics.table("other", *EVER, step="month").rows) == 20


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, home: Path) -> dict[str, str]:
    given = {"DISCERN_HOME": str(home)}
    if request.param == "postgresql":
        given["DISCERN_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    return given


@pytest.fixture
def services(environment: dict[str, str]) -> Iterator[Services]:
    services = build_services(load_settings(environment))
    services.open()
    yield services
    services.close()


DIES_HALFWAY = """
import os, signal
from sqlalchemy import insert
from discern.app import build_services
from discern.monitoring.analytics.store import HourStore, hours
from discern.settings import load_settings
from tests.monitoring.analytics.worlds import World

services = build_services(load_settings(dict(os.environ)))
services.open()
world, put = World(services), HourStore.put
written = []

def put_and_die(store, rows):
    if len(written) < 3:
        written.append(put(store, rows))
        return
    with services.database.write() as connection:
        connection.execute(insert(hours), [store._values(rows[0])])
        os.kill(os.getpid(), signal.SIGKILL)

HourStore.put = put_and_die
world.analytics.roll_up()
"""


def test_whoever_is_killed_halfway_leaves_whole_hours_and_another_goes_on(
    services: Services, environment: dict[str, str]
) -> None:
    busy_hours(services, [DAY + number * HOUR for number in range(8)])
    outside = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    root = str(Path(__file__).parents[3])
    child = subprocess.run([sys.executable, "-c", DIES_HALFWAY], env=environment | outside, cwd=root, check=False)
    assert child.returncode == -signal.SIGKILL
    world = World(services)
    assert len({row.hour for row in world.store.between(EVER[0])}) == 3
    assert world.analytics.roll_up() == 5
    assert in_hours(world.store.between(EVER[0])) == on_the_ledger(services)


def test_two_that_roll_up_at_the_same_time_come_to_the_same(services: Services) -> None:
    busy_hours(services, [DAY + number * HOUR for number in range(10)])
    worlds = [World(services) for _ in range(3)]
    threads = [threading.Thread(target=world.analytics.roll_up) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_hours(worlds[0].store.between(EVER[0])) == on_the_ledger(services)
    alone = stored(services)
    with services.database.write() as connection:
        connection.execute(delete(hours))
    World(services).analytics.roll_up()
    assert stored(services) == alone


def test_numbers_add_up_and_take_away() -> None:
    some = Numbers(5, 2, 2, 1, 1, 0, 12.5)
    assert some.plus(some).minus(some) == some
    assert some.minus(some) == NOTHING
    assert callers_in(()) == 0
    assert Release("a", "b", "c")[1:] == ("b", "c")
