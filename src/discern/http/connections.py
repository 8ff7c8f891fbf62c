"""Limits on connections, which uvicorn does not have: slow request heads, clients that do not read, too many of them.

- A request head that is not there in `header_seconds` ends with 408, one of more than `header_bytes` with 431; a
  connection that sends nothing at all is closed.
- A client that leaves an answer unread for `write_seconds` loses its connection and what is buffered for it.
- What follows of a body after it was answered is thrown away, for `_LINGER_SECONDS`, so that the client can read why.
- What comes with a body and is none of it (sizes of chunks, trailers) is bounded too, and a trailer is never a header.
- An upgrade to anything but WebSocket is not taken up: the request is answered as if it had not been offered (RFC 9110,
  section 7.8).
- More connections than `max_connections`, or from one address than `max_connections_per_address`, get 503.
- A connection costs no timer: all are looked at together, once a second.
- A request that comes whole in one read, and that `direct` knows how to answer, is answered without a task of its own;
  every other one, and one that `direct` does not want, goes the way of the framework, from its first byte.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from discern.core.counts import Counts
from discern.core.errors import DiscernError, MalformedRequest, Overloaded, SlowSender
from discern.http.exchange import Exchange
from discern.http.problems import problem_response

_LINGER_SECONDS = 5.0
# A chunk of one byte comes with six others.
_MOST_BESIDE_A_BODY_BYTE = 8
_OF_UPGRADES = frozenset({b"upgrade", b"http2-settings"})


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


class HandedOver:
    """A connection that speaks another protocol from here on. `on_lost` is called when it is lost."""

    on_lost: Callable[[], None] | None = None


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
    # From the head of a request to its end: whether it lasts, and how many bytes came beside its body, and of it.
    _in_body = False
    _beside_body = 0
    _of_body = 0
    # SHA-256 of the client's certificate, which TLS has checked.
    _certificate: str | None = None
    # The request offers an upgrade that is not taken up.
    _offers_upgrade = False
    # A request that may turn out whole, while it is read, and one that did.
    _reading: Exchange | None = None
    _whole: Exchange | None = None
    _standing: ClassVar[tuple[object, bytes]] = (None, b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        limits = self.limits
        super().connection_made(transport)
        self._certificate = _certificate_of(transport)
        self._head_since = self.loop.time()
        self._address = self.client[0] if self.client else ""
        self.addresses[self._address] += 1
        if len(self.connections) > limits.max_connections:
            self._refuse(_too_many("max_connections", limits.max_connections))
        elif 0 < limits.max_connections_per_address < self.addresses[self._address]:
            self._refuse(_too_many("max_connections_per_address", limits.max_connections_per_address))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        went_on, of_body = self._in_body, self._of_body
        self._feed(data)
        if self.parser is None or self.transport.is_closing():
            return
        if self._whole is not None or self._reading is not None:
            self._settle()
        if self._head_since is not None and self._head_bytes > self.limits.header_bytes:
            self._refuse_head()
        elif went_on and self._in_body:
            self._beside_body += max(0, len(data) - (self._of_body - of_body))
            if self._beside_body > self.limits.header_bytes + _MOST_BESIDE_A_BODY_BYTE * self._of_body:
                self.counts.add("limits.header_bytes")
                self.transport.abort()
        elif not self._in_body and self._head_since is None and self._is_idle():
            # Bytes that begin no request have ended the time that it had to come in.
            self._head_since = self.loop.time()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with the place that it takes."""
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        assert isinstance(protocol, HandedOver)  # noqa: S101 - it was made by the class that `cli/serving.py` names
        protocol.on_lost = self._leave

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body is none."""
        if not self._in_body:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        if self._whole is not None:  # the next one came along with it
            self._settle()
        self._head_since = self.loop.time()
        self._in_body = False
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
        self._in_body, self._beside_body, self._of_body = True, 0, 0
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._offers_upgrade = True  # the parser stops here, and `_feed` begins anew without the offer
            return
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
        self._of_body += len(body)
        if self._reading is None:
            super().on_body(body)
        else:
            self._reading.body += body

    def on_response_complete(self) -> None:
        """End the answer to a request."""
        # The request that came after it may be here by now, and is not answered yet.
        if self.cycle is not None and self.cycle.response_complete and self.cycle.more_body:
            self._answered_since = self.loop.time()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """End the body of a request."""
        self._answered_since = None
        self._head_bytes = 0
        self._in_body = False
        if self._offers_upgrade:
            return
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

    @property
    def address(self) -> str:
        """The address at the other end."""
        return self._address or ""

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

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._offers_upgrade:
                self.handle_websocket_upgrade()
                return
            self._offers_upgrade = False
            head = [b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
            head += [b"%s: %s\r\n" % pair for pair in _without_upgrade(self.headers)]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
            self._feed(b"".join([*head, b"\r\n", data[upgrade.args[0] :]]))
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _is_idle(self) -> bool:
        """Tell whether nothing is answered and nothing waits for the next request."""
        return (self.cycle is None or self.cycle.response_complete) and self.timeout_keep_alive_task is None

    def _leave(self) -> None:
        """Give back the place that the connection took among those of its address."""
        if self._address is not None:
            self.addresses[self._address] -= 1
            if not self.addresses[self._address]:
                del self.addresses[self._address]
            self._address = None

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
        if self._certificate is not None:
            self.scope["state"]["certificate"] = self._certificate
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
        if exchange.counted:
            self.scope["state"]["counted"] = exchange.standing
        if exchange.is_decided:
            self.scope["state"]["sampled"] = exchange.sampled
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


def _without_upgrade(headers: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            kept = [token for token in value.split(b",") if token.strip().lower() not in _OF_UPGRADES]
            yield name, b",".join(kept)
        elif name not in _OF_UPGRADES:
            yield name, value


def _certificate_of(transport: asyncio.BaseTransport) -> str | None:
    over_tls = transport.get_extra_info("ssl_object")
    shown = None if over_tls is None else over_tls.getpeercert(binary_form=True)
    return None if shown is None else hashlib.sha256(shown).hexdigest()


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
