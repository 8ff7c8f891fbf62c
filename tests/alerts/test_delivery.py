"""A notice arrives at least once under one id, whoever dies and however a channel behaves; no other waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from discern.access.types import LOCAL
from discern.alerts.ports import Sender, Sent
from discern.alerts.rules_delivery import pause_after
from discern.alerts.service import _test_notice
from discern.alerts.service_channels import DELIVERY_HEADER, sender_of
from discern.alerts.types import Channel, Notice, NoticeDelivery, Table
from discern.app import Services
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.core.signatures import SIGNATURE_HEADER, is_signed
from discern.store.database import Database
from discern.store.secret_files import SecretFile
from discern.store.sqlite import SqliteDatabase
from tests.alerts.parts import Clock, Kept, Watch, joined, level, rule, table, webhook

pytestmark = pytest.mark.system
Make = Callable[..., Watch]
TWO = table(rule(), channels=("hook", "mail"))


@pytest.fixture
def database(two_workspaces: Services) -> Database:
    return two_workspaces.database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(database: Database, clock: Clock, tmp_path: Path) -> Make:
    def make(said: Table = TWO, **more: object) -> Watch:
        return Watch(database, said, tmp_path, clock, **more)  # type: ignore[arg-type]

    return make


def deliveries(watch: Watch, channel: str = "hook") -> list[NoticeDelivery]:
    alert = watch.alerts()[-1]
    return [one for one in watch.store.notices.of_alert(alert, alert.group) if one.channel == channel]


def hook(url: str, allow: str = "127.0.0.1/32", secret: str = "signing-word") -> Channel:
    return Channel(name="hook", kind="webhook", url=url, secret=secret, allow=allow)


def sender(channel: Channel) -> Sender:
    return sender_of(channel, (), SecretFile("the secret of all", Path("none")), "https://discern.example.org")


def test_a_webhook_gets_the_notice_signed_with_its_id(make: Make) -> None:
    with webhook() as posted:
        watch = make(senders={"hook": sender(hook(posted.url)), "mail": Kept()})
        watch.turn(level(11))
        headers, body = posted.requests[0]
        assert is_signed("signing-word", body, headers[SIGNATURE_HEADER], int(time.time()))
        assert headers["Discern-Delivery"] == str(deliveries(watch)[0].id)
        assert posted.bodies()[0]["alerts"][0]["labels"]["alertname"] == "DiscernLevelHigh"
    assert [one.outcome for one in deliveries(watch)[0].attempts] == ["delivered"]
    assert watch.store.notices.counts() == {("hook", "delivered"): 1, ("mail", "delivered"): 1}


def test_what_fails_is_tried_again_with_longer_pauses_and_the_same_id(make: Make, clock: Clock) -> None:
    with webhook() as posted:
        posted.status = 500
        watch = make(senders={"hook": sender(hook(posted.url)), "mail": Kept()})
        watch.turn(level(11))
        times = [clock.now]
        for _ in range(40):
            seen = len(posted.requests)
            clock.wait(1)
            watch.send()
            times.extend([clock.now] * (len(posted.requests) - seen))
        posted.status = 200
        clock.wait(300)
        watch.send()
        watch.send()
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert gaps == [5, 10, 20]
    assert len({headers[DELIVERY_HEADER] for headers, _ in posted.requests}) == 1
    only = deliveries(watch)[0]
    assert only.state == "delivered"
    assert [one.status for one in only.attempts] == [500, 500, 500, 500, 200]
    assert only.attempts[0].error == "it answered 500"
    assert watch.told() == ["fired 1/0"], "the other channel waited for nothing"


def test_what_a_channel_does_not_take_for_hours_is_given_up_and_counted(make: Make, clock: Clock) -> None:
    calls: list[float] = []

    def refuse(_: object) -> Sent:
        calls.append(clock.moment)
        return Sent("it answered 500", 500)

    watch = make(senders={"hook": Kept(refuse), "mail": Kept()})
    watch.turn(level(11))
    for _ in range(200):
        clock.wait(120)
        watch.send()
    first = deliveries(watch)[0]
    assert first.state == "dead"
    assert first.finished_at is not None
    assert first.finished_at - first.created_at >= timedelta(hours=6)
    assert watch.store.notices.counts()["hook", "gave_up"] == 1
    assert len(first.attempts) < 50
    assert len(calls) == len(first.attempts)
    assert watch.store.notices.waiting() == {}


def test_a_channel_that_hangs_holds_up_no_other_no_rule_and_no_stop(make: Make, clock: Clock) -> None:
    held = threading.Event()

    def hang(_: object) -> Sent:
        held.wait(20)
        return Sent()

    said = table(rule(), rule("second"), rule("third"), channels=("hook", "mail"))
    watch = make(said, senders={"hook": Kept(hang), "mail": Kept()})
    try:
        clock.wait(5)
        watch.readings.samples = [level(11)]
        started = time.monotonic()
        for _ in range(5):
            clock.wait(5)
            watch.engine.turn()
            watch.deliveries.turn()
            time.sleep(0.2)
        assert time.monotonic() - started < 10
        assert watch.told() == ["fired 1/0"] * 3
        assert len(watch.told("hook")) == 2, "two at a time"
        clock.wait(1000)
        for _ in range(30):
            watch.deliveries.turn()
            clock.wait(100)
        assert watch.deliveries.under_way() <= 8, "threads that hang are not added to without end"
        before = time.monotonic()
        watch.deliveries.close()
        assert time.monotonic() - before < 3
    finally:
        held.set()
        joined()


def test_a_channel_that_keeps_failing_is_left_alone_and_tried_once_in_a_while(make: Make, clock: Clock) -> None:
    failing = Kept(lambda _: Sent("down"))
    rules = [rule(f"r{number}") for number in range(8)]
    watch = make(table(*rules, channels=("hook",)), senders={"hook": failing})
    watch.turn(level(11))
    for _ in range(10):
        watch.send()
    assert len(failing.notices) == 6, "two at a time, and no more after the fifth failure"
    clock.wait(16)
    watch.send()
    watch.send()
    assert len(failing.notices) == 7, "one to see"
    failing._first = None
    clock.wait(31)
    for _ in range(10):
        watch.send()
        clock.wait(1)
    delivered = watch.store.notices.counts()["hook", "delivered"]
    assert delivered >= 3


def test_pauses_grow_to_ten_minutes() -> None:
    assert [pause_after(tries).total_seconds() for tries in (1, 2, 3, 8, 100)] == [5, 10, 20, 600, 600]


def test_who_dies_between_the_claim_and_the_answer_leaves_a_lease_that_runs_out(make: Make, clock: Clock) -> None:
    watch = make(senders={"hook": Kept(), "mail": Kept()})
    clock.wait(5)
    watch.readings.samples = [level(11)]
    watch.engine.turn()
    lost = watch.store.notices.claim("hook", uuid7(), clock(), 5)
    assert len(lost) == 1
    for _ in range(5):
        clock.wait(11)
        watch.send()
    assert watch.told("hook") == []
    clock.wait(11)
    watch.send()
    kept = watch.senders["hook"]
    assert isinstance(kept, Kept)
    assert [UUID(key) for _, key in kept.notices] == [lost[0].delivery.id]


def test_a_clock_that_was_put_back_makes_no_notice_wait(make: Make, clock: Clock) -> None:
    failing = Kept(lambda _: Sent("down"))
    watch = make(senders={"hook": failing, "mail": Kept()})
    watch.turn(level(11))
    clock.now -= timedelta(days=1)
    clock.wait(60)
    watch.turn(level(11))
    assert len(failing.notices) == 2


def test_two_processes_send_each_notice_once(make: Make, clock: Clock) -> None:
    watch = make()
    clock.wait(5)
    watch.readings.samples = [level(11)]
    watch.engine.turn()
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(watch.store.notices.claim("hook", uuid7(), clock(), 5))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0] * 7 + [1]


def test_a_later_notice_of_a_group_takes_the_place_of_one_that_waits(make: Make, clock: Clock) -> None:
    failing = Kept(lambda _: Sent("down"))
    watch = make(senders={"hook": failing, "mail": Kept()})
    for number in range(30):
        watch.turn(*[level(11, f"n{one}") for one in range(number + 1)], after=61)
    assert watch.store.notices.waiting() == {"hook": 1}
    failing._first = None
    clock.wait(700)
    watch.send()
    assert failing.notices[-1][0].firing == 30


def test_what_waits_for_a_channel_that_is_gone_is_given_up(make: Make, clock: Clock) -> None:
    watch = make(senders={"hook": Kept(lambda _: Sent("down")), "mail": Kept()})
    watch.turn(level(11))
    watch.table = table(rule())
    watch.senders.pop("hook")
    clock.wait(400)
    watch.turn(level(11))
    assert watch.store.notices.waiting() == {}
    assert watch.store.notices.counts()["hook", "gave_up"] == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/{}", "http://localhost:9/{}", "http://[::1]:9/{}", "http://0x7f000001:9/{}"]
)
def test_a_private_address_is_refused_and_nothing_of_the_url_is_told(make: Make, url: str) -> None:
    secret = "a-token-that-nobody-sees"
    watch = make(senders={"hook": sender(hook(url.format(secret), allow="")), "mail": Kept()})
    watch.turn(level(11))
    only = deliveries(watch)[0]
    assert only.state == "dead"
    assert only.attempts[0].outcome == "refused"
    counts = watch.store.notices.counts()
    assert (counts["hook", "refused"], counts["hook", "gave_up"]) == (1, 1), "nobody got it, which is an alert itself"
    assert secret not in repr(only)


def test_no_failure_tells_the_secret_of_a_url(make: Make) -> None:
    for url in ("http://127.0.0.1:1/services/T0000/B0000/XXXX-token", "http://nowhere.invalid/XXXX-token?key=YYYY-key"):
        channel = hook(url, allow="0.0.0.0/0")
        sent = sender(channel).send(a_notice(), "key")
        assert sent.error
        for secret in ("XXXX-token", "YYYY-key", "B0000"):
            assert secret not in sent.error


def a_notice() -> Notice:
    return _test_notice(utc_now(), "hook", LOCAL)


_SENDS = """
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from discern.alerts.types import Channel, Route, Rule, Selector, Table
from discern.alerts.service import _test_notice
from discern.alerts.service_channels import sender_of
from discern.store.sqlite import SqliteDatabase
from discern.store.secret_files import SecretFile
from discern.store.sqlite import SqliteDatabase
from tests.alerts.parts import Clock, Watch, level, rule, table

