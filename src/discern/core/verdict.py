"""The verdict: what a detector answered about one input, and how it came to it.

- `score` is the calibrated probability of the positive class, in [0, 1].
- `decision` follows from `score` and `thresholds` alone, except that a degraded verdict is always `review`.
- A verdict never changes after it was made; a cached or corrected answer is a verdict of its own.
- Nothing in a verdict can refer back to it, so the garbage collector need not look at any of it (`gc=False`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

Decision = Literal["clear", "review", "flag"]
InputKind = Literal["image", "video", "record", "stream"]


class Thresholds(msgspec.Struct, frozen=True, gc=False):
    """Two cut points on the calibrated score: below `review_from` clear, from `flag_from` flag, between them review."""

    review_from: float
    flag_from: float


class StageReading(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one stage did for one input.

    `score` is the stage's calibrated score (for video: pooled over the frames it saw), None when the stage failed.
    `milliseconds` is the input's share of the stage's run time. `rows` counts frames for video, 1 otherwise.
    """

    name: str
    score: float | None
    milliseconds: float
    rows: int = 1
    error: str | None = None


class FaceBox(msgspec.Struct, frozen=True, gc=False):
    """Where a face was found, in pixels of the upright image."""

    left: int
    top: int
    width: int
    height: int


class InputFacts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is kept about an input: never its content.

    `sha256` is of the bytes as sent; for a record, of its canonical JSON. `width` and `height` are in pixels, upright.
    `face` is "found", "not_found", or None where the detector does not look for one; `face_locator` is what looked, for
    another one crops otherwise. `frames` counts the frames that were judged, `frames_without_face` those among the
    sampled ones where no face was found. Of a window of a stream (`kind` "stream"), `sha256` is of the digests of its
    inputs, in their order and in hexadecimal, `bytes` their sum, `frames` their number and `seconds` its length.
    """

    kind: InputKind
    sha256: str
    bytes: int
    format: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    frames: int | None = None
    face: Literal["found", "not_found"] | None = None
    face_box: FaceBox | None = None
    face_locator: str | None = None
    frames_without_face: int | None = None


class FrameScore(msgspec.Struct, frozen=True, gc=False):
    """The score of one sampled video frame at `seconds` from the start."""

    seconds: float
    score: float
    decided_by: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that lasted, such as a blink: `start` is in seconds from the start of the window or clip."""

    name: str
    start: float
    seconds: float


class EventCount(msgspec.Struct, frozen=True, gc=False):
    """The events of one kind in a window: how many, how many in a minute of what is known, and how long they were."""

    name: str
    count: int
    per_minute: float
    mean_seconds: float
    longest_seconds: float


class MeasureReading(msgspec.Struct, frozen=True, gc=False):
    """One measure of a window in its own unit, and what it alone would decide."""

    name: str
    value: float
    decision: Decision


class Timeline(msgspec.Struct, frozen=True, gc=False):
    """What was seen in a window of a stream, or in the window of a clip that decided.

    `known` is the share of inputs that could be judged. `events` are told one by one up to a bound, `counts` tell of
    all; a kind that there were too few inputs for is in neither. `start` is where a clip's window begins, in seconds.
    """

    known: float
    measures: tuple[MeasureReading, ...]
    counts: tuple[EventCount, ...]
    events: tuple[Event, ...]
    start: float = 0.0


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """One answer, as it leaves the service and as it stands on the ledger.

    `label` is the class the decision asserts: the positive class for `flag`, the negative for `clear`, None for
    `review`. `degraded` names the failed stage when a later stage could not answer, or is "known" where too little of a
    window could be judged. `milliseconds` is decode to decision. `timeline` is there for windows whose detector looks
    for events. `variant` names the variant of the bundle whose models ran; it is left out where they are the stages'
    own.
    """

    id: str
    workspace: str
    detector: str
    version: str
    decision: Decision
    label: str | None
    score: float
    thresholds: Thresholds
    decided_by: str
    stages: tuple[StageReading, ...]
    input: InputFacts
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    milliseconds: float
    cached: bool = False
    degraded: str | None = None
    frames: tuple[FrameScore, ...] = ()
    timeline: Timeline | None = None
    variant: str | msgspec.UnsetType = msgspec.UNSET
