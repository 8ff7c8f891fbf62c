"""Request bodies, read under a limit and never written to disk.

- A body that says it is too large is refused before it is read, one that turns out to be is refused at the limit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from discern.core.errors import InputTooLarge, MalformedRequest

_FRAMING_BYTES = 64 * 1024


class _InMemoryParser(MultiPartParser):
    # Starlette would roll an upload over to a temporary file; media must not reach the disk.
    spool_max_size = 0


async def read_input(request: Request, most: int) -> bytes:
    """Return the input a request carries: its raw body, or the one file of a multipart upload.

    `most` is in bytes. Raises InputTooLarge, or MalformedRequest for a multipart body without exactly one file.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return b"".join([chunk async for chunk in _limited(request, most)])
    stream = _limited(request, most + _FRAMING_BYTES)
    parser = _InMemoryParser(request.headers, stream, max_files=1, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedRequest(
            f"The multipart body cannot be read: {error.message.rstrip('.')}.",
            mend="Send one file, as `curl -F file=@photo.jpg` does.",
        ) from error
    try:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise MalformedRequest(
                "The multipart body has no file.", mend="Send one, as `curl -F file=@photo.jpg` does."
            )
        content = await files[0].read()
    finally:
        await form.close()
    if len(content) > most:
        raise _too_large(most, len(content))
    return content


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(most, int(declared))
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > most:
                raise _too_large(most, received)
            yield chunk
    except ClientDisconnect as error:
        raise MalformedRequest(f"The body ended after {received} bytes.", mend="Send it again.") from error


def _too_large(most: int, found: int) -> InputTooLarge:
    return InputTooLarge(
        f"The body has {found} bytes or more; this detector takes at most {most}.",
        mend="Send less, or raise the limits `image_bytes`, `video_bytes` or `record_bytes`.",
        limit="body_bytes",
        allowed=most,
        found=found,
    )
