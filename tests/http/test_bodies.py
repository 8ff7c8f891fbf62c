"""Bodies over plain ASGI, where one can see what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.types import Message

from discern.core.errors import InputTooLarge, MalformedRequest, Overloaded
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


def bodies(max_waiting: int = 10, waiting_bytes: int = 1000) -> Bodies:
    return Bodies(max_waiting=max_waiting, waiting_bytes=waiting_bytes)


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


@asynccontextmanager
async def held(reader: Bodies, *lengths: int | None) -> AsyncIterator[None]:
    """Hold bodies of these declared lengths."""
    if not lengths:
        yield
        return
    sender = Sender(b"x", length=lengths[0])
    async with reader.read(sender.request, "image_bytes", 400), held(reader, *lengths[1:]):
        yield


@pytest.mark.parametrize(
    ("lengths", "limit"),
    [((1,) * 10, "max_waiting"), ((400, 400), "waiting_bytes"), ((None, None), "waiting_bytes")],
)
def test_beyond_what_may_wait_a_request_is_refused_unread_and_the_limit_named(
    lengths: tuple[int | None, ...], limit: str
) -> None:
    reader, late = bodies(), Sender(b"x" * 300, length=300)

    async def run() -> None:
        async with held(reader, *lengths):
            with pytest.raises(Overloaded) as caught:
                await read(reader, late, most=400)
            assert (caught.value.facts["limit"], caught.value.retry_after) == (limit, 1.0)
        assert late.asked == 0
        assert len(await read(reader, late, most=400)) == 300

    asyncio.run(run())


def test_one_body_larger_than_what_may_wait_is_read_when_nothing_else_does() -> None:
    assert len(asyncio.run(read(bodies(waiting_bytes=10), Sender(b"x" * 50, length=50)))) == 50


def test_a_refused_body_gives_its_place_back() -> None:
    reader = bodies(max_waiting=1)
    for _ in range(3):
        with pytest.raises(InputTooLarge):
            asyncio.run(read(reader, Sender(b"x" * 200)))
    assert asyncio.run(read(reader, Sender(b"ok"))) == b"ok"
