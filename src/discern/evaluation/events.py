"""Events in time, such as yawns: which were found, and how many were not there.

- An event lasts from `start` to `end`, in seconds from the start of its recording.
- An event that was found and one that is true are paired when they overlap enough, each at most once; of all pairings
  the one with the most pairs counts, and among those the one with the most overlap.
- Recordings are the groups: events of one recording are not independent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

from discern.evaluation.statistics import FEW_GROUPS, LEVEL, joined, mean, proportion, rate_of_events
from discern.evaluation.statistics_bootstrap import DRAWS, by_bootstrap
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SECONDS_AN_HOUR = 3600


class Event(msgspec.Struct, frozen=True):
    """One event from `start` to `end`, in seconds."""

    start: float
    end: float


class Recording(msgspec.Struct, frozen=True):
    """What is true of one recording and what was found in it, and its length in seconds.

    Events that are unknown (the face was turned away) belong into neither list, and their time not into `seconds`.
    """

    seconds: float
    true: tuple[Event, ...]
    found: tuple[Event, ...]


class EventScores(msgspec.Struct, frozen=True, omit_defaults=True):
    """How well events are found. `delay` is the mean of found less true start, in seconds, of the pairs."""

    recordings: int
    hours: float
    true_events: int
    found_events: int
    recall: Estimate
    precision: Estimate
    f1: Estimate
    false_events_an_hour: Estimate
    delay: Estimate
    least_overlap: float


def overlaps(true: Sequence[Event], found: Sequence[Event]) -> Floats:
    """Return intersection over union of each true event with each found one, float64 [true, found]."""
    columns = [np.array([(e.start, e.end) for e in events], np.float64).reshape(-1, 2) for events in (true, found)]
    for events in columns:
        if not np.isfinite(events).all() or (events[:, 0] > events[:, 1]).any():
            raise ValueError("an event ends where it starts or later, at a finite time")
    first, second = columns[0][:, None, :], columns[1][None, :, :]
    shared = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    union = np.maximum(first[..., 1], second[..., 1]) - np.minimum(first[..., 0], second[..., 0])
    ratio: Floats = np.divide(np.clip(shared, 0, None), union, out=np.zeros(shared.shape), where=union > 0)
    return ratio


def pairs_of(true: Sequence[Event], found: Sequence[Event], least_overlap: float) -> list[tuple[int, int]]:
    """Return the positions of true and found events that belong together.

    An overlap (intersection over union) counts when it is above 0 and at least `least_overlap`. The assignment is the
    Hungarian method's, where each pair weighs more than all overlaps together.
    """
    overlap = overlaps(true, found)
    enough = (overlap > 0) & (overlap >= least_overlap)
    worth = np.where(enough, overlap + min(overlap.shape, default=0) + 1, 0.0)
    pairs = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    return [(int(one), int(other)) for one, other in pairs if enough[one, other]]


def event_scores(
    recordings: Sequence[Recording],
    *,
    least_overlap: float = 0.0,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> EventScores:
    """Return recall, precision and false events an hour over the recordings, each with an interval over recordings.

    `least_overlap` in [0, 1] is the intersection over union from which two events are the same; with 0 any overlap.
    """
    if any(recording.seconds <= 0 for recording in recordings):
        raise ValueError("a recording has a length")
    hit, of_true, right, of_found, delays, of_pairs = [], [], [], [], [], []
    false = np.zeros(len(recordings))
    for position, recording in enumerate(recordings):
        pairs = pairs_of(recording.true, recording.found, least_overlap)
        hits, rights = {one for one, _ in pairs}, {other for _, other in pairs}
        hit += [number in hits for number in range(len(recording.true))]
        right += [number in rights for number in range(len(recording.found))]
        of_true += [position] * len(recording.true)
        of_found += [position] * len(recording.found)
        delays += [recording.found[other].start - recording.true[one].start for one, other in pairs]
        of_pairs += [position] * len(pairs)
        false[position] = len(recording.found) - len(pairs)
    hours = np.array([recording.seconds for recording in recordings]) / _SECONDS_AN_HOUR
    counts = np.array([[len(r.true), len(r.found)] for r in recordings]).reshape(-1, 2)
    return EventScores(
        recordings=len(recordings),
        hours=float(hours.sum()),
        true_events=len(hit),
        found_events=len(right),
        recall=_share(hit, of_true, "no true events", level),
        precision=_share(right, of_found, "nothing was found", level),
        f1=_f1(counts, counts[:, 1] - false, seed, draws, level),
        false_events_an_hour=rate_of_events(false, hours, level=level),
        delay=mean(delays, of_pairs, level=level),
        least_overlap=least_overlap,
    )


def _share(hits: list[bool], groups: list[int], caveat: str, level: float) -> Estimate:
    return proportion(hits, groups, level=level) if hits else Estimate(None, level=level, caveat=caveat)


def _f1(counts: NDArray[np.int64], paired: Floats, seed: int, draws: int, level: float) -> Estimate:
    def statistic(weights: Floats) -> Floats:
        events = (weights * counts.sum(axis=1)).sum(axis=1)
        pairs = 2 * (weights * paired).sum(axis=1)
        score: Floats = np.divide(pairs, events, out=np.full(len(weights), np.nan), where=events > 0)
        return score

    found = by_bootstrap(statistic, len(counts), len(counts), seed=seed, draws=draws, level=level)
    few = f"only {len(counts)} recordings: the interval is unreliable" if 1 < len(counts) < FEW_GROUPS else None
    return msgspec.structs.replace(found, caveat=joined(few, found.caveat))
