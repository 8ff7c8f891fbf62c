"""What is known is answered again; what comes from elsewhere is believed only where it fits the question."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from redis import Redis

from discern.access.types import Principal
from discern.app import Services, build_services
from discern.core.breakers import Breakers
from discern.core.counts import Counts
from discern.core.verdict import Verdict
from discern.detection.caching import AnswerCache, AnswerKey
from discern.detection.store import old_verdicts
from discern.detection.types import DetectionRequest
from discern.settings import Settings
from discern.store.shared_cache import CACHE_PATIENCE, SharedCache
from tests.detection.test_ledger import verdict
from tests.media import jpeg

CALLER = Principal(id="key:test", workspace="default")
RECORD: Any = {"a": 1.0, "b": -2.0, "c": 0.5}


def key_of(one: Verdict, **changes: str) -> AnswerKey:
    return AnswerKey(one.workspace, one.detector, one.version, "b" * 64, one.input.sha256, "none", None)._replace(
        **changes
    )


def ask(services: Services, *questions: tuple[str, Any], principal: Principal = CALLER) -> list[Verdict]:
    async def run() -> list[Verdict]:
        found = [await services.detect(DetectionRequest(principal, *question)) for question in questions]
        await services.cache.close()
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(("detector", "content"), [("toy-record", RECORD), ("toy-cascade", jpeg(6))])
def test_the_second_answer_is_a_verdict_of_its_own_and_says_that_it_was_known(
    services: Services, detector: str, content: Any
) -> None:
    first, second, *more = ask(services, *[(detector, content)] * 6)
    assert (first.cached, second.cached) == (False, True)
    assert first.id != second.id
    assert second.created_at > first.created_at
    # Whatever else the machine does meanwhile takes time from some of them, not from all.
    assert min(one.milliseconds for one in (second, *more)) < first.milliseconds
    same = msgspec.structs.replace(
        second, id=first.id, created_at=first.created_at, milliseconds=first.milliseconds, cached=False
    )
    assert same == first
    for one in (first, second):
        assert services.verdicts.get("default", UUID(one.id)) == one


def test_another_input_detector_or_workspace_is_another_question(services: Services) -> None:
    other = Principal(id="key:other", workspace="default")
    found = ask(services, ("toy-image", jpeg(3)), ("toy-image", jpeg(4)), ("toy-cascade", jpeg(3)))
    assert [one.cached for one in found] == [False, False, False]
    # Another key of the same workspace may know what the workspace knows.
    assert ask(services, ("toy-image", jpeg(3)), principal=other)[0].cached
    cache = AnswerCache(entries=9, keep_seconds=9, shared=None, counts=Counts())
    one = verdict()
    cache.put(key_of(one), one)
    strange = [key_of(one, **{field: "x"}) for field in AnswerKey._fields]
    assert [asyncio.run(cache.get(key)) for key in strange] == [None] * len(strange)
    assert asyncio.run(cache.get(key_of(one))) == one


def test_a_known_answer_names_no_verdict_that_retention_has_deleted(services: Services) -> None:
    first = ask(services, ("toy-record", RECORD))[0]
    old_verdicts(services.database).delete("default", first.created_at + timedelta(days=1), 10, lambda *_: None)
    assert services.verdicts.get("default", UUID(first.id)) is None
    again = ask(services, ("toy-record", RECORD))[0]
    assert again.cached
    assert first.id not in msgspec.json.encode(again).decode()
    assert services.verdicts.get("default", UUID(again.id)) == again


def test_without_entries_nothing_is_known(settings: Settings) -> None:
    services = build_services(replace(settings, cache_entries=0))
    services.open()
    assert [one.cached for one in ask(services, ("toy-record", RECORD), ("toy-record", RECORD))] == [False, False]
    services.close()


def test_what_was_used_longest_ago_makes_room() -> None:
    counts = Counts()
    cache = AnswerCache(entries=2, keep_seconds=9, shared=None, counts=counts)
    one = verdict()
    first, second, third = (key_of(one, input_sha256=name) for name in "abc")
    cache.put(first, one)
    cache.put(second, one)
    assert asyncio.run(cache.get(first)) is not None
    cache.put(third, one)
    assert asyncio.run(cache.get(second)) is None
    assert asyncio.run(cache.get(first)) is not None
    assert counts.snapshot() == {"cache.hits": 2, "cache.misses": 1}


def test_an_answer_gets_old_and_a_degraded_one_is_not_kept() -> None:
    cache = AnswerCache(entries=2, keep_seconds=0.0, shared=None, counts=Counts())
    one = verdict()
    cache.put(key_of(one), one)
    assert asyncio.run(cache.get(key_of(one))) is None
    lasting = AnswerCache(entries=2, keep_seconds=9, shared=None, counts=Counts())
    lasting.put(key_of(one), msgspec.structs.replace(one, degraded="expert"))
    assert asyncio.run(lasting.get(key_of(one))) is None


def shared_by(url: str, counts: Counts, wait_seconds: float = 10.0) -> AnswerCache:
    shared = SharedCache(url, wait_seconds=wait_seconds, keep_seconds=60, counts=counts)
    return AnswerCache(entries=100, keep_seconds=60, shared=shared, counts=counts)


async def eventually(cache: AnswerCache, key: AnswerKey) -> Verdict | None:
    """Ask until the shared cache has what is written beside the requests."""
    for _ in range(1000):
        found = await cache.get(key)
        if found is not None:
            return found
        await asyncio.sleep(0.02)
    return None


@pytest.mark.system
def test_what_one_process_knows_another_knows_too(redis_server: tuple[Any, str]) -> None:
    one, counts = verdict(), Counts()

    async def run() -> Verdict | None:
        here, there = shared_by(redis_server[1], Counts()), shared_by(redis_server[1], counts)
        here.put(key_of(one), one)
        found = await eventually(there, key_of(one))
        await here.close()
        await there.close()
        return found

    assert asyncio.run(run()) == one
    assert counts.snapshot()["cache.shared_hits"] == 1


@pytest.mark.system
@pytest.mark.parametrize("poison", ["garbage", "other input", "other detector", "score of 7", "degraded"])
def test_what_does_not_fit_the_question_is_a_miss(redis_server: tuple[Any, str], poison: str) -> None:
    one = verdict()
    values = {
        "garbage": b"\xff{]",
        "other input": msgspec.json.encode(
            msgspec.structs.replace(one, input=msgspec.structs.replace(one.input, sha256="0" * 64))
        ),
        "other detector": msgspec.json.encode(msgspec.structs.replace(one, detector="another")),
        "score of 7": msgspec.json.encode(msgspec.structs.replace(one, score=7.0)),
        "degraded": msgspec.json.encode(msgspec.structs.replace(one, degraded="expert")),
    }

    async def run() -> tuple[Verdict | None, Verdict | None]:
        here = shared_by(redis_server[1], Counts())
        here.put(key_of(one), one)
        good = await eventually(shared_by_same := shared_by(redis_server[1], Counts()), key_of(one))
        client = Redis.from_url(redis_server[1])
        for name in client.keys("discern:*"):
            client.set(name, values[poison])
        client.close()
        fresh = shared_by(redis_server[1], Counts())
        found = await fresh.get(key_of(one))
        for cache in (here, shared_by_same, fresh):
            await cache.close()
        return good, found

    good, found = asyncio.run(run())
    assert good == one
    assert found is None


@pytest.mark.system
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_cache_that_goes_away_under_load_is_neither_an_error_nor_a_wait(
    redis_server: tuple[subprocess.Popen[bytes], str], how: signal.Signals
) -> None:
    server, url = redis_server
    counts, one = Counts(), verdict()

    async def run() -> list[float]:
        cache = shared_by(url, counts, wait_seconds=0.02)
        took = []
        for number in range(600):
            if number == 100:
                server.send_signal(how)
            key = key_of(one, input_sha256=str(number))
            started = time.perf_counter()
            assert await cache.get(key) is None
            took.append(time.perf_counter() - started)
            cache.put(key, msgspec.structs.replace(one, input=msgspec.structs.replace(one.input, sha256=str(number))))
            await asyncio.sleep(0)
        await cache.close()
        return took

    took = asyncio.run(run())
    # Three questions, then one in a second or more, wait their 20 ms; all of them would take ten seconds.
    assert sum(took) < 5.0
    found = counts.snapshot()
    assert found["cache.shared_faults"] >= 1
    assert found["cache.misses"] == 600


@pytest.mark.system
def test_a_cache_that_hangs_is_left_alone_and_taken_again_once_it_answers(
    redis_server: tuple[subprocess.Popen[bytes], str],
) -> None:
    server, url = redis_server
    breakers = Breakers()
    told: list[tuple[str, str]] = []
    breakers.listener = lambda part, name, state, _: told.append((f"{part} {name}", state))

    async def run() -> None:
        guard = breakers.guard("cache", "shared", CACHE_PATIENCE)
        shared = SharedCache(url, wait_seconds=1.0, keep_seconds=60, counts=Counts(), guard=guard)
        shared.put("key", b"value")
        while await shared.get("key") is None:  # noqa: ASYNC110 - it is written beside the requests
            await asyncio.sleep(0.02)
        server.send_signal(signal.SIGSTOP)
        assert [await shared.get("key") for _ in range(4)] == [None] * 4
        assert [reading.state for reading in breakers.readings()] == ["open"]
        server.send_signal(signal.SIGCONT)
        while await shared.get("key") is None:  # noqa: ASYNC110 - after a second one question is let through
            await asyncio.sleep(0.02)
        await shared.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    assert told == [("cache shared", "open"), ("cache shared", "closed")]
    assert [reading.state for reading in breakers.readings()] == ["closed"]
