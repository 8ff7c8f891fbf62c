"""Limits on connections, which uvicorn does not have: slow request heads, clients that do not read, too many of them.

- A request head that is not there in `header_seconds` ends with 408, one of more than `header_bytes` with 431; a
  connection that sends nothing at all is closed.
- A client that leaves an answer unread for `write_seconds` loses its connection and what is buffered for it.
- What follows of a body after it was answered is thrown away, for `_LINGER_SECONDS`, so that the client can read why.
- More connections than `max_connections`, or from one address than `max_connections_per_address`, get 503.
- A connection costs no timer: all are looked at together, once a second.
- A request that comes whole in one read, and that `direct` knows how to answer, is answered without a task of its own;
  every other one, and one that `direct` does not want, goes the way of the framework, from its first byte.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from discern.core.counts import Counts
from discern.core.errors import DiscernError, MalformedRequest, Overloaded, SlowSender
from discern.http.exchange import Exchange
from discern.http.problems import problem_response

_LINGER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """See the settings of the same names."""

    header_seconds: float
    header_bytes: int
    write_seconds: float
    max_connections: int
    max_connections_per_address: int


class Direct(Protocol):
    """What answers requests that came whole."""

    def name_in(self, method: bytes, url: bytes) -> str | None:
        """Return the part of the path that varies, or None for a request it does not know."""
        ...

    def take(self, exchange: Exchange) -> bool:
        """See to it that the exchange is answered; False where the framework has to do it. Raises nothing."""
        ...


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    direct: ClassVar[Direct]
    limits: ClassVar[ConnectionLimits]
    counts: ClassVar[Counts]
    addresses: ClassVar[Counter[str]]

    _head_since: float | None = None
    _head_bytes = 0
    _stalled_since: float | None = None
    _answered_since: float | None = None
    _address: str | None = None
    # A request that may turn out whole, while it is read, and one that did.
    _reading: Exchange | None = None
    _whole: Exchange | None = None
    _standing: ClassVar[tuple[object, bytes]] = (None, b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        limits = self.limits
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._address = self.client[0] if self.client else ""
        self.addresses[self._address] += 1
        if len(self.connections) > limits.max_connections:
            self._refuse(_too_many("max_connections", limits.max_connections))
        elif 0 < limits.max_connections_per_address < self.addresses[self._address]:
            self._refuse(_too_many("max_connections_per_address", limits.max_connections_per_address))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._address is not None:
            self.addresses[self._address] -= 1
            if not self.addresses[self._address]:
                del self.addresses[self._address]
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._whole is not None or self._reading is not None:
            self._settle()
        if self._head_since is not None and self._head_bytes > self.limits.header_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        if self._whole is not None:  # the next one came along with it
            self._settle()
        self._head_since = self.loop.time()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """End the head of a request."""
        if self._head_bytes > self.limits.header_bytes:
            # Bytes of a body may be among those that were counted.
            length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if length > self.limits.header_bytes:
                self._refuse_head()
                return
        self._head_since = None
        self._head_bytes = 0
        if self._is_free():
            name = self.direct.name_in(self.parser.get_method(), self.url)
            if name is not None:
                keep_alive = self.parser.should_keep_alive()
                self._reading = Exchange(self, name, self.headers, keep_alive=keep_alive)
                self.cycle = self._reading  # type: ignore[assignment]  # it has what is looked at
                return
        self._begin_for_the_framework()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._reading is None:
            super().on_body(body)
        else:
            self._reading.body += body

    def on_response_complete(self) -> None:
        """End the answer to a request."""
        if self.cycle is not None and self.cycle.more_body:
            self._answered_since = self.loop.time()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """End the body of a request."""
        self._answered_since = None
        self._head_bytes = 0
        if self._reading is None:
            super().on_message_complete()
        else:
            self._reading.more_body = False
            self._whole, self._reading = self._reading, None

    def look(self, now: float) -> None:
        """End the connection where it has kept us waiting too long. `now` is the event loop's time."""
        limits = self.limits
        if self.transport.is_closing() and not self.flow.write_paused:
            return
        self._stalled_since = (self._stalled_since or now) if self.flow.write_paused else None
        if self._stalled_since is not None and now - self._stalled_since > limits.write_seconds:
            self.counts.add("limits.write_seconds")
            self.transport.abort()
        elif self._answered_since is not None and now - self._answered_since > _LINGER_SECONDS:
            self.counts.add("limits.unread_body")
            self.transport.abort()
        elif self._head_since is not None and now - self._head_since > limits.header_seconds:
            self.counts.add("limits.header_seconds")
            if self._head_bytes:
                detail = f"The head of the request was not complete after {limits.header_seconds:g} seconds."
                self._refuse(SlowSender(detail, mend="Send it faster.", limit="header_seconds"), counted=True)
            else:
                self.transport.close()

    def standing_headers(self) -> bytes:
        """Return the headers of every answer."""
        # uvicorn makes the list anew when the date has changed.
        headers = self.server_state.default_headers
        known, joined = Connection._standing
        if known is not headers:
            joined = b"".join(b"%s: %s\r\n" % header for header in headers)
            Connection._standing = headers, joined
        return joined

    def send_whole(self, answer: bytes, *, keep_alive: bool) -> None:
        """Send an answer, and end the exchange."""
        self.transport.write(answer)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _is_free(self) -> bool:
        """Tell whether nothing speaks against answering the request whose head is here without the framework."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
        )

    def _begin_for_the_framework(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _settle(self) -> None:
        """Have a request that came whole answered; what did not, and what nobody answers so, is the framework's."""
        whole, part = self._whole, self._reading
        self._whole = self._reading = None
        if self.transport.is_closing() or (whole is not None and self.direct.take(whole)):
            return
        self.cycle = None  # type: ignore[assignment]  # as on a connection without a request
        self._begin_for_the_framework()
        exchange = whole or part
        assert exchange is not None  # noqa: S101 - one of them is why this was called
        # At the end of a message the parser has forgotten what its head said of this.
        self.cycle.keep_alive = exchange.keep_alive
        if exchange.body:
            super().on_body(exchange.body)
        if whole is not None:
            super().on_message_complete()

    def _refuse_head(self) -> None:
        most = self.limits.header_bytes
        detail = f"The head of the request has more than {most} bytes."
        self._refuse(MalformedRequest(detail, mend="Send fewer or shorter headers.", limit="header_bytes"), status=431)

    def _refuse(self, error: DiscernError, *, status: int | None = None, counted: bool = False) -> None:
        """Answer with a problem document and close, whatever of the request has come."""
        if not counted:
            self.counts.add(f"limits.{error.facts['limit']}")
        response = problem_response(error)
        head = [f"HTTP/1.1 {status or response.status_code} \r\n".encode(), b"connection: close\r\n"]
        head += [b"%s: %s\r\n" % pair for pair in response.raw_headers]
        self.transport.write(b"".join([*head, b"\r\n", response.body]))
        self._head_since = None
        self.transport.close()


def connection_class(limits: ConnectionLimits, counts: Counts, direct: Direct) -> type[Connection]:
    """Return the protocol class for one server."""
    members = {"limits": limits, "counts": counts, "direct": direct, "addresses": Counter()}
    return type("LimitedConnection", (Connection,), members)


def _too_many(limit: str, allowed: int) -> Overloaded:
    return Overloaded(
        f"As many connections as `{limit}` allows ({allowed}) are open.",
        mend="Close some, or try again in a second.",
        retry_after=1.0,
        limit=limit,
        allowed=allowed,
    )
