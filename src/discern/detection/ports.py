"""What detection needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from discern.core.verdict import Verdict
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
