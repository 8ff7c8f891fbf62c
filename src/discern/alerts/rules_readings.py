"""What the functions of rules make of readings. Pure but for the memory of past readings.

- A counter that falls was reset: what it has from there on is added (as Prometheus does).
- A series that was not there a reading ago began at nought. It is not known what went before at the first reading, at
  one that comes after a long pause, and of a metric of the database of which nothing was there, which may have been
  late.
- What cannot be measured has no value: a metric that is not there, a window with one reading. Where there was too
  little to judge, nothing to divide by, the value is no number, which is over no threshold and under none.
- Times are of a monotonic clock. Of each series some dozen points are kept, whatever the window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_matching import matches
from discern.alerts.types import Labels, Rule, Selector
from discern.monitoring.types import Sample

_POINTS = 12
_MOST_SERIES = 20_000
# After so much time without a reading of it a series is forgotten.
_FORGOTTEN = 300.0
_PAUSE = 60.0
# It is over no threshold and under none.
_NOT_JUDGED = math.nan
Series = tuple[str, ...]


class _Track:
    """One counter over time: its sum, past its resets, at some points of time."""

    __slots__ = ("at", "last", "pause", "points", "total")

    def __init__(self, at: float, value: float) -> None:
        self.at, self.last, self.total, self.pause = at, value, value, 0.0
        self.points: deque[tuple[float, float]] = deque([(at, value)])

    def add(self, at: float, value: float, spacing: float, keep: float) -> None:
        self.total += value - self.last if value >= self.last else value
        self.at, self.last, self.pause = at, value, at - self.at
        if at - self.points[-1][0] >= spacing:
            self.points.append((at, self.total))
        while len(self.points) > 1 and self.points[0][0] < at - keep:
            self.points.popleft()

    def increase(self, start: float, end: float) -> float | None:
        """Return the increase in a window; None where it holds fewer than two points.

        Where it was not there from the beginning of the window it is made out to it as Prometheus does: by half the
        pause between readings, or as far as to where it was nought.
        """
        inside = [point for point in self.points if start <= point[0] <= end]
        if start <= self.at <= end and (not inside or inside[-1][0] < self.at):
            inside.append((self.at, self.total))
        if len(inside) < 2:
            return None
        (first_at, first), (last_at, last) = inside[0], inside[-1]
        earlier = next((point for point in reversed(self.points) if point[0] < start), None)
        if earlier is not None:
            first_at, first = start, _between(earlier, inside[0], start)
        later = next((point for point in (*self.points, (self.at, self.total)) if point[0] > end), None)
        if later is not None:
            last_at, last = end, _between(inside[-1], later, end)
        sampled, found = last_at - first_at, last - first
        before, after = first_at - start, end - last_at
        if found > 0 and first >= 0:
            # It began at nought: it cannot have grown before that.
            before = min(before, sampled * first / found)
        before = before if before < self.pause * 1.1 else self.pause / 2
        after = after if after < self.pause * 1.1 else self.pause / 2
        return found * (sampled + before + after) / sampled


def _between(one: tuple[float, float], other: tuple[float, float], at: float) -> float:
    """Return the value at a time on the line through two points."""
    return one[1] + (other[1] - one[1]) * (at - one[0]) / (other[0] - one[0])


class _Past:
    """The series of one selector over the longest window that is asked of it."""

    def __init__(self, selector: Selector, names: tuple[str, ...], *, is_of_the_machine: bool) -> None:
        self.selector = selector
        self._is_never_late = is_of_the_machine
        self._was_there = False
        self.names = names
        self.window = 0.0
        self.spacing = math.inf
        self.tracks: dict[Series, _Track] = {}
        self._read_at = -math.inf

    def ask(self, window: float, offset: float = 0.0) -> None:
        """Keep what such a window needs."""
        self.window = max(self.window, window + offset)
        self.spacing = min(self.spacing, window / _POINTS)

    def add(self, at: float, samples: Iterable[tuple[Series, float]], *, is_there: bool) -> None:
        """Take a reading; `is_there` says whether it has anything of the metric, be it of other series."""
        keep = self.window + self.spacing
        is_known = at - self._read_at <= _PAUSE and (self._was_there or self._is_never_late)
        for labels, value in samples:
            track = self.tracks.get(labels)
            if track is not None:
                track.add(at, value, self.spacing, keep)
            elif len(self.tracks) < _MOST_SERIES:
                self.tracks[labels] = _Track(self._read_at, 0.0) if is_known else _Track(at, value)
                if is_known:
                    self.tracks[labels].add(at, value, 0.0, keep)
        self._read_at, self._was_there = at, is_there
        for labels in [one for one, track in self.tracks.items() if at - track.at > self.window + _FORGOTTEN]:
            del self.tracks[labels]


class Memory:
    """The readings of the past, as far as the rules need them, and what the rules make of them."""

    def __init__(self, rules: Sequence[Rule], known: Known) -> None:
        self._known = known
        self._pasts: dict[tuple[Selector, bool], _Past] = {}
        self._present: dict[str, list[Sample]] = {}
        self._at = 0.0
        for rule in rules:
            for selector in _counters_of(rule):
                self._past(rule, selector).ask(rule.window)
                if rule.function == "stopped":
                    self._past(rule, selector).ask(rule.before, offset=rule.window)

    def add(self, at: float, samples: Iterable[Sample]) -> None:
        """Take a reading at a time of the monotonic clock, in seconds."""
        present: dict[str, list[Sample]] = {}
        for sample in samples:
            present.setdefault(sample.name, []).append(sample)
        self._present, self._at = present, at
        for past in self._pasts.values():
            selected = self._selected(past.selector, past.names)
            is_there = past.selector.metric in present
            past.add(at, ((sample.labels, sample.value) for sample in selected), is_there=is_there)

    def counted(self) -> list[Sample]:
        """Return the samples of the present reading that later ones are held against."""
        metrics = {past.selector.metric for past in self._pasts.values()}
        return [sample for metric in sorted(metrics) for sample in self._present.get(metric, ())]

    def observe(self, rule: Rule) -> dict[Labels, float]:
        """Return what a rule measures, by the values of the labels it goes by."""
        return _FUNCTIONS[rule.function](self, rule)

    def _past(self, rule: Rule, selector: Selector) -> _Past:
        # Windows of very different lengths are kept apart, or the short one would make the long one dear.
        key = (selector, rule.window > 1800)
        if key not in self._pasts:
            is_of_the_machine = self._known.scope(selector.metric) == "machine"
            names = self._known.labels(selector.metric) or ()
            self._pasts[key] = _Past(selector, names, is_of_the_machine=is_of_the_machine)
        return self._pasts[key]

    def _selected(self, selector: Selector, names: tuple[str, ...]) -> list[Sample]:
        there = [one for one in self._present.get(selector.metric, ()) if math.isfinite(one.value)]
        if not selector.matchers:
            return there
        return [one for one in there if matches(selector.matchers, dict(zip(names, one.labels, strict=False)))]

    def _value(self, rule: Rule) -> dict[Labels, float]:
        names = self._known.labels(rule.metric.metric) or ()
        found: dict[Labels, float] = {}
        combine = _COMBINED[rule.combine]
        for sample in self._selected(rule.metric, names):
            key = _grouped(rule.by, names, sample.labels)
            found[key] = combine([found[key], sample.value]) if key in found else sample.value
        return found

    def _absent(self, rule: Rule) -> dict[Labels, float]:
        names = self._known.labels(rule.metric.metric) or ()
        if not self._present:  # nothing is measured here, so nothing is missing
            return {}
        equal = {one.label: one.value for one in rule.metric.matchers if one.operator == "="}
        is_there = bool(self._selected(rule.metric, names))
        return {tuple((name, equal.get(name, "")) for name in rule.by): 0.0 if is_there else 1.0}

    def _increases(
        self, rule: Rule, selector: Selector, by: tuple[str, ...], window: float, offset: float = 0.0
    ) -> dict[Labels, float]:
        past = self._past(rule, selector)
        end = self._at - offset
        found: dict[Labels, float] = {}
        for labels, track in past.tracks.items():
            increase = track.increase(end - window, end)
            if increase is not None:
                key = _grouped(by, past.names, labels)
                found[key] = found.get(key, 0.0) + increase
        return found

    def _increase(self, rule: Rule) -> dict[Labels, float]:
        return self._increases(rule, rule.metric, rule.by, rule.window)

    def _rate(self, rule: Rule) -> dict[Labels, float]:
        return {key: found / rule.window for key, found in self._increase(rule).items()}

    def _ratio(self, rule: Rule) -> dict[Labels, float]:
        assert rule.over is not None  # noqa: S101 - a ratio has it
        parts = self._increase(rule)
        whole = self._increases(rule, rule.over, rule.by, rule.window)
        return {
            key: parts[key] / of if of > 0 and of >= rule.at_least else _NOT_JUDGED
            for key, of in whole.items()
            if key in parts
        }

    def _stopped(self, rule: Rule) -> dict[Labels, float]:
        there = self._increase(rule)
        before = self._increases(rule, rule.metric, rule.by, rule.before, offset=rule.window)
        least = max(rule.at_least, 0.5)
        return {key: float(not found and before.get(key, 0.0) >= least) for key, found in there.items()}

    def _quantile(self, rule: Rule) -> dict[Labels, float]:
        bucket = Selector(f"{rule.metric.metric}_bucket", rule.metric.matchers)
        grown = self._increases(rule, bucket, (*rule.by, "le"), rule.window)
        buckets: dict[Labels, list[tuple[float, float]]] = {}
        for labels, increase in grown.items():
            buckets.setdefault(labels[:-1], []).append((float(labels[-1][1]), increase))
        quantiles: dict[Labels, float] = {}
        for key, counts in buckets.items():
            counts.sort()
            value = quantile_of(rule.quantile, counts) if counts[-1][1] >= rule.at_least else None
            quantiles[key] = _NOT_JUDGED if value is None else value
        return quantiles


def quantile_of(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Return a quantile of cumulative buckets, from their upper bounds in order, as `histogram_quantile` does.

    None where the last bucket is not of infinity, or there are no observations. It lies within its bucket on a line;
    beyond the last finite bound it is that bound.
    """
    if len(buckets) < 2 or not math.isinf(buckets[-1][0]):
        return None
    counts: list[float] = []
    for _, count in buckets:  # buckets are read one after the other, so that one may be behind the one below it
        counts.append(max(count, counts[-1] if counts else 0.0))
    rank = share * counts[-1]
    if counts[-1] <= 0:
        return None
    place = next(index for index, count in enumerate(counts) if count >= rank)
    if place == len(buckets) - 1:
        return buckets[-2][0]
    upper = buckets[place][0]
    if place == 0 and upper <= 0:
        return upper
    lower, below = (0.0, 0.0) if place == 0 else (buckets[place - 1][0], counts[place - 1])
    inside = counts[place] - below
    return upper if inside <= 0 else lower + (upper - lower) * (rank - below) / inside


def _counters_of(rule: Rule) -> list[Selector]:
    if not rule.is_counted:
        return []
    if rule.function == "quantile":
        return [Selector(f"{rule.metric.metric}_bucket", rule.metric.matchers)]
    return [rule.metric] if rule.over is None else [rule.metric, rule.over]


def _grouped(by: tuple[str, ...], names: tuple[str, ...], values: tuple[str, ...]) -> Labels:
    there = dict(zip(names, values, strict=False))
    return tuple((name, there.get(name, "")) for name in by)


_COMBINED: dict[str, Callable[[list[float]], float]] = {"max": max, "min": min, "sum": sum}
_FUNCTIONS: dict[str, Callable[[Memory, Rule], dict[Labels, float]]] = {
    "value": Memory._value,  # noqa: SLF001 - the table of its own
    "absent": Memory._absent,  # noqa: SLF001
    "increase": Memory._increase,  # noqa: SLF001
    "rate": Memory._rate,  # noqa: SLF001
    "ratio": Memory._ratio,  # noqa: SLF001
    "stopped": Memory._stopped,  # noqa: SLF001
    "quantile": Memory._quantile,  # noqa: SLF001
}
