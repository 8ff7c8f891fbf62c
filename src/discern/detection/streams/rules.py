"""Windows over a stream: verdicts with their times in, the measure of each window out.

- Time is handed in, in seconds, and is that of arrival; nothing here reads a clock.
- A window is closed by the first input after its end, or not at all: the last, unfinished one gets no verdict.
- A window holds the inputs in [end - window_seconds, end).
- An input that nothing can be said of, such as a frame without a face, counts for no measure; it closes windows too.
- What a window holds is bounded by the number of inputs that come in its time; nothing older is kept.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from discern.detectors.timeline import Judge, Judgement, Sample

if TYPE_CHECKING:
    from discern.core.verdict import Decision, Verdict
    from discern.detectors.manifest import StreamRule


@dataclass(frozen=True, slots=True)
class Window:
    """What is to be said of one window: how its inputs were judged, and what they were.

    `decision` and `degraded` are the judgement's, but for a stage that failed on some input where the window would be
    clear otherwise; it is `review` then. `inputs` counts those that are known.
    """

    judged: Judgement
    decision: Decision
    degraded: str | None
    inputs: int
    bytes: int
    sha256: str

    @property
    def measure(self) -> float:
        """The deciding measure, in [0, 1]."""
        return self.judged.score


class _Seen(NamedTuple):
    """One input; of one that is not known there are no scores, and neither bytes nor digest."""

    sample: Sample
    bytes: int = 0
    sha256: str = ""
    degraded: str | None = None


class Windows:
    """The windows of one stream, one after the other."""

    def __init__(self, rule: StreamRule) -> None:
        self._rule = rule
        self._every = rule.every_seconds or rule.window_seconds
        self._judge = Judge(rule)
        self._seen: deque[_Seen] = deque()
        self._end: float | None = None

    def add(self, verdict: Verdict, at: float) -> list[Window]:
        """Take the verdict on an input that came at `at`, not before the one before it; return what that closes.

        Windows in which too few inputs came are left out.
        """
        closed = self._until(at)
        scores: dict[str | None, float] = {
            reading.name: reading.score for reading in verdict.stages if reading.score is not None
        }
        scores[None] = verdict.score
        if self._rule.of in scores:
            facts = verdict.input
            self._seen.append(_Seen(Sample(at, scores), facts.bytes, facts.sha256, verdict.degraded))
        return closed

    def add_unknown(self, at: float) -> list[Window]:
        """Take an input that came at `at` and that nothing can be said of; return what that closes."""
        closed = self._until(at)
        if self._rule.known_from is not None:
            self._seen.append(_Seen(Sample(at, None)))
        return closed

    def _until(self, at: float) -> list[Window]:
        if self._end is None:
            self._end = at + self._rule.window_seconds
        closed: list[Window] = []
        while at >= self._end:
            inside = self._inside(self._end)
            if len(inside) >= self._rule.least:
                closed.append(self._window(inside, self._end - self._rule.window_seconds))
            if not self._seen and at - self._end > self._rule.window_seconds:
                # Nothing came for long: the windows begin anew.
                self._end = at + self._rule.window_seconds
                break
            self._end += self._every
        return closed

    def _inside(self, end: float) -> list[_Seen]:
        while self._seen and self._seen[0].sample.at < end - self._rule.window_seconds:
            self._seen.popleft()
        inside = [seen for seen in self._seen if seen.sample.at < end]
        following = end + self._every - self._rule.window_seconds
        while self._seen and self._seen[0].sample.at < following:
            self._seen.popleft()
        return inside

    def _window(self, inside: list[_Seen], start: float) -> Window:
        judged = self._judge.judge([seen.sample for seen in inside], start, self._rule.window_seconds)
        known = [seen for seen in inside if seen.sample.scores is not None]
        failed = next((seen.degraded for seen in known if seen.degraded), None)
        degraded = failed if judged.decision == "clear" else judged.degraded
        digest = hashlib.sha256("".join(seen.sha256 for seen in known).encode()).hexdigest()
        return Window(
            judged=judged,
            decision="review" if degraded else judged.decision,
            degraded=degraded,
            inputs=len(known),
            bytes=sum(seen.bytes for seen in known),
            sha256=digest,
        )
