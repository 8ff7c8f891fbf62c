"""Events in time, such as yawns: which were found, and how many were not there.

- An event lasts from `start` to `end`, in seconds from the start of its recording.
- An event that was found and one that is true are paired when they overlap enough, each at most once; of all pairings
  the one with the most pairs counts, and among those the one with the most overlap.
- Events of one recording are not independent, nor are those of recordings of one group: intervals count groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

from discern.evaluation.statistics import FEW_GROUPS, LEVEL, counted, joined, mean, proportion, rate_of_events
from discern.evaluation.statistics_bootstrap import DRAWS, by_bootstrap
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from discern.evaluation.types import Scored, Spans

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
    """How well events are found.

    Of the pairs, `delay` is the mean of found less true start in seconds, and `onset_error` the mean of its absolute
    value: early and late do not cancel.
    """

    recordings: int
    hours: float
    true_events: int
    found_events: int
    recall: Estimate
    precision: Estimate
    f1: Estimate
    false_events_an_hour: Estimate
    delay: Estimate
    onset_error: Estimate
    least_overlap: float


class EventTable(msgspec.Struct, frozen=True):
    """How well one kind of event is found in the clips of a dataset that it was looked for in.

    Of these `not_judged` could not be judged, or had too few frames a second for this kind; they are in no figure.
    `true_not_judged` events are in them.
    """

    name: str
    not_judged: int
    true_not_judged: int
    scores: EventScores


def event_tables(
    scored: Scored, told: Sequence[str], *, seed: int, draws: int = DRAWS
) -> tuple[tuple[EventTable, ...], tuple[str, ...]]:
    """Return a table for each kind that the detector tells of (`told`) and the dataset names, and what is left out."""
    labelled = scored.examples.events
    names = sorted({name for kinds in labelled.values() for name in kinds})
    tables = tuple(_table(name, scored, seed, draws) for name in told if name in names)
    caveats = []
    unknown = [name for name in names if name not in told]
    if unknown:
        kinds = ", ".join(told) or "none"
        caveats.append(f"Events that the detector does not tell of: {', '.join(unknown)}. It tells of {kinds}.")
    unlabelled = [name for name in told if name not in names] if labelled else []
    if unlabelled:
        caveats.append(f"Events that the dataset does not name, so nothing is said of them: {', '.join(unlabelled)}.")
    late = sum(
        start >= scored.events[row].seconds
        for row, kinds in labelled.items()
        if row in scored.events
        for spans in kinds.values()
        for start, _ in spans
    )
    if late:
        caveats.append(f"{counted(late, 'event starts', 'events start')} after the end of the clip: see events.csv.")
    return tables, tuple(caveats)


def _table(name: str, scored: Scored, seed: int, draws: int) -> EventTable:
    recordings, groups, missed, lost = [], [], 0, 0
    for row, kinds in sorted(scored.examples.events.items()):
        if name not in kinds:
            continue
        seen = scored.events.get(row)
        if seen is None or name not in seen.kinds:
            missed, lost = missed + 1, lost + len(kinds[name])
            continue
        recordings.append(Recording(seen.seconds, _events(kinds[name]), _events(seen.kinds[name])))
        groups.append(int(scored.examples.groups[row]))
    return EventTable(name, missed, lost, event_scores(recordings, groups, seed=seed, draws=draws))


def _events(spans: Spans) -> tuple[Event, ...]:
    return tuple(Event(start, start + seconds) for start, seconds in spans)


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
    groups: Sequence[int] | None = None,
    *,
    least_overlap: float = 0.0,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> EventScores:
    """Return recall, precision and false events an hour over the recordings, each with an interval over groups.

    `groups` says which recordings belong together, such as those of a person; without it each stands for itself.
    `least_overlap` in [0, 1] is the intersection over union from which two events are the same; with 0 any overlap.
    """
    if any(recording.seconds <= 0 for recording in recordings):
        raise ValueError("a recording has a length")
    own = range(len(recordings)) if groups is None else groups
    numbers = np.unique(np.asarray(own, np.int64), return_inverse=True)[1]
    hit, of_true, right, of_found, delays, of_pairs = [], [], [], [], [], []
    count = len(np.unique(numbers))
    false, hours, of_group = np.zeros(count), np.zeros(count), np.zeros((count, 2))
    for position, recording in zip(numbers.tolist(), recordings, strict=True):
        pairs = pairs_of(recording.true, recording.found, least_overlap)
        hits, rights = {one for one, _ in pairs}, {other for _, other in pairs}
        hit += [number in hits for number in range(len(recording.true))]
        right += [number in rights for number in range(len(recording.found))]
        of_true += [position] * len(recording.true)
        of_found += [position] * len(recording.found)
        delays += [recording.found[other].start - recording.true[one].start for one, other in pairs]
        of_pairs += [position] * len(pairs)
        false[position] += len(recording.found) - len(pairs)
        hours[position] += recording.seconds / _SECONDS_AN_HOUR
        of_group[position] += len(recording.true), len(recording.found)
    return EventScores(
        recordings=len(recordings),
        hours=float(hours.sum()),
        true_events=len(hit),
        found_events=len(right),
        recall=_share(hit, of_true, "no true events", level),
        precision=_share(right, of_found, "nothing was found", level),
        f1=_f1(of_group, of_group[:, 1] - false, seed, draws, level),
        false_events_an_hour=rate_of_events(false, hours, level=level),
        delay=mean(delays, of_pairs, level=level),
        onset_error=mean(np.abs(delays), of_pairs, level=level),
        least_overlap=least_overlap,
    )


def _share(hits: list[bool], groups: list[int], caveat: str, level: float) -> Estimate:
    return proportion(hits, groups, level=level) if hits else Estimate(None, level=level, caveat=caveat)


def _f1(counts: Floats, paired: Floats, seed: int, draws: int, level: float) -> Estimate:
    def statistic(weights: Floats) -> Floats:
        events = (weights * counts.sum(axis=1)).sum(axis=1)
        pairs = 2 * (weights * paired).sum(axis=1)
        score: Floats = np.divide(pairs, events, out=np.full(len(weights), np.nan), where=events > 0)
        return score

    found = by_bootstrap(statistic, len(counts), len(counts), seed=seed, draws=draws, level=level)
    if found.low is None or len(counts) >= FEW_GROUPS:
        return found
    few = f"only {counted(len(counts), 'group', 'groups')}: the interval is unreliable"
    return msgspec.structs.replace(found, caveat=joined(found.caveat, few))
