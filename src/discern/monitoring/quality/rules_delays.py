"""How long labels take, and how many of a window's labels have come. Pure.

- What has not come yet cannot be seen, so short delays are seen too often; the estimate takes that into account.
- What nobody has waited for long enough to see is not guessed: it is not known.

The estimate is the product limit for delays that are cut off on the right, each by how long could be waited for it
(Lagakos, Barraj, De Gruttola, Biometrika 75, 1988).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST = 30
"""Labels below which nothing is said of delays."""

# A curve is believed up to a share if it was watched for so many times as long as that share takes.
_WATCHED = 2.0


class Arrival(NamedTuple):
    """A label that came: of which source, when its verdict was asked for, and when it became true."""

    source: str
    verdict_at: datetime
    labelled_at: datetime


class DelayCurve:
    """How large a share of labels comes within how many seconds; `watched` is how long the longest could be waited for.

    Beyond it everything has come, as far as anybody has seen.
    """

    def __init__(self, delays: Floats, waits: Floats) -> None:
        """Take delays and how long could be waited for each (never less than the delay), in seconds, float64 [n]."""
        order = np.sort(waits)
        # Where fewer could be waited for, single labels would decide.
        self.watched = float(order[-min(FEWEST, len(order))])
        self.waits = waits
        seen = delays <= self.watched
        delays, waits = np.maximum(delays[seen], 0.0), waits[seen]
        self._steps, counts = np.unique(delays, return_counts=True)
        # At risk at a delay: those that had come by then, and could have come then.
        come = np.searchsorted(np.sort(delays), self._steps, side="right")
        too_short = np.searchsorted(np.sort(waits), self._steps, side="left")
        at_risk = np.maximum(come - too_short, counts)
        stays = 1 - counts / at_risk
        # The share that has come by a step is the product over the steps after it.
        self._shares = np.append(np.cumprod(stays[::-1])[::-1][1:], 1.0) if len(stays) else np.array([])

    def share(self, seconds: float) -> float:
        """Return the share that has come within so many seconds."""
        return 0.0 if seconds <= 0 else float(self.shares(np.array([seconds]))[0])

    def shares(self, seconds: Floats) -> Floats:
        """Return the shares that have come within each of the times."""
        found: Floats = np.append(0.0, self._shares)[np.searchsorted(self._steps, seconds, side="right")]
        return found

    def is_known_to(self, share: float) -> bool:
        """Tell whether was watched for long enough to say when so large a share has come."""
        if not len(self._steps):
            return False
        reached = self._steps[int(np.searchsorted(self._shares, share, side="left"))]
        return bool(_WATCHED * reached <= self.watched)


class Delays:
    """The delays of each source, and how far each was told of: until its last label became true."""

    def __init__(self, arrivals: Iterable[Arrival], share: float) -> None:
        by_source: dict[str, list[Arrival]] = {}
        for one in arrivals:
            by_source.setdefault(one.source, []).append(one)
        self._share = share
        self._curves: dict[str, DelayCurve] = {}
        self._told_until: dict[str, datetime] = {}
        self._weights: dict[str, float] = {}
        for source, its in _with_the_rare_together(by_source).items():
            until = max(one.labelled_at for one in its)
            curve = _curve(its, until)
            self._curves[source], self._told_until[source] = curve, until
            # A label stands for those like it that have not come yet.
            self._weights[source] = float(np.sum(1 / np.maximum(curve.shares(curve.waits), 0.05)))

    def come(self, end: datetime) -> float | None:
        """Return the share of a window's labels that have come, `end` being its end; None where that is not known."""
        total = sum(self._weights.values())
        if not total:
            return None
        heavy = [source for source, weight in self._weights.items() if weight > (1 - self._share) / 2 * total]
        if not all(self._curves[source].is_known_to(self._share) for source in heavy):
            return None
        shares = self._shares_at(end)
        return sum(weight * shares[source] for source, weight in self._weights.items()) / total

    def _shares_at(self, end: datetime) -> Mapping[str, float]:
        return {
            source: curve.share((self._told_until[source] - end).total_seconds())
            for source, curve in self._curves.items()
        }


def _with_the_rare_together(by_source: Mapping[str, Sequence[Arrival]]) -> dict[str, Sequence[Arrival]]:
    """Return the sources that have enough labels, and the others as one if they have together."""
    found: dict[str, Sequence[Arrival]] = {source: its for source, its in by_source.items() if len(its) >= FEWEST}
    rare = [one for its in by_source.values() if len(its) < FEWEST for one in its]
    return found | ({"": rare} if len(rare) >= FEWEST else {})


def _curve(arrivals: Sequence[Arrival], until: datetime) -> DelayCurve:
    delays = np.array([(one.labelled_at - one.verdict_at).total_seconds() for one in arrivals])
    waits = np.array([(until - one.verdict_at).total_seconds() for one in arrivals])
    return DelayCurve(np.maximum(delays, 0.0), np.maximum(waits, np.maximum(delays, 0.0)))
