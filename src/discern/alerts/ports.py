"""What alerts need from outside."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from discern.alerts.types import Notice


class Sent(NamedTuple):
    """What came of sending: `error` is None where it was taken, and never holds a secret.

    What was `refused` would be refused again.
    """

    error: str | None = None
    status: int | None = None
    refused: bool = False


class Sender(Protocol):
    """One channel. It may take some seconds, and whoever calls bears it when it never comes back."""

    def send(self, notice: Notice, key: str) -> Sent:
        """Send a notice. `key` is the same for every attempt at this notice by this channel."""
        ...
