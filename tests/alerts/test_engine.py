"""Rules are evaluated by one process for all, on either database, whoever dies and whatever the clock does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, event

from discern.alerts.ports import Sent
from discern.alerts.types import Alert, Route, Selector, Silence, Step, Table
from discern.app import Services
from discern.audit.types import Act
from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7
from discern.monitoring.types import Sample
from discern.store.database import Database
from tests.alerts.parts import START, Clock, Kept, Watch, joined, level, matcher, rule, table

pytestmark = pytest.mark.system
Make = Callable[..., Watch]


@pytest.fixture
def database(two_workspaces: Services) -> Database:
    return two_workspaces.database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(database: Database, clock: Clock, tmp_path: Path) -> Make:
    def make(said: Table | None = None, **more: object) -> Watch:
        return Watch(database, said or table(rule()), tmp_path, clock, **more)  # type: ignore[arg-type]

    return make


def acknowledged(watch: Watch, alert: Alert, by: str = "user:1") -> bool:
    act = Act(alert.workspace, by, "alerts.acknowledge", f"alert:{alert.id}")
    return watch.store.acknowledge(alert, by, watch.clock(), "on it", act)


def test_what_is_wrong_is_told_and_that_it_is_over_too(make: Make) -> None:
    watch = make()
    for value in (1, 11, 12):
        watch.turn(level(value))
    assert watch.states() == {"a": "firing"}
    assert watch.told() == ["fired 1/0"]
    watch.turn(level(1), after=70)
    assert watch.states() == {"a": "resolved"}
    assert watch.told() == ["fired 1/0", "resolved 0/1"]
    alert = watch.alerts()[0]
    assert [event.what for event in watch.store.history(alert.id)] == ["fired", "resolved"]
    assert [one.reason for one in watch.store.notices.of_alert(alert, alert.group)] == ["fired", "resolved"]
    assert watch.store.unfinished() == []


def test_one_process_evaluates_and_when_it_dies_another_goes_on_where_it_was(make: Make, clock: Clock) -> None:
    said = table(rule(lasting=30), rule("other"))
    first, second = make(said), make(said)
    for watch in (first, second, first, second):
        watch.turn(level(11, "p"), after=2.5)
    assert len(first.alerts()) == 2, "both at once would have begun each twice"
    assert second.told() == []
    began = {one.rule: one.began_at for one in first.alerts()}
    clock.wait(14)
    for _ in range(3):
        second.turn(level(11, "p"))
    there = {one.rule: one for one in second.alerts()}
    assert {name: one.began_at for name, one in there.items()} == began
    assert there["level-high"].state == "firing"
    assert second.told() == ["fired 1/0"], "what was told before is not told again"


def test_what_was_counted_while_another_took_over_is_not_lost(make: Make, clock: Clock) -> None:
    counted = Selector("local_total")
    said = table(rule(function="increase", metric=counted, by=("part",), above=0.5, summary="{part}"))
    first, second = make(said), make(said)
    first.turn(Sample("local_total", ("x",), 5))
    clock.wait(20)
    second.turn(Sample("local_total", ("x",), 7))
    assert [one.summary for one in second.alerts()] == ["x"]
    clock.wait(100)
    third = make(said)
    third.turn(Sample("local_total", ("x",), 9))
    assert len(third.alerts()) == 1, "what is old is not held against the present"


def test_who_was_away_too_long_does_not_go_on_with_what_it_knew(make: Make, clock: Clock) -> None:
    first, second = make(), make()
    first.turn(level(11))
    clock.wait(20)
    second.turn(level(1))
    second.turn(level(11))
    assert [one.state for one in second.alerts()] == ["firing", "resolved"]
    clock.wait(20)
    first.turn(level(11))
    assert [one.state for one in first.alerts()] == ["firing", "resolved"]


def test_who_is_held_up_for_so_long_that_another_leads_tells_nothing_twice(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(), make()
    write = first.store.tell

    def held_up(*arguments: Any) -> None:
        clock.wait(20)
        second.turn(level(11))
        write(*arguments)

    monkeypatch.setattr(first.store, "tell", held_up)
    first.turn(level(11))
    for watch in (first, second):
        watch.turn(level(11))
    assert (first.told(), second.told()) == ([], ["fired 1/0"])


def test_each_machine_evaluates_what_only_it_knows_and_one_tells_of_all(make: Make, clock: Clock) -> None:
    said = table(
        rule(),
        rule(
            "local",
            metric=rule().metric._replace(metric="local_up"),
            by=("part",),
            below=0.5,
            summary="{part} of {instance}",
        ),
    )
    one, two = make(said, machine="one"), make(said, machine="two")
    down = Sample("local_up", ("cache",), 0)
    for _ in range(2):
        one.turn(level(11), down, after=2)
        two.turn(level(11), down, after=2)
    assert sorted(alert.summary for alert in one.alerts()) == ["a is 11", "cache of one", "cache of two"]
    assert {alert.summary: alert.machine for alert in one.alerts()}["cache of two"] == "two"
    assert two.told() == []
    clock.wait(60)
    one.turn(level(11), down)
    assert one.told() == ["fired 1/0", "fired 1/0", "fired 2/0"]
    two.turn(level(11), Sample("local_up", ("cache",), 1))
    clock.wait(60)
    one.turn(level(11), down)
    assert one.told()[-1] == "resolved 1/1"
    two.turn(down, after=0.1)
    for _ in range(8):  # the machine `two` is gone
        one.turn(level(11), down, after=100)
    there = [alert for alert in one.alerts() if alert.machine == "two"]
    assert [alert.state for alert in there] == ["resolved", "resolved"]
    assert one.store.history(there[0].id)[-1].detail == "its machine does not report any more"


def test_a_clock_that_jumps_neither_fires_nor_ends_anything(make: Make, clock: Clock) -> None:
    said = table(rule(lasting=600), rule("quick", keep_firing=600))
    watch = make(said)
    watch.turn(level(11))
    watch.turn(level(11))
    clock.now += timedelta(hours=3)
    for _ in range(3):
        watch.turn(level(11))
    assert {one.rule: one.state for one in watch.alerts()} == {"level-high": "pending", "quick": "firing"}
    watch.turn(level(1))
    clock.now -= timedelta(hours=6)
    watch.turn(level(1))
    watch.turn(level(1))
    assert {one.rule: one.state for one in watch.alerts()} == {"quick": "firing"}
    assert watch.told() == ["fired 1/0"]
    for _ in range(11):
        watch.turn(level(1), after=60)
    assert {one.rule: one.state for one in watch.alerts()} == {"quick": "resolved"}
    assert watch.told() == ["fired 1/0", "resolved 0/1"]


def test_what_is_acknowledged_is_neither_repeated_nor_escalated(make: Make) -> None:
    routes = [Route(name="all", channels=("mail",), repeat=600, escalate=(Step(300, ("boss",)),))]
    watch = make(table(rule(), channels=("mail", "boss"), routes=routes))
    watch.turn(level(11), level(12, "b"))
    one, two = watch.alerts()
    assert acknowledged(watch, one)
    assert not acknowledged(watch, one), "the first counts"
    watch.turn(level(11), level(12, "b"), after=301)
    assert watch.told("boss") == ["escalated 1/0"]
    acknowledged(watch, two)
    watch.turn(level(11), level(12, "b"), after=601)
    assert watch.told() == ["fired 2/0"]
    found = watch.store.get(one.id)
    assert found is not None
    assert (found.acknowledged_by, found.state) == ("user:1", "firing")
    watch.turn(level(1), level(1, "b"), after=70)
    assert (watch.told(), watch.told("boss")) == (["fired 2/0", "resolved 0/2"], ["escalated 1/0", "resolved 0/1"])


def test_a_silence_keeps_an_alert_from_being_told_until_it_ends(make: Make, clock: Clock) -> None:
    watch = make()
    silence = Silence(
        id=uuid7(),
        workspace="default",
        everywhere=True,
        matchers=(matcher("name", "a"),),
        starts_at=START,
        ends_at=START + timedelta(minutes=5),
        by="user:1",
        comment="upgrade",
        created_at=START,
    )
    watch.store.put_silence(silence, Act("default", "user:1", "alerts.silence", "silence:1"))
    watch.turn(level(11))
    assert watch.told() == []
    assert watch.alerts()[0].muted_by == f"silence {silence.id}"
    watch.turn(level(11), after=300)
    assert watch.told() == ["fired 1/0"]
    assert [event.what for event in watch.store.history(watch.alerts()[0].id)] == ["fired", "muted", "unmuted"]


def test_an_alert_is_of_the_workspace_it_names_where_there_is_one(make: Make) -> None:
    said = rule(
        function="increase",
        metric=rule().metric._replace(metric="failures_total"),
        by=("workspace",),
        above=0.5,
        summary="",
    )
    watch = make(table(said))
    names = ("other", "nobody")
    watch.turn(*[Sample("failures_total", (name, "x"), 0) for name in names])
    watch.turn(*[Sample("failures_total", (name, "x"), 5) for name in names])
    found = {one.labels["workspace"]: (one.workspace, one.everywhere) for one in watch.alerts()}
    assert found == {"other": ("other", False), "nobody": ("default", True)}


def test_where_metrics_cannot_be_read_nothing_changes(make: Make) -> None:
    watch = make()
    watch.turn(level(11))
    watch.readings.fault = StorageUnavailable("gone")
    for _ in range(30):
        watch.turn()
    assert watch.states() == {"a": "firing"}
    watch.readings.fault = None
    watch.turn(level(11))
    assert watch.told()[0] == "fired 1/0"


def test_a_rule_that_is_gone_ends_its_alerts(make: Make) -> None:
    make(table(rule(), rule("other"))).turn(level(11))
    after = make(table(rule()))
    after.clock.wait(20)
    after.turn(level(11))
    assert {one.rule: one.state for one in after.alerts()} == {"level-high": "firing", "other": "resolved"}


def test_a_rule_that_goes_by_fewer_labels_leaves_none_of_its_alerts_behind(make: Make) -> None:
    make().turn(level(11, "a"), level(12, "b"))
    after = make(table(rule(by=(), summary="{value}")))
    after.clock.wait(20)
    after.turn(level(11, "a"), level(12, "b"))
    after.turn(level(11, "a"), level(12, "b"))
    assert sorted((one.summary, one.state) for one in after.alerts()) == [
        ("12", "firing"),
        ("a is 11", "resolved"),
        ("b is 12", "resolved"),
    ]
    after.turn(level(1), after=70)
    assert after.store.counts() == {}


def test_ten_thousand_that_fire_at_once_are_few_notices_and_the_service_goes_on(make: Make, database: Database) -> None:
    rules = [rule(f"storm-{number}", above=10.0 + number) for number in range(10)]
    watch = make(table(*rules, channels=("mail", "pager")))
    many = [level(100, f"n{number:04}") for number in range(1000)]
    watch.turn(*[one._replace(value=1) for one in many])
    watch.turn(*many)
    assert watch.store.counts() == {("warning", "firing"): 10_000}
    for _ in range(8):
        watch.send()
    assert len(watch.told()) <= 11
    assert sum(int(one.split()[1].split("/")[0]) for one in watch.told()) == 10_000
    for _ in range(3):
        watch.turn(*many)
    assert len(watch.told()) <= 11
    largest = max(len(msgspec.json.encode(notice)) for notice, _ in kept(watch).notices)
    assert largest < 50_000
    database.ping()
    watch.turn(*[one._replace(value=1) for one in many], after=70)
    assert watch.store.counts() == {}
    for _ in range(8):
        watch.send()
    assert len(watch.told()) <= 22
    assert watch.store.unfinished() == []


def test_an_alert_that_was_told_in_a_storm_shows_how_it_was_told(make: Make) -> None:
    watch = make(table(*[rule(f"storm-{number}") for number in range(15)]))
    watch.turn(level(11))
    assert len(watch.told()) == 2, "two at a time"
    found = [watch.store.notices.of_alert(one, one.group) for one in watch.alerts()]
    assert [[one.channel for one in its] for its in found] == [["mail"]] * 15
    assert len({one.notice for its in found for one in its}) == 11


def kept(watch: Watch, name: str = "mail") -> Kept:
    sender = watch.senders[name]
    assert isinstance(sender, Kept)
    return sender


def test_telling_many_groups_holds_up_nobody_who_writes_for_long(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    written = database.write

    @contextmanager
    def counting() -> Iterator[Connection]:
        with written() as connection:
            rows.append(0)

            def count(*arguments: Any) -> None:
                rows[-1] += len(arguments[3]) if arguments[5] else 1

            event.listen(connection, "before_cursor_execute", count)
            yield connection

    apart = Route(name="all", channels=("mail",), group_by=("name",))
    watch = make(table(rule(lasting=0.0), routes=[apart]))
    monkeypatch.setattr(database, "write", counting)
    watch.turn(*(level(20.0, f"n{number}") for number in range(900)))
    assert {one.levels for one in watch.alerts()} == {1}
    assert len(watch.store.groups()) == 900
    assert max(rows) < 700, "rows of one transaction"


def test_ten_thousand_of_one_rule_are_a_thousand_rows_and_one(make: Make) -> None:
    watch = make()
    watch.turn(*[level(100, f"n{number:05}") for number in range(10_000)])
    assert watch.store.counts() == {("warning", "firing"): 1001}
    assert watch.told() == ["fired 1001/0"]


def test_what_is_old_is_forgotten_and_of_the_rest_no_more_than_so_many_kept(make: Make, clock: Clock) -> None:
    watch = make()
    for number in range(6):
        watch.turn(level(11, f"n{number}"), after=70)
        watch.turn(level(1, f"n{number}"), after=70)
    assert len(watch.alerts()) == 6
    assert watch.store.forget(START, most=4) > 0
    assert len(watch.alerts()) == 4
    clock.wait(31 * 86_400)
    watch.turn()
    assert watch.alerts() == []
    assert watch.store.groups() == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_channel_that_breaks_off_is_tried_again_while_the_database_does_not_answer(
    two_workspaces: Services, make: Make
) -> None:
    def breaks_off(_: object) -> Sent:
        raise RuntimeError("nobody thought of it")

    channel = Kept(breaks_off)
    watch = make(senders={"mail": channel})
    two_workspaces.database.close()
    for _ in range(6):
        watch.turn(level(11))
    assert len(channel.notices) > 1
    two_workspaces.database.open()


def test_a_database_that_does_not_answer_is_told_without_it(two_workspaces: Services, make: Make, clock: Clock) -> None:
    answers = [Sent("down"), Sent()]
    flaky = Kept(lambda _: answers.pop(0) if answers else Sent())
    watch, beside = make(senders={"mail": flaky}), make()
    watch.turn(level(1))
    two_workspaces.database.close()
    for _ in range(6):
        watch.turn(level(11))
        joined()
        beside.turn(level(11), after=0)
    first, key = flaky.notices[0]
    assert (first.shown[0].name, first.shown[0].severity) == ("DiscernDatabaseDown", "critical")
    assert [one for _, one in flaky.notices] == [key, key], "it is tried again with the same key until it is taken"
    assert beside.told() == [], "one process of a machine tells"
    two_workspaces.database.open()
    watch.turn(level(1))
    joined()
    assert flaky.notices[-1][0].firing == 0
    clock.wait(30)
    watch.turn(level(11))
    assert flaky.notices[-1][0].shown[0].name == "DiscernLevelHigh"
