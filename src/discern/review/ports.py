"""What review needs from outside, and what others need of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from discern.core.verdict import Verdict
from discern.review.types import Counted, Judged


class VerdictsToLabel(Protocol):
    """The ledger, as labels look things up on it. Down means StorageUnavailable: the label is refused."""

    def some(self, workspace: str, ids: Sequence[UUID]) -> dict[UUID, tuple[Verdict, bytes | None]]:
        """Return those of the verdicts that are there, each with the id of the key it is sealed with, if it is."""
        ...

    def ids(self, workspace: str, detector: str | None, after: UUID | None, limit: int) -> list[UUID]:
        """Return ids of verdicts, newest first, from after `after` on."""
        ...


ClassesOf = Callable[[str, str], tuple[str, str]]
"""Returns the negative and the positive class of a detector's version. Raises UnknownDetector or BundleRefused."""


class JudgedVerdicts(Protocol):
    """Labels as quality reads them. Down means StorageUnavailable: quality stays as it was."""

    def labelled_detectors(self, since: datetime) -> Sequence[tuple[str, str]]:
        """Return the workspaces and detectors that have labels of verdicts since a time."""
        ...

    def judged(self, workspace: str, detector: str, since: datetime) -> Iterator[Judged]:
        """Yield every labelled verdict that was asked for since a time, in the order of their ids."""
        ...

    def counts(self) -> Sequence[Counted]:
        """Return how many labels there ever were, deleted ones too: it changes with every one that is kept."""
        ...
