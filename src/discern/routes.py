"""What the routes of every feature share: how a body is read, how an answer looks, and what is said of both."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from discern.core.errors import InputTooLarge, MalformedRequest, SlowSender

_MOST_BODY = 64 * 1024
_BODY_SECONDS = 10.0
# Bytes a second that a long body has to come with.
_SLOWEST = 200_000
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


async def body_of(request: Request, kind: type[T]) -> T:
    """Return the JSON body of a request. Raises MalformedRequest and SlowSender."""
    content = await _read(request, _MOST_BODY, _BODY_SECONDS)
    if content is None:
        raise MalformedRequest(f"The body has more than {_MOST_BODY} bytes.", mend="Send less.")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        detail = f"The body is not what the route takes: {error}."
        raise MalformedRequest(detail, mend=f"It takes {kind.__name__}: see /docs.") from error


async def content_of(request: Request, most: int, setting: str) -> bytes:
    """Return the body of a request, of `most` bytes at most, which `setting` says. Raises InputTooLarge, SlowSender."""
    content = await _read(request, most, _BODY_SECONDS + most / _SLOWEST)
    if content is None:
        detail = f"The body has more than {most} bytes."
        raise InputTooLarge(detail, mend="Send it in parts.", limit=setting, allowed=most)
    return content


async def _read(request: Request, most: int, seconds: float) -> bytes | None:
    """Return a body; None for one that has more than `most` bytes. Raises SlowSender."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                parts.append(chunk)
                size += len(chunk)
                if size > most:
                    return None
    except TimeoutError as error:
        raise SlowSender(f"The body took more than {seconds:g} seconds.", mend="Send it faster.") from error
    return b"".join(parts)


def json_answer(value: object, status: int = 200) -> Response:
    """Return an answer that no cache keeps."""
    return Response(_encode(value), status, media_type="application/json", headers={"Cache-Control": "no-store"})


def answers(schema: str, status: int = 200, description: str = "As it is.") -> dict[int | str, dict[str, Any]]:
    """Return what a route says of its answer in the OpenAPI document."""
    return {status: {"description": description, "content": _json_of(schema)}}


def takes(schema: str) -> dict[str, Any]:
    """Return what a route says of its body, as FastAPI's `openapi_extra`."""
    return {"requestBody": {"required": True, "content": _json_of(schema)}}


def _json_of(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
