"""What detection needs from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from discern.access.types import Principal
from discern.core.verdict import InputKind, Verdict
from discern.detectors.assessment import Detector
from discern.registry.types import Usable


class DetectorSource(Protocol):
    """Where detectors come from. What cannot be given is UnknownDetector or BundleRefused: refuse."""

    def find(self, name: str, version: str | None = None) -> Usable:
        """Return a usable bundle, quickly."""
        ...

    def get(self, name: str, version: str | None = None) -> Detector:
        """Return a detector ready to run, which may take seconds the first time."""
        ...

    def taking(self, kind: InputKind) -> list[str]:
        """Return the names of the usable detectors that take this kind of input."""
        ...


class Ledger(Protocol):
    """Where verdicts are kept. When it is down it raises StorageUnavailable, and the answer is refused."""

    def append(self, verdicts: Sequence[tuple[Verdict, str]]) -> None:
        """Write verdicts with their principals in one transaction; on return they survive the death of the process."""
        ...


class InputReader(Protocol):
    """Reads the input of an HTTP request under a limit, and accounts for its memory while it is held."""

    def __call__(self, request: Any, setting: str, most: int) -> AbstractAsyncContextManager[bytes]:  # noqa: ANN401
        """Give the bytes. Raises InputTooLarge naming `setting`, MalformedRequest, or Overloaded before any is read."""
        ...


PrincipalReader = Callable[[Any], Principal]
"""Tells who sent an HTTP request."""
