"""Request bodies, read under limits and never written to disk.

- A body that says it is too large is refused before it is read, one that turns out to be is refused at the limit.
- The memory of all bodies that are held together is bounded; a request that would go beyond is refused before it is
  read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from discern.core.errors import InputTooLarge, MalformedRequest, Overloaded

_FRAMING_BYTES = 64 * 1024
_SEND_ONE = "Send one file, as `curl -F file=@photo.jpg` does."


class Bodies:
    """Reads inputs, at most `max_waiting` and `waiting_bytes` of them at a time. For one event loop."""

    def __init__(self, *, max_waiting: int, waiting_bytes: int) -> None:
        self._max_waiting = max_waiting
        self._waiting_bytes = waiting_bytes
        self._held = 0
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, setting: str, most: int) -> AsyncGenerator[bytes, None]:
        """Give the input a request carries: its raw body, or the one file of a multipart upload.

        `most` is in bytes and `setting` is where it comes from. The place and the bytes are held until the block ends.
        Raises InputTooLarge, Overloaded, or MalformedRequest for a multipart body without exactly one file.
        """
        multipart = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
        allowed = most + _FRAMING_BYTES if multipart else most
        declared = _declared(request)
        if declared is not None and declared > allowed:
            raise _too_large(setting, most, declared)
        # A body of unknown length may become as long as it is allowed to.
        reserved = allowed if declared is None else declared
        self._reserve(reserved)
        try:
            chunks = _limited(request, setting, most, allowed)
            content = await _one_file(request, chunks) if multipart else b"".join([chunk async for chunk in chunks])
            if len(content) > most:
                raise _too_large(setting, most, len(content))
            yield content
        finally:
            self._held -= 1
            self._held_bytes -= reserved

    def _reserve(self, reserved: int) -> None:
        beyond = None
        if self._held >= self._max_waiting:
            beyond = ("max_waiting", self._max_waiting)
        elif self._held and self._held_bytes + reserved > self._waiting_bytes:
            beyond = ("waiting_bytes", self._waiting_bytes)
        if beyond:
            raise Overloaded(
                f"As much as `{beyond[0]}` allows ({beyond[1]}) is in work or waiting.",
                mend="Try again in a second.",
                retry_after=1.0,
                limit=beyond[0],
                allowed=beyond[1],
            )
        self._held += 1
        self._held_bytes += reserved


class _InMemoryParser(MultiPartParser):
    # Starlette would roll an upload over to a temporary file; media must not reach the disk. 0 means never.
    spool_max_size = 0


async def _one_file(request: Request, chunks: AsyncGenerator[bytes, None]) -> bytes:
    parser = _InMemoryParser(request.headers, chunks, max_files=1, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        detail = f"The multipart body cannot be read: {error.message.rstrip('.')}."
        raise MalformedRequest(detail, mend=_SEND_ONE) from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise MalformedRequest("The multipart body has no file.", mend=_SEND_ONE)
        return await files[0].read()
    finally:
        await form.close()


async def _limited(request: Request, setting: str, most: int, allowed: int) -> AsyncGenerator[bytes, None]:
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > allowed:
                raise _too_large(setting, most, received)
            yield chunk
    except ClientDisconnect as error:
        raise MalformedRequest(f"The body ended after {received} bytes.", mend="Send it again.") from error


def _declared(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _too_large(setting: str, most: int, found: int) -> InputTooLarge:
    return InputTooLarge(
        f"The body has {found} bytes or more; this detector takes at most {most}.",
        mend=f"Send less, or raise `{setting}`.",
        limit=setting,
        allowed=most,
        found=found,
    )
