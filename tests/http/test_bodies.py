"""Bodies over plain ASGI, where one can see what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.types import Message

from discern.core.errors import InputTooLarge, MalformedRequest, Overloaded, SlowSender
from discern.http.bodies import Bodies


class Sender:
    """A client that sends chunks when asked, and counts how often it was asked."""

    def __init__(self, *chunks: bytes, length: int | None = None, leaves: bool = False) -> None:
        self.asked = 0
        self._chunks = list(chunks)
        self._leaves = leaves
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self.request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, self._receive)

    async def _receive(self) -> Message:
        self.asked += 1
        if not self._chunks and self._leaves:
            return {"type": "http.disconnect"}
        body = self._chunks.pop(0) if self._chunks else b""
        return {"type": "http.request", "body": body, "more_body": bool(self._chunks) or self._leaves}


def bodies(max_waiting: int = 10, waiting_bytes: int = 1000, body_seconds: float = 20.0) -> Bodies:
    return Bodies(max_waiting=max_waiting, waiting_bytes=waiting_bytes, body_seconds=body_seconds)


async def read(reader: Bodies, sender: Sender, most: int = 100) -> bytes:
    async with reader.read(sender.request, "image_bytes", most) as content:
        return content


def test_a_body_comes_whole() -> None:
    assert asyncio.run(read(bodies(), Sender(b"ab", b"c", b"de"))) == b"abcde"


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read() -> None:
    sender = Sender(b"x", length=101)
    with pytest.raises(InputTooLarge, match="raise `image_bytes`") as caught:
        asyncio.run(read(bodies(), sender))
    assert sender.asked == 0
    assert caught.value.facts == {"limit": "image_bytes", "allowed": 100, "found": 101}


@pytest.mark.parametrize("length", [None, 5])
def test_a_body_that_turns_out_too_large_is_refused_at_the_limit(length: int | None) -> None:
    sender = Sender(*[b"x" * 60] * 50, length=length)
    with pytest.raises(InputTooLarge):
        asyncio.run(read(bodies(), sender))
    assert sender.asked == 2


def test_a_client_that_leaves_in_the_middle_is_said() -> None:
    with pytest.raises(MalformedRequest, match="ended after 3 bytes"):
        asyncio.run(read(bodies(), Sender(b"abc", leaves=True)))


def test_a_sender_that_stops_is_given_up_after_the_deadline() -> None:
    async def run() -> None:
        stopped = asyncio.Event()

        async def receive() -> Message:
            if not stopped.is_set():
                stopped.set()
                return {"type": "http.request", "body": b"x", "more_body": True}
            await asyncio.sleep(60)
            raise AssertionError

        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
        async with bodies(body_seconds=0.1).read(request, "image_bytes", 100):
            pass

    with pytest.raises(SlowSender, match="raise `body_seconds`"):
        asyncio.run(run())


@asynccontextmanager
async def held(reader: Bodies, *sizes: int) -> AsyncIterator[None]:
    """Hold bodies of these sizes."""
    if not sizes:
        yield
        return
    sender = Sender(b"x" * sizes[0])
    async with reader.read(sender.request, "image_bytes", 800), held(reader, *sizes[1:]):
        yield


@pytest.mark.parametrize(("sizes", "limit"), [((1,) * 10, "max_waiting"), ((400, 400), "waiting_bytes")])
def test_beyond_what_may_wait_a_request_is_refused_and_the_limit_named(sizes: tuple[int, ...], limit: str) -> None:
    reader = bodies()

    async def run() -> None:
        async with held(reader, *sizes):
            with pytest.raises(Overloaded) as caught:
                await read(reader, Sender(b"x" * 300, length=300), most=400)
            assert (caught.value.facts["limit"], caught.value.retry_after) == (limit, 1.0)
        assert len(await read(reader, Sender(b"x" * 300, length=300), most=400)) == 300

    asyncio.run(run())


def test_a_sender_that_announces_much_and_sends_nothing_takes_no_memory() -> None:
    reader = bodies(waiting_bytes=100)

    async def run() -> bytes:
        idle = [asyncio.create_task(read(reader, Sender(b"", b"", length=90, leaves=False))) for _ in range(5)]
        content = await read(reader, Sender(b"x" * 90, length=90))
        await asyncio.gather(*idle)
        return content

    assert len(asyncio.run(run())) == 90


def test_one_body_larger_than_what_may_wait_is_read_when_nothing_else_does() -> None:
    assert len(asyncio.run(read(bodies(waiting_bytes=10), Sender(b"x" * 50, length=50)))) == 50


def test_a_refused_body_gives_its_place_back() -> None:
    reader = bodies(max_waiting=1)
    for _ in range(3):
        with pytest.raises(InputTooLarge):
            asyncio.run(read(reader, Sender(b"x" * 200)))
    assert asyncio.run(read(reader, Sender(b"ok"))) == b"ok"
