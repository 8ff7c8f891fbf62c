"""What conditions, streams and attacks come to: the part of a result that says how a detector holds up.

- A figure stands beside the same figure of the same items as they were; only items judged as they were count.
- What the door or the detector refuses under a condition is counted as lost, and is in no area under a curve.
- A condition that was not measured says why.
"""

from __future__ import annotations

import msgspec

from discern.evaluation.types import Estimate

FALL = 0.05
"""A fall of the AUC by more than this counts as one that matters."""


class Rates(msgspec.Struct, frozen=True):
    """Shares at the shipped thresholds, among the items that were judged."""

    flagged_positives: Estimate
    cleared_positives: Estimate
    flagged_negatives: Estimate


class ConditionPoint(msgspec.Struct, frozen=True):
    """One strength. `parameters` are what was done to each item.

    `difference` is the AUC less that of the same items as they were, paired; `p` is corrected (Holm) for all strengths
    of all conditions on this dataset. `lost` is the share of the items judged as they were that are not judged here.
    """

    strength: int
    parameters: str
    items: int
    auc: Estimate
    difference: Estimate
    p: float | None
    rates: Rates
    lost: Estimate
    lost_reasons: dict[str, int]


class ConditionCurve(msgspec.Struct, frozen=True):
    """One condition at its strengths; no points where it does not apply, and `caveat` says why.

    `falls_from` is the lowest strength at which the AUC is lower by more than `FALL`, None where it never is;
    `surely_falls_from` the lowest one where the whole interval of the difference is beyond it.
    """

    condition: str
    what: str
    points: tuple[ConditionPoint, ...]
    falls_from: int | None
    surely_falls_from: int | None
    caveat: str | None = None


class StreamPoint(msgspec.Struct, frozen=True):
    """What one network makes of the windows of the clips.

    `windows` are those of the clips as they were; `missing` is the share of them that has no counterpart, `differing`
    the share of the others that is decided otherwise, `change` the mean absolute change of their measure.
    """

    strength: int
    parameters: str
    sent: int
    arrived: int
    out_of_order: int
    windows: int
    missing: Estimate
    differing: Estimate
    change: Estimate


class StreamCurve(msgspec.Struct, frozen=True):
    """Clips played as live streams; no points where there was nothing to play, and `caveat` says why."""

    clips: int
    points: tuple[StreamPoint, ...]
    caveat: str | None = None


class AttackPoint(msgspec.Struct, frozen=True):
    """The share of attacked items that were `clear` after at most so many queries each."""

    queries: int
    success: Estimate


class AttackResult(msgspec.Struct, frozen=True):
    """A search, by answers alone, for changes that make positives pass as clear.

    `budget` is the most queries an item; `norm` says how much of an item may be changed. `attacked` are the positives
    that were not cleared as they were. `median_queries` is over the successes, None without one.
    """

    method: str
    norm: str
    budget: int
    attacked: int
    queries: int
    points: tuple[AttackPoint, ...]
    median_queries: float | None
    caveat: str | None = None


class DatasetConditions(msgspec.Struct, frozen=True):
    """Everything of one dataset; what was not asked for is None."""

    dataset: str
    items: int
    clean: Estimate
    curves: tuple[ConditionCurve, ...]
    stream: StreamCurve | None
    attack: AttackResult | None


class ConditionCurves(msgspec.Struct, frozen=True):
    """How a detector holds up on its datasets. `seed` is what everything drawn follows from."""

    seed: int
    fall: float
    datasets: tuple[DatasetConditions, ...]
