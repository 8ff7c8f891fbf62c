"""A request that came whole in one read, and the way to answer it without a task of its own.

- It stands where uvicorn has its cycle of request and response, and has of it what the connection looks at.
- It is answered once. Where the client is gone, the answer goes nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from discern.access.service_limits import Standing
from discern.core.tracing import Parent

_JSON = b"content-type: application/json\r\ncontent-length: %d\r\n"
Header = tuple[bytes, bytes]


class Line(Protocol):
    """What an exchange needs of its connection."""

    @property
    def address(self) -> str:
        """The address at the other end."""
        ...

    def standing_headers(self) -> bytes:
        """Return the headers of every answer."""
        ...

    def send_whole(self, answer: bytes, *, keep_alive: bool) -> None:
        """Send an answer, and end the exchange."""
        ...


class _NobodyWaits:
    def set(self) -> None:
        """Wake nobody: an exchange has no task that waits for its body."""


_NOBODY_WAITS = _NobodyWaits()


class Exchange:
    """One request. `name` is the part of its path that varies; header names are in lower case."""

    __slots__ = (
        "_line",
        "body",
        "counted",
        "disconnected",
        "extra",
        "headers",
        "is_decided",
        "keep_alive",
        "message_event",
        "more_body",
        "name",
        "response_complete",
        "sampled",
        "standing",
        "started",
    )

    def __init__(self, line: Line, name: str, headers: list[Header], *, keep_alive: bool) -> None:
        self._line = line
        self.started = time.perf_counter()
        self.name = name
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY_WAITS
        # It was counted against the rate limits, and must not be again where the framework answers it.
        self.counted = False
        # How whoever asks stands with the limits of requests, where it was counted against them.
        self.standing: Standing | None = None
        # Whether it was decided if it is traced, and from where its trace goes on, None where it is not.
        self.is_decided = False
        self.sampled: Parent | None = None
        # Headers that the answer is to have beside its own.
        self.extra: list[Header] = []

    @property
    def address(self) -> str:
        """The address that the request came from."""
        return self._line.address

    def answer_json(self, body: bytes) -> None:
        """Answer 200 with a JSON document."""
        self._answer(200, _JSON % len(body), body)

    def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Answer with any status. `headers` hold the length of the body."""
        self._answer(status, b"".join(b"%s: %s\r\n" % header for header in headers), body)

    def _answer(self, status: int, headers: bytes, body: bytes) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        if not self.disconnected:
            if self.extra:
                headers += b"".join(b"%s: %s\r\n" % header for header in self.extra)
            closing = b"" if self.keep_alive else b"connection: close\r\n"
            parts = STATUS_LINE[status], self._line.standing_headers(), headers, closing, b"\r\n", body
            self._line.send_whole(b"".join(parts), keep_alive=self.keep_alive)
