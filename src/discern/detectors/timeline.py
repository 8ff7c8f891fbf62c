"""What a stretch of time says: events such as blinks and yawns, measures of them, and the decision they make together.

- Times are handed in, in seconds; nothing here reads a clock.
- What is not known counts for no measure and for no event, and makes nothing clear: where too little is known, what
  would be clear is `review`.
- A decision follows from the score and the thresholds of the measure that made it; of several the most severe stands.
- An event whose beginning or end was not seen counts only where its kind has no longest length.
- Equal samples give equal answers, and what is told of events is bounded by `MOST_EVENTS`.

Sources of the measures: Wierwille et al. (1994) and Dinges and Grace (1998, FHWA-MCRT-98-006) for the share of time
that eyes are closed (PERCLOS), Caffier et al. (2003) for blinks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import TYPE_CHECKING, NamedTuple

from discern.core.verdict import Event, EventCount, MeasureReading, Thresholds, Timeline

if TYPE_CHECKING:
    from discern.core.verdict import Decision
    from discern.detectors.manifest import EventMeasure, EventRule, StreamRule

MOST_EVENTS = 100
"""Events that are told one by one; of more, the longest."""

TOO_LITTLE_KNOWN = "known"
"""What a judgement is degraded by where too little is known."""

WHOLE_WINDOW = "window"
_MOST_WINDOWS = 1000
_SEVERITY: dict[Decision, int] = {"clear": 0, "review": 1, "flag": 2}


class Sample(NamedTuple):
    """One input at its time: its scores by stage, under None the verdict's; no `scores` for one that is not known."""

    at: float
    scores: Mapping[str | None, float] | None


class Judgement(NamedTuple):
    """What a window comes to.

    `score` and `thresholds` are those of the measure `decided_by`, in [0, 1]. `degraded` is `TOO_LITTLE_KNOWN` where
    that alone keeps it from being clear. `timeline` is None for a rule without events and without `known_from`.
    """

    score: float
    decision: Decision
    thresholds: Thresholds
    decided_by: str
    degraded: str | None
    timeline: Timeline | None


class _Stretch(NamedTuple):
    start: float
    seconds: float
    is_whole: bool


class _Gate(NamedTuple):
    """One measure with its thresholds, all divided by `scale` for the score."""

    name: str
    value: float
    review_at: float | None
    flag_at: float
    clear_below: float | None
    scale: float


class Judge:
    """Judges the windows of one stream, one after the other: a flag stays until its measure falls."""

    def __init__(self, rule: StreamRule) -> None:
        self._rule = rule
        self._flagged: set[str] = set()

    def judge(self, samples: Sequence[Sample], start: float, seconds: float) -> Judgement:
        """Judge the samples of a window that begins at `start`, in the order of their times."""
        rule = self._rule
        known = [sample for sample in samples if sample.scores is not None and rule.of in sample.scores]
        share = len(known) / len(samples) if samples else 0.0
        is_known = len(known) >= (1 if rule.known_from is None else rule.least) and share >= (rule.known_from or 0.0)
        counts, events = _counted(rule, samples, start, seconds)
        gates = [_Gate(WHOLE_WINDOW, _measure(rule, known), rule.review_at, rule.flag_at, rule.clear_below, 1.0)]
        gates += [_gate(one, rule, counts[one.event], seconds) for one in rule.also if one.event in counts]
        judged = [self._decided(gate, is_known or gate.name != WHOLE_WINDOW) for gate in gates]
        decided = max(judged, key=lambda one: _SEVERITY[one.decision])
        if decided.decision == "clear" and not is_known:
            decided = decided._replace(decision="review", degraded=TOO_LITTLE_KNOWN)
        if not rule.events and rule.known_from is None:
            return decided
        measures = tuple(
            MeasureReading(gate.name, round(gate.value, 6), one.decision)
            for gate, one in zip(gates, judged, strict=True)
        )
        return decided._replace(timeline=Timeline(round(share, 6), measures, tuple(counts.values()), events, start))

    def _decided(self, gate: _Gate, may_decide: bool) -> Judgement:
        flag_at = gate.flag_at
        if gate.name in self._flagged and gate.clear_below is not None:
            flag_at = gate.clear_below
        review_at = flag_at if gate.review_at is None else min(gate.review_at, flag_at)
        thresholds = Thresholds(min(1.0, review_at / gate.scale), min(1.0, flag_at / gate.scale))
        decision: Decision = "clear"
        if may_decide:
            decision = "flag" if gate.value >= flag_at else "review" if gate.value >= review_at else "clear"
            (self._flagged.add if decision == "flag" else self._flagged.discard)(gate.name)
        return Judgement(min(1.0, gate.value / gate.scale), decision, thresholds, gate.name, None, None)


