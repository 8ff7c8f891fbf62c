"""What detection needs from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from discern.core.verdict import InputKind, Verdict
from discern.detectors.assessment import Detector


class DetectorSource(Protocol):
    """Where detectors come from. When it cannot give one it raises UnknownDetector or BundleRefused: refuse."""

    def get(self, name: str, version: str | None = None) -> Detector:
        """Return a detector ready to run."""
        ...


class Ledger(Protocol):
    """Where verdicts are kept. When it is down it raises StorageUnavailable, and the answer is refused."""

    def append(self, verdicts: Sequence[tuple[Verdict, str]]) -> None:
        """Write verdicts with their principals in one transaction; on return they survive the death of the process."""
        ...


class Asker(Protocol):
    """Who asks: an id for the ledger and the workspace the question is asked in."""

    @property
    def id(self) -> str:
        """Identifier of the principal."""
        ...

    @property
    def workspace(self) -> str:
        """Workspace of the principal."""
        ...


InputReader = Callable[[Any, int], Awaitable[bytes]]
"""Reads the input of an HTTP request, at most so many bytes. Raises InputTooLarge or MalformedRequest."""

PrincipalReader = Callable[[Any], Asker]
"""Tells who sent an HTTP request."""


class DetectorListing(Protocol):
    """Which detectors there are, for a door that chooses one by the kind of input."""

    def find(self, name: str, version: str | None = None) -> object:
        """Return the usable bundle of this name. Raises UnknownDetector or BundleRefused."""
        ...

    def taking(self, kind: InputKind) -> list[str]:
        """Return the names of the usable detectors that take this kind of input."""
        ...
