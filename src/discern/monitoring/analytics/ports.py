"""What analytics needs from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from discern.monitoring.analytics.types import AlertLine, HappeningLine, LabelCount
from discern.monitoring.drift.types import DriftChange
from discern.monitoring.quality.types import QualityReport


class Asked(NamedTuple):
    """How many verdicts somebody asked for of a version."""

    detector: str
    version: str
    principal: str
    verdicts: int


class VerdictRow(NamedTuple):
    """A verdict without whom it is of, who asked, and what was looked at."""

    id: str
    created_at: datetime
    workspace: str
    detector: str
    version: str
    decision: str
    score: float


class LedgerHours(Protocol):
    """The ledger, hour by hour. Down means StorageUnavailable: the hour is rolled up later."""

    def asked(self, workspace: str, hour: datetime) -> list[Asked]:
        """Return who asked for what in the hour that began then, of the verdicts that are still on the ledger."""
        ...

    def times(
        self, workspace: str, hour: datetime, shares: Mapping[tuple[str, str], float]
    ) -> Iterator[tuple[str, str, float]]:
        """Yield detector, version and milliseconds of a share of an hour's verdicts, by detector and version.

        Which they are has nothing to do with what they are. Those that are sealed for a person are left out.
        """
        ...

    def rows(self, workspace: str, since: datetime, until: datetime) -> Iterator[VerdictRow]:
        """Yield the verdicts of a workspace from the one time to before the other, in the order of their ids."""
        ...


class Turn(Protocol):
    """Which of several processes does what one does for all."""

    def take(self) -> bool:
        """Take the turn, or keep it; tell whether it is ours. Raises StorageUnavailable."""
        ...

    def give_back(self) -> None:
        """Let another process have it at once. Raises StorageUnavailable."""
        ...


DriftChanges = Callable[[str, int], Sequence[DriftChange]]
"""Returns the changes of a workspace, newest first, at most so many."""

QualityOf = Callable[[str], QualityReport]
"""Returns what is known of the quality of a workspace's detectors."""

AlertsOf = Callable[[str, datetime, datetime], Sequence[AlertLine]]
"""Returns the alerts of a workspace that fired from the one time to before the other, oldest first."""

HappeningsOf = Callable[[str, datetime, datetime], Sequence[HappeningLine]]
"""Returns what happened in a workspace likewise, most often first."""

LabelsOf = Callable[[str, datetime, datetime], Sequence[LabelCount]]
"""Returns the labels that were given in a workspace likewise."""
