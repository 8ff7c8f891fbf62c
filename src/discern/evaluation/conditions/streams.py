"""A clip played as a live stream through a bad network, on a clock of its own: nothing waits.

- The same clip, network and seed give the same arrivals, and so the same windows.
- Frames arrive in the order of their arrival: what was overtaken comes late, and the windows take it as it comes.
- A network without jitter, loss or a lower quality changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from discern.core.errors import CallerError
from discern.core.verdict import InputFacts, Thresholds, Verdict
from discern.detectors.assessment import Assessment
from discern.evaluation.conditions.encodings import as_jpeg, decode_clip
from discern.evaluation.conditions.media import item_seed
from discern.evaluation.conditions.registry import LIVE_STREAM, NETWORKS
from discern.evaluation.statistics import mean, proportion
from discern.evaluation.types_conditions import StreamCurve, StreamPoint
from discern.inputs.prepare import prepare_media

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from discern.core.verdict import Decision
    from discern.detectors.assessment import Detector
    from discern.detectors.manifest import StreamRule
    from discern.evaluation.conditions.encodings import Clip
    from discern.evaluation.types import Item
    from discern.inputs.faces import FaceLocator
    from discern.inputs.spec import ImageSpec
    from discern.inputs.types import InputLimits, MediaContent, Prepared

FRAMES_A_SECOND = 5.0
MOST_FRAMES = 150
BEST_QUALITY = 90
_BURST = 3.0
"""Frames that a loss takes along, on average."""
_EPOCH = datetime.fromtimestamp(0, UTC)


class ClosedWindow(Protocol):
    """What is said of one window."""

    @property
    def measure(self) -> float:
        """In [0, 1]."""
        ...

    @property
    def decision(self) -> Decision:
        """The answer."""
        ...


class OpenWindows(Protocol):
    """The windows of one stream: takes verdicts in the order of their arrival, gives what each one closes."""

    def add(self, verdict: Verdict, at: float) -> Sequence[ClosedWindow]:
        """Take the verdict on an input that came at `at` seconds; return the windows that it closes."""
        ...


class Arrival(NamedTuple):
    """Frame number `frame` comes at `at` seconds, as a JPEG of `quality`."""

    at: float
    frame: int
    quality: int


class Closed(NamedTuple):
    """A window as it was closed at about `at` seconds."""

    at: float
    measure: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Player:
    """What clips are played to. `windows` opens those of one stream by the detector's rule."""

    detector: Detector
    spec: ImageSpec
    rule: StreamRule
    windows: Callable[[StreamRule], OpenWindows]
    limits: InputLimits
    locator: FaceLocator

    def closed(self, clip: Clip, arrivals: Sequence[Arrival]) -> list[Closed]:
        """Return the windows that the arrivals of a clip's frames close; a frame that cannot be judged says nothing."""
        windows = self.windows(self.rule)
        every = self.rule.every_seconds or self.rule.window_seconds
        found: list[Closed] = []
        for at, verdict in self._verdicts(clip, arrivals):
            shut = windows.add(verdict, at)
            # One arrival may close several windows, the last of which has ended just before it.
            found += [
                Closed(at - every * (len(shut) - 1 - place), one.measure, one.decision)
                for place, one in enumerate(shut)
            ]
        return found

    def _verdicts(self, clip: Clip, arrivals: Sequence[Arrival]) -> Iterator[tuple[float, Verdict]]:
        prepared: list[tuple[float, Prepared]] = []
        for arrival in arrivals:
            content = as_jpeg(clip.frames[arrival.frame], arrival.quality)
            try:
                prepared.append((arrival.at, prepare_media(content, self.spec, None, self.limits, self.locator)))
            except CallerError:
                continue
        if not prepared:
            return
        answers = self.detector.assess_many([one for _, one in prepared])
        for (at, one), answer in zip(prepared, answers, strict=True):
            if isinstance(answer, Assessment):
                yield at, self._verdict(answer, one.facts)

    def _verdict(self, answer: Assessment, facts: InputFacts) -> Verdict:
        manifest = self.detector.manifest
        return Verdict(
            id="",
            workspace="",
            detector=manifest.name,
            version=manifest.version,
            decision=answer.decision,
            label=answer.label,
            score=answer.score,
            thresholds=Thresholds(manifest.decision.review_from, manifest.decision.flag_from),
            decided_by=answer.decided_by,
            stages=answer.stages,
            input=facts,
            created_at=_EPOCH,
            milliseconds=0.0,
            degraded=answer.degraded,
        )


