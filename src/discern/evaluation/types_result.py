"""What an evaluation comes to: one tree, which is the JSON, the page and the Markdown.

- Nothing here depends on the clock, on how many threads ran or on where the files lie; what does is in `Timings`.
- Every figure has its interval or says why it has none.
- A part that was not asked for is None, never an empty table.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from discern.evaluation.types import Estimate, Label

Finding = Literal["better", "worse", "not distinguishable"]


class DetectorFacts(msgspec.Struct, frozen=True):
    """The bundle that was measured. `signed_by` is None where no key that this installation trusts signed it."""

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


class Decided(msgspec.Struct, frozen=True):
    """What became of the items of one class at the shipped thresholds: shares with intervals, and counts."""

    name: str
    items: int
    counts: dict[str, int]
    shares: dict[str, Estimate]


class StageFlow(msgspec.Struct, frozen=True):
    """One stage of the cascade.

    `reached` items came to it, of which it decided `decided`. `cleared_positives` is the share of all positives that
    leave here as clear: what no later stage can mend. `auc_alone` is over all items, early exits off; `auc_of_reached`
    over those that came to it.
    """

    name: str
    reached: int
    decided: int
    share_decided: float
    cleared_positives: Estimate
    auc_alone: Estimate
    auc_of_reached: Estimate


class Point(msgspec.Struct, frozen=True):
    """A point of a curve: the figures on its two axes, and the score from which an item counts as positive."""

    x: float
    y: float
    score: float | None = None


class Bin(msgspec.Struct, frozen=True):
    """Items whose score lies from `low` up to `high`: how many, their mean score, and how many are positive."""

    low: float
    high: float
    items: int
    mean_score: float | None
    positive: Estimate


class Bar(msgspec.Struct, frozen=True):
    """How many items of each class have a score from `low` up to `high`."""

    low: float
    high: float
    negatives: int
    positives: int


class Subgroup(msgspec.Struct, frozen=True):
    """A part of a dataset: the items whose `of` is `value`."""

    of: str
    value: str
    items: int
    positives: int
    auc: Estimate
    flagged_positives: Estimate
    flagged_negatives: Estimate


class Mistake(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item that was judged most wrongly. `thumbnail` is a data URI, only where inputs may be shown."""

    id: str
    label: Label
    score: float
    decision: str
    decided_by: str
    thumbnail: str | None = None


class DatasetResult(msgspec.Struct, frozen=True):
    """One detector on one dataset."""

    name: str
    manifest_sha256: str
    items: int
    positives: int
    negatives: int
    groups: int
    not_scored: dict[str, int]
    degraded: int
    caveats: tuple[str, ...]
    metrics: dict[str, Estimate]
    decided: tuple[Decided, ...]
    roc: tuple[Point, ...]
    precision_recall: tuple[Point, ...]
    reliability: tuple[Bin, ...]
    histogram: tuple[Bar, ...]
    stages: tuple[StageFlow, ...]
    subgroups: tuple[Subgroup, ...]
    mistakes: tuple[Mistake, ...]
    leakage: Any = None


class CrossCell(msgspec.Struct, frozen=True):
    """AUC of the negatives of one dataset against the positives of another."""

    negatives_of: str
    positives_of: str
    auc: Estimate


class Compared(msgspec.Struct, frozen=True):
    """One figure of two detectors on the same items.

    `difference` is the measured detector's figure less the other's. `p` is after Holm's correction over all that was
    compared, `p_alone` before it. `items_that_would_tell` is how many items it would take to tell a difference of this
    size apart from chance four times in five, where this many do not.
    """

    dataset: str
    figure: str
    ours: float | None
    theirs: float | None
    difference: Estimate
    p_alone: float | None
    p: float | None
    finding: Finding
    items_that_would_tell: int | None = None


class Result(msgspec.Struct, frozen=True):
    """The whole. `platforms` and `conditions` are what those parts of the evaluation give, None where not measured."""

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
    platforms: Any
    conditions: Any
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
    """What differs from machine to machine, in a file of its own. `resumed` items were scored by an earlier run."""

    started_at: str
    machine: str
    threads: int
    seconds: dict[str, float]
    items_per_second: dict[str, float | None]
    resumed: dict[str, int]
    stages: tuple[StageTime, ...]
