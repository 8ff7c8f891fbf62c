"""The nouns of evaluation.

- A result names the dataset it was measured on by the digest of its frozen manifest.
- An estimate without data is no number: `value` is None and `caveat` says why.
- Columns of one `Examples` or `Scored` have the same length, and row i of each is the same item.
- Nothing here holds a time or a duration but `Scored.milliseconds`, so that what follows from the rest is the same on
  every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Label = Literal[0, 1]
"""1 is the positive class of the detector, what it looks for; 0 the negative one."""

ItemKind = Literal["image", "video", "record"]

Spans = tuple[tuple[float, float], ...]
"""Stretches of time: where each starts and how long it lasts, in seconds."""


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One labelled input of a dataset.

    `id` is unique in the dataset and the same on every machine: the path below the root (`archive.tar!member` inside an
    archive), or `FILE#ROW` of a table. `sha256` is of the bytes as they are stored, of a record of its canonical JSON.
    `group` names what must not stand on both sides of a split: a person, a video, a customer, a day. `split` is the
    dataset's own word for the side, such as `train`. `subgroups` are what tables are broken down by, such as the
    manipulation or the compression. `amount` is what is at stake, in the dataset's currency; `at` an ISO 8601 time or
    day; `frames` the positions of the frames that are judged, and `crop` the box (left, top, width, height) in pixels
    where the dataset gives one. `video` names what a frame is of, where items are frames; `events` holds by its name
    each kind of event that was looked for in a clip, with all there are.
    """

    id: str
    label: Label
    sha256: str
    group: str
    split: str | None = None
    subgroups: dict[str, str] = {}
    amount: float | None = None
    at: str | None = None
    frames: tuple[int, ...] | None = None
    crop: tuple[int, int, int, int] | None = None
    video: str | None = None
    events: dict[str, Spans] | None = None


class ClipEvents(msgspec.Struct, frozen=True):
    """What a detector saw happen in a clip of `seconds`: by name each kind of event that it had frames enough for."""

    seconds: float
    kinds: dict[str, Spans]


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A figure with its interval at `level`, by `method`, or None with a `caveat` that says why there is none.

    `caveat` may also stand beside a figure that holds with a reservation.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = ""
    caveat: str | None = None


class Point(msgspec.Struct, frozen=True):
    """A point of a curve: the figures on its two axes, and the score from which an item counts as positive."""

    x: float
    y: float
    score: float | None = None


class Bar(msgspec.Struct, frozen=True):
    """How many items of each class have a score from `low` up to `high`."""

    low: float
    high: float
    negatives: int
    positives: int


@dataclass(frozen=True, slots=True)
class Examples:
    """The labelled items of a dataset, or of a part of it, as columns of n rows.

    `labels` int8 [n]; `groups` int64 [n], a number for each group, as everything that resamples wants them;
    `subgroups` holds per name the values, object [n]; `amounts` float64 [n] and `days` int64 [n] (days since
    1970-01-01) or None where the dataset has none; `cards` int64 [n] numbers the entities that are blocked together.
    `dataset` is its name and `manifest_sha256` the digest of its frozen manifest. `videos` object [n] names what each
    frame is of, None where items are no frames; `events` holds by row what is true of a clip, as `Item` does.
    """

    dataset: str
    manifest_sha256: str
    ids: tuple[str, ...]
    labels: NDArray[np.int8]
    groups: NDArray[np.int64]
    subgroups: dict[str, NDArray[np.object_]] = field(default_factory=dict)
    amounts: NDArray[np.float64] | None = None
    days: NDArray[np.int64] | None = None
    cards: NDArray[np.int64] | None = None
    videos: NDArray[np.object_] | None = None
    events: dict[int, dict[str, Spans]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a detector made of the examples.

    `score` float64 [n] is the cascade's calibrated score, NaN where there is none, and `errors` then says why.
    `stage_scores` float64 [n, s] holds every stage's calibrated score for every row, early exits off, NaN where a stage
    failed. `decided_by` int16 [n] is the position of the stage that decided with exits on, `decision` int8 [n] the
    position in `discern.detectors.scoring.DECISIONS`, -1 without a score; `alone` is what the last stage alone would
    decide, at the same thresholds. `milliseconds` float64 [n, s] is what each stage took, measured apart from the rest,
    or None. `events` holds by row what a detector that tells of events saw in a clip.
    """

    examples: Examples
    detector: str
    version: str
    bundle_sha256: str
    stages: tuple[str, ...]
    score: NDArray[np.float64]
    stage_scores: NDArray[np.float64]
    decided_by: NDArray[np.int16]
    decision: NDArray[np.int8]
    alone: NDArray[np.int8]
    errors: dict[int, str]
    milliseconds: NDArray[np.float64] | None = None
    events: dict[int, ClipEvents] = field(default_factory=dict)
