"""What bulk scoring needs from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from discern.detection.bulk.types import Run

Submit = Callable[[Any], "Awaited"]
"""Takes a piece of an input to be scored."""


class Awaited(Protocol):
    """A record batch that is to come."""

    def result(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Wait for it and return it."""
        ...


class RunLedger(Protocol):
    """Where runs are kept. When it is down it raises StorageUnavailable, and nothing is scored."""

    def begin(self, run: Run) -> None:
        """Write a run that is begun, once, however often it is begun."""
        ...

    def finish(self, run: Run) -> None:
        """Write what a run came to."""
        ...
