"""What the parts of monitoring ask of each other, and of whoever is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Protocol

from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.types import LabelledVerdict, Sample, TallyRow

Collector = Callable[[], Iterable[Sample]]
"""Reads samples of what is known elsewhere than in a process: from the database, from the host. It may take a second,
runs in a thread, and raises StorageUnavailable where the database does not answer: its metrics are then absent."""


class Readings(Protocol):
    """The metrics of the whole installation, as they are exported."""

    def read(self) -> list[Sample]:
        """Return every sample, of all processes together. A histogram has samples `_bucket`, `_sum` and `_count`."""
        ...


class Tallies(Protocol):
    """What the ledger has counted of its verdicts, in the transactions that wrote them: the two never differ.

    Verdicts that were deleted since stay counted.
    """

    def since(self, hour: datetime, workspace: str | None = None) -> list[TallyRow]:
        """Return what was counted from an hour on, of one workspace or of all, in no order.

        A verdict is counted in the hour of its `created_at`. Raises StorageUnavailable.
        """
        ...


class LabelledVerdicts(Protocol):
    """The verdicts that people have said the truth about."""

    def labelled_verdicts(self, workspace: str, detector: str, version: str, most: int) -> Iterator[LabelledVerdict]:
        """Yield the verdicts of a release of which somebody could tell: the `most` that were labelled last, in order.

        A label that was changed is there once: as it is, and at the time it was changed. Raises StorageUnavailable.
        """
        ...


class NoLabels:
    """Has none, for installations where nobody labels."""

    def labelled_verdicts(self, workspace: str, detector: str, version: str, most: int) -> Iterator[LabelledVerdict]:  # noqa: ARG002
        """Yield none."""
        return iter(())


class Happenings(Protocol):
    """Where it is written down what the installation noticed or did by itself.

    Whoever tells goes on whether it could be written or not; where the database is down it waits, up to a bound.
    """

    def tell(self, kind: str, about: str, *, workspace: str = DEFAULT_WORKSPACE, **facts: Any) -> None:  # noqa: ANN401
        """Note a happening, from any thread, without waiting for it to be written."""
        ...


class NothingHappens:
    """Keeps nothing, for those that do without."""

    def tell(self, kind: str, about: str, *, workspace: str = DEFAULT_WORKSPACE, **facts: Any) -> None:  # noqa: ANN401
        """Forget it."""


class NoTallies:
    """Counts nothing, for parts that are tried by themselves."""

    def since(self, hour: datetime, workspace: str | None = None) -> list[TallyRow]:  # noqa: ARG002
        """Return none."""
        return []
