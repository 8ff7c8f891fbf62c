"""Windows over a stream: verdicts with their times in, the measure of each window out.

- Time is handed in, in seconds, and is that of arrival; nothing here reads a clock.
- A window is closed by the first input after its end, or not at all: the last, unfinished one gets no verdict.
- A window holds the inputs in [end - window_seconds, end).
- What a window holds is bounded by the number of inputs that come in its time; nothing older is kept.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from discern.core.verdict import Thresholds

if TYPE_CHECKING:
    from discern.core.verdict import Decision, Verdict
    from discern.detectors.manifest import StreamRule


@dataclass(frozen=True, slots=True)
class Window:
    """What is to be said of one window. `measure` is in [0, 1]; `thresholds` are those that made the decision.

    `degraded` names a stage that failed on some of it where the window would be clear otherwise; it is `review` then.
    """

    measure: float
    decision: Decision
    thresholds: Thresholds
    inputs: int
    bytes: int
    sha256: str
    degraded: str | None


class _Seen(NamedTuple):
    at: float
    score: float
    bytes: int
    sha256: str
    degraded: str | None


class Windows:
    """The windows of one stream, one after the other."""

    def __init__(self, rule: StreamRule) -> None:
        self._rule = rule
        self._every = rule.every_seconds or rule.window_seconds
        self._seen: deque[_Seen] = deque()
        self._end: float | None = None
        self._flagged = False

    def add(self, verdict: Verdict, at: float) -> list[Window]:
        """Take the verdict on an input that came at `at`, not before the one before it; return what that closes.

        Windows in which too few inputs came are left out.
        """
        closed = self._until(at)
        score = self._score(verdict)
        if score is not None:
            facts = verdict.input
            self._seen.append(_Seen(at, score, facts.bytes, facts.sha256, verdict.degraded))
        return closed

    def _until(self, at: float) -> list[Window]:
        if self._end is None:
            self._end = at + self._rule.window_seconds
        closed: list[Window] = []
        while at >= self._end:
            inside = self._inside(self._end)
            if len(inside) >= self._rule.least:
                closed.append(self._window(inside))
            if not self._seen and at - self._end > self._rule.window_seconds:
                # Nothing came for long: the windows begin anew.
                self._end = at + self._rule.window_seconds
                break
            self._end += self._every
        return closed

    def _inside(self, end: float) -> list[_Seen]:
        while self._seen and self._seen[0].at < end - self._rule.window_seconds:
            self._seen.popleft()
        inside = [seen for seen in self._seen if seen.at < end]
        following = end + self._every - self._rule.window_seconds
        while self._seen and self._seen[0].at < following:
            self._seen.popleft()
        return inside

    def _window(self, inside: list[_Seen]) -> Window:
        rule = self._rule
        scores = [seen.score for seen in inside]
        if rule.measure == "fraction_above":
            least = rule.from_ or 0.0
            measure = sum(score >= least for score in scores) / len(scores)
        else:
            measure = max(scores) if rule.measure == "maximum" else sum(scores) / len(scores)
        flag_from = rule.flag_at
        if self._flagged and rule.clear_below is not None:
            flag_from = rule.clear_below
        review_from = flag_from if rule.review_at is None else min(rule.review_at, flag_from)
        decision: Decision = "flag" if measure >= flag_from else "review" if measure >= review_from else "clear"
        self._flagged = decision == "flag"
        degraded = next((seen.degraded for seen in inside if seen.degraded), None) if decision == "clear" else None
        digest = hashlib.sha256("".join(seen.sha256 for seen in inside).encode()).hexdigest()
        return Window(
            measure,
            "review" if degraded else decision,
            Thresholds(review_from, flag_from),
            len(inside),
            sum(seen.bytes for seen in inside),
            digest,
            degraded,
        )

    def _score(self, verdict: Verdict) -> float | None:
        if self._rule.of is None:
            return verdict.score
        return next((reading.score for reading in verdict.stages if reading.name == self._rule.of), None)