def arrivals(seconds: Sequence[float], network: Mapping[str, float], generator: np.random.Generator) -> list[Arrival]:
    """Return which frames come, when and how well, in the order in which they come.

    Delays are exponential with mean `jitter`. Losses come in bursts of three frames on average, by the two-state chain
    of Gilbert (Bell System Technical Journal 39, 1960), `loss` of all frames in the long run. Each second has a quality
    of its own, from `quality` up to what the sender would use.
    """
    frames = len(seconds)
    delays = generator.exponential(network["jitter"], frames) if network["jitter"] else np.zeros(frames)
    chances = generator.random(frames).tolist()
    least = int(network["quality"])
    qualities = generator.integers(least, BEST_QUALITY + 1, int(max(seconds, default=0.0)) + 1).tolist()
    begins = network["loss"] / (1 - network["loss"]) / _BURST
    losing = False
    found = []
    for frame, (second, delay, chance) in enumerate(zip(seconds, delays.tolist(), chances, strict=True)):
        losing = chance < (1 - 1 / _BURST if losing else begins)
        if not losing:
            found.append(Arrival(second + delay, frame, qualities[int(second)]))
    return sorted(found)


def as_sent(seconds: Sequence[float]) -> list[Arrival]:
    """Return the arrivals over a network that changes nothing."""
    return [Arrival(second, frame, BEST_QUALITY) for frame, second in enumerate(seconds)]


def stream_curve(clips: Iterator[tuple[Item, int, MediaContent]], player: Player, seed: int) -> StreamCurve:
    """Return what each network makes of the clips' windows; a clip comes with the number of its group."""
    tallies = [_Tally() for _ in NETWORKS]
    played = 0
    for item, group, content in clips:
        try:
            clip = _thinned(decode_clip(content, player.limits, MOST_FRAMES))
        except CallerError:
            continue
        played += 1
        clean = player.closed(clip, as_sent(clip.seconds))
        for position, network in enumerate(NETWORKS):
            drawn = np.random.Generator(np.random.PCG64(item_seed(item.sha256, LIVE_STREAM, position + 1, seed)))
            came = arrivals(clip.seconds, network, drawn)
            tallies[position].add(group, clip, came, clean, player.closed(clip, came), player.rule)
    if not tallies[0].windows:
        return StreamCurve(played, (), "No clip is long enough for a window." if played else "There are no clips.")
    return StreamCurve(played, tuple(tally.point(place + 1) for place, tally in enumerate(tallies)))


class _Tally:
    """What one network has made of the windows so far."""

    def __init__(self) -> None:
        self.windows: list[int] = []
        self._missing: list[bool] = []
        self._paired: list[tuple[int, bool, float]] = []
        self._sent = self._arrived = self._late = 0

    def add(
        self,
        group: int,
        clip: Clip,
        came: Sequence[Arrival],
        clean: Sequence[Closed],
        hurt: Sequence[Closed],
        rule: StreamRule,
    ) -> None:
        """Count one clip."""
        self._sent += len(clip.frames)
        self._arrived += len(came)
        self._late += sum(one.frame < before.frame for before, one in pairwise(came))
        for one, other in matched(clean, hurt, (rule.every_seconds or rule.window_seconds) / 2):
            self.windows.append(group)
            self._missing.append(other is None)
            if other is not None:
                self._paired.append((group, one.decision != other.decision, abs(one.measure - other.measure)))

    def point(self, strength: int) -> StreamPoint:
        """Return the figures."""
        network = NETWORKS[strength - 1]
        groups = np.array([group for group, _, _ in self._paired], np.int64)
        return StreamPoint(
            strength=strength,
            parameters=", ".join(f"{name} {value:g}" for name, value in network.items()),
            sent=self._sent,
            arrived=self._arrived,
            out_of_order=self._late,
            windows=len(self.windows),
            missing=proportion(self._missing, self.windows),
            differing=proportion([differs for _, differs, _ in self._paired], groups),
            change=mean([change for _, _, change in self._paired], groups),
        )


def matched(clean: Sequence[Closed], hurt: Sequence[Closed], apart: float) -> list[tuple[Closed, Closed | None]]:
    """Return for each window the one nearest in time of the other run, None where none is near; each is taken once."""
    left = list(hurt)
    found: list[tuple[Closed, Closed | None]] = []
    for one in clean:
        near = min(left, key=lambda other: abs(other.at - one.at), default=None)
        if near is None or abs(near.at - one.at) > apart:
            found.append((one, None))
            continue
        left.remove(near)
        found.append((one, near))
    return found


def _thinned(clip: Clip) -> Clip:
    """Return the frames that a sender of `FRAMES_A_SECOND` would send."""
    taken: list[int] = []
    for place, second in enumerate(clip.seconds):
        if not taken or second - clip.seconds[taken[-1]] >= 1 / FRAMES_A_SECOND - 1e-6:
            taken.append(place)
    return type(clip)(tuple(clip.seconds[place] for place in taken), tuple(clip.frames[place] for place in taken))
