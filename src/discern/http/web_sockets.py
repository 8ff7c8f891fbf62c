"""WebSocket connections: uvicorn's, looked after like the others.

- A client that leaves answers unread for `write_seconds` loses its connection and what is buffered for it.
- A handshake that is not one is answered with 400, and one that is not complete in `header_seconds` is given up.
- What has come of messages that are not whole yet is bounded over all connections of a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from discern.core.counts import Counts
from discern.http.connections import HandedOver

if TYPE_CHECKING:
    from asyncio import BaseTransport

    from uvicorn._types import ASGISendEvent

_NOT_A_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BEGUN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """See the settings of the same names; `unfinished_bytes` is `stream_waiting_bytes`."""

    write_seconds: float
    header_seconds: float
    unfinished_bytes: int


class WebSocketConnection(WebSocketsSansIOProtocol, HandedOver):
    """One WebSocket of a client."""

    limits: ClassVar[WebSocketLimits]
    counts: ClassVar[Counts]
    # Bytes of unfinished messages of all connections; small ones are free.
    unfinished: ClassVar[list[int]]

    _stalled_since: float | None = None
    _opened_at = 0.0
    _unfinished = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection over."""
        super().connection_made(transport)
        self._opened_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._hold(self._unfinished + len(data))
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.counts.add("websockets.no_handshake")
            self.transport.write(_NOT_A_HANDSHAKE)
            self.transport.close()
        elif self._unfinished > _BEGUN_BYTES and self.unfinished[0] > self.limits.unfinished_bytes:
            self.counts.add("limits.stream_waiting_bytes")
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        """Give a message that is whole to the application."""
        self._hold(0)
        super().send_receive_event_to_app()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._hold(0)
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    async def send(self, message: ASGISendEvent) -> None:
        """Send one message of the application."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # uvicorn forgets that the handshake is over when it was refused, and would report a defect.
            self.handshake_complete = True

    def look(self, now: float) -> None:
        """End the connection where the client has kept us waiting too long. `now` is the event loop's time."""
        self._stalled_since = None if self.writable.is_set() else self._stalled_since or now
        if self._stalled_since is not None and now - self._stalled_since > self.limits.write_seconds:
            self.counts.add("limits.write_seconds")
            self.transport.abort()
        elif not self.handshake_initiated and now - self._opened_at > self.limits.header_seconds:
            self.counts.add("limits.header_seconds")
            self.transport.abort()

    def _hold(self, size: int) -> None:
        """Account for so many bytes of a message that is not whole."""
        before = self._unfinished
        self._unfinished = size
        if size > _BEGUN_BYTES or before > _BEGUN_BYTES:
            counted = (size if size > _BEGUN_BYTES else 0) - (before if before > _BEGUN_BYTES else 0)
            self.unfinished[0] += counted


def web_socket_class(limits: WebSocketLimits, counts: Counts) -> type[WebSocketConnection]:
    """Return the protocol class for one server."""
    members = {"limits": limits, "counts": counts, "unfinished": [0]}
    return type("LimitedWebSocket", (WebSocketConnection,), members)