def judge_clip(samples: Sequence[Sample], seconds: float, rule: StreamRule) -> Judgement:
    """Judge a clip of `seconds` by the worst of its windows, each by itself; a clip shorter than a window, as one.

    The last window ends with the clip. Of equally severe windows the one with the highest share of its threshold
    speaks, and of equals the first.
    """
    length = min(seconds, rule.window_seconds)
    last = seconds - length
    every = max(rule.every_seconds or rule.window_seconds, seconds / _MOST_WINDOWS)
    starts = [*takewhile(lambda start: start < last, (number * every for number in count())), last]
    times = [sample.at for sample in samples]
    found = []
    for start in starts:
        end = len(samples) if start == last else bisect_left(times, start + length)
        found.append(Judge(rule).judge(samples[bisect_left(times, start) : end], start, length))
    return max(found, key=lambda one: (_SEVERITY[one.decision], one.score / max(one.thresholds.flag_from, 1e-9)))


def stretches(samples: Sequence[Sample], rule: EventRule, gap_seconds: float) -> list[_Stretch]:
    """Return where the score stays at `rule.from_` or above.

    One begins with the first input from there on and ends with the first below; inputs further apart than `gap_seconds`
    are not of one stretch, and what lies between them is not known.
    """
    found: list[_Stretch] = []
    begun: float | None = None
    begin_seen = False
    last: float | None = None
    was_below = False
    for at, scores in samples:
        score = None if scores is None else scores.get(rule.of)
        if score is None:
            continue
        if last is not None and at - last > gap_seconds:
            if begun is not None:
                found.append(_Stretch(begun, last - begun, is_whole=False))
                begun = None
            was_below = False
        if score >= rule.from_:
            if begun is None:
                begun, begin_seen = at, was_below
            was_below = False
        else:
            if begun is not None:
                found.append(_Stretch(begun, at - begun, is_whole=begin_seen))
                begun = None
            was_below = True
        last = at
    if begun is not None and last is not None:
        found.append(_Stretch(begun, last - begun, is_whole=False))
    return found


def events_of(samples: Sequence[Sample], seconds: float, rule: StreamRule) -> dict[str, tuple[Event, ...]]:
    """Return the events of a clip of `seconds` by kind, each once, wherever windows begin or end.

    A kind that there are too few inputs for is left out.
    """
    return {
        name: tuple(Event(name, round(one.start, 3), round(one.seconds, 3)) for one in found)
        for name, (found, _) in _found(rule, samples, seconds).items()
    }


def _found(rule: StreamRule, samples: Sequence[Sample], seconds: float) -> dict[str, tuple[list[_Stretch], int]]:
    """Return for each kind that there are inputs enough for its events, and how many inputs are known."""
    found = {}
    for kind in rule.events:
        known = sum(one.scores is not None and kind.of in one.scores for one in samples)
        if known >= kind.least_per_second * seconds:
            found[kind.name] = [one for one in stretches(samples, kind, rule.gap_seconds) if _is_of(kind, one)], known
    return found


def _counted(
    rule: StreamRule, samples: Sequence[Sample], start: float, seconds: float
) -> tuple[dict[str, EventCount], tuple[Event, ...]]:
    """Count the events of each kind that there are inputs enough for, and tell of each, longest first where many."""
    counts: dict[str, EventCount] = {}
    events: list[Event] = []
    for name, (found, known) in _found(rule, samples, seconds).items():
        lengths = [one.seconds for one in found]
        minutes = seconds * (known / len(samples) if samples else 0.0) / 60
        counts[name] = EventCount(
            name=name,
            count=len(found),
            per_minute=round(len(found) / minutes, 3) if minutes else 0.0,
            mean_seconds=round(sum(lengths) / len(lengths), 3) if lengths else 0.0,
            longest_seconds=round(max(lengths, default=0.0), 3),
        )
        events += [Event(name, round(one.start - start, 3), round(one.seconds, 3)) for one in found]
    longest = sorted(events, key=lambda one: -one.seconds)[:MOST_EVENTS]
    return counts, tuple(sorted(longest, key=lambda one: (one.start, one.name)))


def _is_of(kind: EventRule, stretch: _Stretch) -> bool:
    # Times come from clocks that count in fractions: a length that is meant to be exact is a hair off.
    seconds = stretch.seconds + 1e-9
    if kind.longest_seconds is None:
        return seconds >= kind.shortest_seconds
    return stretch.is_whole and kind.shortest_seconds <= seconds and stretch.seconds - 1e-9 <= kind.longest_seconds


def _measure(rule: StreamRule, known: Sequence[Sample]) -> float:
    scores = [one.scores[rule.of] for one in known if one.scores is not None]
    if not scores:
        return 0.0
    if rule.measure == "fraction_above":
        least = rule.from_ or 0.0
        return sum(score >= least for score in scores) / len(scores)
    return max(scores) if rule.measure == "maximum" else sum(scores) / len(scores)


def _gate(one: EventMeasure, rule: StreamRule, counted: EventCount, seconds: float) -> _Gate:
    """Put a measure of events beside its thresholds; 1 is as much of it as a window can hold."""
    kind = next(kind for kind in rule.events if kind.name == one.event)
    value = float(getattr(counted, one.measure))
    scale = {
        "count": seconds / kind.shortest_seconds,
        "per_minute": 60 / kind.shortest_seconds,
    }.get(one.measure, rule.window_seconds)
    return _Gate(f"{one.event}.{one.measure}", value, one.review_at, one.flag_at, one.clear_below, scale)
