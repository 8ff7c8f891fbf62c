"""What an evaluation comes to: one tree, which is the JSON, the page and the Markdown.

- Nothing in `Result` depends on the clock, on how many threads ran or on where the files lie; what does is in
  `Timings`.
- Every figure has its interval or says why it has none.
- A part that was not asked for is None, never an empty table.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import msgspec

from discern.evaluation.cascades import CascadeFlow, CascadeLatency
from discern.evaluation.comparisons import Comparison
from discern.evaluation.events import EventTable
from discern.evaluation.metrics import OperatingPoint, Subgroup
from discern.evaluation.metrics_calibration import Calibration
from discern.evaluation.metrics_videos import VideoResult
from discern.evaluation.types import Bar, Estimate, ItemKind, Label, Point
from discern.evaluation.types_conditions import ConditionCurves
from discern.evaluation.types_datasets import Leakage
from discern.evaluation.types_platforms import PlatformTable


class BandFacts(msgspec.Struct, frozen=True):
    """The thresholds of records in which the field is `start` or more."""

    start: float
    review_from: float
    flag_from: float


class BandsFacts(msgspec.Struct, frozen=True):
    """The field that the thresholds depend on, and its bands by rising start."""

    field: str
    steps: tuple[BandFacts, ...]


class DetectorFacts(msgspec.Struct, frozen=True):
    """The bundle that was measured. `signed_by` is None where no key that this installation trusts signed it.

    `variant` is that whose models ran, None for the stages' own. With `bands`, `review_from` and `flag_from` are those
    below the first.
    """

    name: str
    version: str
    bundle_sha256: str
    task: str
    negative: str
    positive: str
    stages: tuple[str, ...]
    review_from: float
    flag_from: float
    signed_by: str | None
    variant: str | None = None
    bands: BandsFacts | None = None


class SubgroupTable(msgspec.Struct, frozen=True):
    """A dataset broken down by what `of` names, such as the manipulation."""

    of: str
    lines: tuple[Subgroup, ...]


class Mistake(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item that was judged most wrongly. `thumbnail` is a data URI, only where inputs may be shown."""

    id: str
    label: Label
    score: float
    decision: str
    decided_by: str
    thumbnail: str | None = None


class DatasetResult(msgspec.Struct, frozen=True):
    """One detector on one dataset, or on the side of it that `split` names.

    `metrics` are by name; the calibration error stands in `calibration`. `degraded` counts the items that fewer stages
    judged because one failed. `cascade` is None for a detector of one stage, and for clips that are judged by windows.
    `videos` is there where the items are frames of videos, `events` where the dataset says when what happened.
    `leakage` is between the sides of the dataset, and where asked for between it and the training data.
    """

    name: str
    kind: ItemKind
    split: str | None
    manifest_sha256: str
    items: int
    positives: int
    negatives: int
    groups: int
    not_scored: dict[str, int]
    degraded: int
    caveats: tuple[str, ...]
    metrics: dict[str, Estimate]
    operating: OperatingPoint
    roc: tuple[Point, ...]
    precision_recall: tuple[Point, ...]
    calibration: Calibration
    histogram: tuple[Bar, ...]
    cascade: CascadeFlow | None
    videos: VideoResult | None
    events: tuple[EventTable, ...] | None
    subgroups: tuple[SubgroupTable, ...]
    mistakes: tuple[Mistake, ...]
    leakage: tuple[Leakage, ...]


class CrossCell(msgspec.Struct, frozen=True):
    """AUC of the negatives of one dataset against the positives of another."""

    negatives_of: str
    positives_of: str
    auc: Estimate


class Compared(msgspec.Struct, frozen=True):
    """A figure of the measured detector (candidate) and of the other one (baseline) on the items of a dataset."""

    dataset: str
    comparison: Comparison


class Result(msgspec.Struct, frozen=True):
    """The whole. `platforms` holds no times here, and `conditions` is None where none was asked for."""

    format: int
    verdict: str
    detector: DetectorFacts
    against: DetectorFacts | None
    command: str
    seed: int
    level: float
    datasets: tuple[DatasetResult, ...]
    cross: tuple[CrossCell, ...]
    compared: tuple[Compared, ...]
    platforms: PlatformTable | None
    conditions: ConditionCurves | None
    caveats: tuple[str, ...]
    versions: dict[str, str]


class StageTime(msgspec.Struct, frozen=True):
    """Milliseconds that a stage took for an item, and how many items it was measured on."""

    dataset: str
    stage: str
    items: int
    median: float | None
    p95: float | None


class Timings(msgspec.Struct, frozen=True):
    """What differs from machine to machine, in a file of its own.

    `seconds` are those of each dataset, under `conditions` those of all conditions, streams and attacks together; of a
    run that went on, of what was left.
    `resumed` items were scored by an earlier run. `latency` is what an item takes in the cascade, by dataset.
    `platforms` is the table of the result with its times and memory.
    """

    started_at: str
    machine: str
    threads: int
    seconds: dict[str, float]
    items_per_second: dict[str, float | None]
    resumed: dict[str, int]
    stages: tuple[StageTime, ...]
    latency: dict[str, CascadeLatency]
    platforms: PlatformTable | None = None
