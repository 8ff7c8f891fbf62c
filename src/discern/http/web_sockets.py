"""WebSocket connections: uvicorn's, looked after like the others.

- A client that leaves answers unread for `write_seconds` loses its connection and what is buffered for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from discern.core.counts import Counts

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One WebSocket of a client."""

    write_seconds: ClassVar[float]
    counts: ClassVar[Counts]

    _stalled_since: float | None = None

    async def send(self, message: ASGISendEvent) -> None:
        """Send one message of the application."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # uvicorn forgets that the handshake is over when it was refused, and would report a defect.
            self.handshake_complete = True

    def look(self, now: float) -> None:
        """End the connection where the client has kept us waiting too long. `now` is the event loop's time."""
        self._stalled_since = None if self.writable.is_set() else self._stalled_since or now
        if self._stalled_since is not None and now - self._stalled_since > self.write_seconds:
            self.counts.add("limits.write_seconds")
            self.transport.abort()


def web_socket_class(write_seconds: float, counts: Counts) -> type[WebSocketConnection]:
    """Return the protocol class for one server."""
    return type("LimitedWebSocket", (WebSocketConnection,), {"write_seconds": write_seconds, "counts": counts})