database = SqliteDatabase(Path(sys.argv[1]) / "discern.db")
database.open()
from discern.core.clock import utc_now
channel = Channel(name="hook", kind="webhook", url=sys.argv[2], secret="s", allow="127.0.0.1/32")
sender = sender_of(channel, (), SecretFile("x", Path("none")), "")
watch = Watch(database, table(rule(), channels=("hook",)), Path(sys.argv[1]), Clock(utc_now()), {"hook": sender})
watch.turn(level(11))
"""


def test_a_process_that_is_killed_while_it_sends_is_made_up_for_with_the_same_id(home: Path, tmp_path: Path) -> None:
    with webhook() as posted:
        posted.hold = threading.Event()
        child = subprocess.Popen([sys.executable, "-c", _SENDS, str(home), posted.url], cwd=Path(__file__).parents[2])
        until = time.monotonic() + 60
        while not posted.requests and time.monotonic() < until:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        posted.hold.set()
        posted.hold = None
        database = SqliteDatabase(home / "discern.db")
        database.open()
        clock = Clock(utc_now())
        watch = Watch(database, table(rule(), channels=("hook",)), tmp_path, clock, {"hook": sender(hook(posted.url))})
        clock.wait(20)
        watch.turn(level(11))
        assert len(posted.requests) == 1, "its lease still holds"
        for _ in range(5):
            watch.turn(level(11), after=12)
        keys = [headers[DELIVERY_HEADER] for headers, _ in posted.requests]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert [one.state for one in deliveries(watch)] == ["delivered"]
        assert [one.state for one in watch.alerts()] == ["firing"]
        database.close()
