"""What bulk scoring needs from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from discern.detection.bulk.types import Run, RunState

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


class RunJournal(Protocol):
    """What is kept of a run while it goes on, and its output. When it is down it raises OperatorError."""

    @property
    def name(self) -> str:
        """Return what the output is called."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keep others away."""
        ...

    def begin(self, state: RunState, *, restart: bool) -> RunState:
        """Return the state of the run that goes on, or `state` where one is begun."""
        ...

    def pieces(self, schema: Any) -> Iterator[Any]:  # noqa: ANN401
        """Yield the record batches that are there, without a gap from row 0 on."""
        ...

    def keep(self, batch: Any) -> None:  # noqa: ANN401
        """Write one piece; it follows the one before."""
        ...

    def writing(self, schema: Any, run: str) -> AbstractContextManager[Any]:  # noqa: ANN401
        """Give a writer of record batches; what it wrote is the output when all went well."""
        ...

    def sha256(self) -> str:
        """Return the digest of the output."""
        ...

    def remove(self) -> None:
        """Remove all but the output."""
        ...
