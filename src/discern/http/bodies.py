"""Request bodies, read under limits and never written to disk.

- A body that says it is too large is refused before it is read, one that turns out to be is refused at the limit.
- The memory of all bodies that are held together is bounded by what was received, not by what was announced: a sender
  that waits takes a place, for as long as the deadline lets it, and no memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from discern.core.errors import InputTooLarge, MalformedRequest, Overloaded, SlowSender
from discern.core.tracing import piece

_FRAMING_BYTES = 64 * 1024
_LEAST_BYTES_A_SECOND = 10_000
_LOOK_SECONDS = 1.0
_OVERDUE = 0.0
_SEND_ONE = "Send one file, as `curl -F file=@photo.jpg` does."


@dataclass(slots=True)
class _Taken:
    bytes: int = 0


class Bodies:
    """Reads inputs, at most `max_waiting` and `waiting_bytes` of them at a time. For one event loop.

    A body may take `body_seconds`, and a second more for every 10 kB that have come.
    """

    def __init__(self, *, max_waiting: int, waiting_bytes: int, body_seconds: float) -> None:
        self._max_waiting = max_waiting
        self._waiting_bytes = waiting_bytes
        self._body_seconds = body_seconds
        self._reading: dict[asyncio.Task[object], float] = {}
        self._looked_after_by: asyncio.AbstractEventLoop | None = None
        self._held = 0
        self._held_bytes = 0

    async def first(self, receive: Receive) -> Message:
        """Return the first message of a body. Raises SlowSender when it does not come in time."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a request is a task
        # A timer for each would cost more than most bodies take: one look at all of them, now and then, is enough.
        self._reading[task] = time.monotonic() + self._body_seconds
        loop = asyncio.get_running_loop()
        if self._looked_after_by is not loop:
            self._looked_after_by = loop
            loop.call_later(min(_LOOK_SECONDS, self._body_seconds), self._look, loop)
        try:
            return await receive()
        except asyncio.CancelledError:
            if self._reading[task] != _OVERDUE:
                raise
            task.uncancel()
            raise self._slow(0, self._body_seconds) from None
        finally:
            del self._reading[task]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the waiting for bodies that are overdue, and look again while there are others."""
        now = time.monotonic()
        for task, until in self._reading.items():
            if now >= until > _OVERDUE:
                self._reading[task] = _OVERDUE
                task.cancel()
        if self._reading:
            loop.call_later(min(_LOOK_SECONDS, self._body_seconds), self._look, loop)
        else:
            self._looked_after_by = None

    def hold(self, size: int) -> None:
        """Take a place and `size` bytes for a body that is here already; give them back with `release`.

        Raises Overloaded.
        """
        if self._held >= self._max_waiting:
            raise _overloaded("max_waiting", self._max_waiting)
        if self._held_bytes and self._held_bytes + size > self._waiting_bytes:
            raise _overloaded("waiting_bytes", self._waiting_bytes)
        self._held += 1
        self._held_bytes += size

    def release(self, size: int) -> None:
        """Give back what `hold` took."""
        self._held -= 1
        self._held_bytes -= size

    @asynccontextmanager
    async def read(
        self, request: Request, setting: str, most: int, *, whole: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Give the input a request carries: its raw body, or the one file of a multipart upload unless `whole` is set.

        `most` is in bytes and `setting` is where it comes from. The place and the bytes are held until the block ends.
        Raises InputTooLarge, Overloaded, SlowSender, or MalformedRequest for a multipart body without exactly one file.
        """
        multipart = not whole and request.headers.get("content-type", "").lower().startswith("multipart/form-data")
        allowed = most + _FRAMING_BYTES if multipart else most
        declared = _declared(request)
        if declared is not None and declared > allowed:
            raise _too_large(setting, most, declared)
        if self._held >= self._max_waiting:
            raise _overloaded("max_waiting", self._max_waiting)
        self._held += 1
        taken = _Taken()
        try:
            chunks = self._chunks(request, taken, setting, most, allowed)
            with piece("receive"):
                content = await _one_file(request, chunks) if multipart else b"".join([chunk async for chunk in chunks])
            if len(content) > most:
                raise _too_large(setting, most, len(content))
            yield content
        finally:
            self._held -= 1
            self._held_bytes -= taken.bytes

    async def _chunks(
        self, request: Request, taken: _Taken, setting: str, most: int, allowed: int
    ) -> AsyncGenerator[bytes, None]:
        started = time.monotonic()
        stream = request.stream()
        while True:
            left = started + self._body_seconds + taken.bytes / _LEAST_BYTES_A_SECOND - time.monotonic()
            try:
                with anyio.fail_after(max(0.0, left)):
                    chunk = await anext(stream, None)
            except ClientDisconnect as error:
                raise MalformedRequest(f"The body ended after {taken.bytes} bytes.", mend="Send it again.") from error
            except TimeoutError as error:
                raise self._slow(taken.bytes, time.monotonic() - started) from error
            if chunk is None:
                return
            if taken.bytes + len(chunk) > allowed:
                raise _too_large(setting, most, taken.bytes + len(chunk))
            # One input alone may be larger than what may wait together.
            if self._held_bytes > taken.bytes and self._held_bytes + len(chunk) > self._waiting_bytes:
                raise _overloaded("waiting_bytes", self._waiting_bytes)
            taken.bytes += len(chunk)
            self._held_bytes += len(chunk)
            yield chunk

    def _slow(self, found: int, seconds: float) -> SlowSender:
        return SlowSender(
            f"The body came too slowly: {found} bytes in {seconds:.0f} seconds.",
            mend="Send it faster, or raise `body_seconds`.",
            limit="body_seconds",
            allowed=self._body_seconds,
        )


class _InMemoryParser(MultiPartParser):
    # Starlette would roll an upload over to a temporary file; media must not reach the disk. 0 means never.
    spool_max_size = 0


async def _one_file(request: Request, chunks: AsyncGenerator[bytes, None]) -> bytes:
    parser = _InMemoryParser(request.headers, chunks, max_files=1, max_fields=16)
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, LookupError) as error:
        detail = f"The multipart body cannot be read: {str(error).rstrip('.')}."
        raise MalformedRequest(detail, mend=_SEND_ONE) from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise MalformedRequest("The multipart body has no file.", mend=_SEND_ONE)
        return await files[0].read()
    finally:
        await form.close()


def _overloaded(limit: str, allowed: int) -> Overloaded:
    return Overloaded(
        f"As much as `{limit}` allows ({allowed}) is in work or waiting.",
        mend="Try again in a second.",
        retry_after=1.0,
        limit=limit,
        allowed=allowed,
    )


def _declared(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _too_large(setting: str, most: int, found: int) -> InputTooLarge:
    return InputTooLarge(
        f"The body has {found} bytes or more; at most {most} are taken.",
        mend=f"Send less, or raise `{setting}`.",
        limit=setting,
        allowed=most,
        found=found,
    )
