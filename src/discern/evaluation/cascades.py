"""What each stage of a cascade does, and what its early exits cost against its last stage alone.

- Every row has the score of every stage, so that the cascade with its exits and the last stage alone are compared on
  the same rows, in pairs.
- A row without a score is in no share; `without_score` counts it.
- Durations stand apart from all other figures, for they are another on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.evaluation.comparisons import Comparison, compare_areas, compare_decisions, with_verdicts
from discern.evaluation.metrics import area_under_roc
from discern.evaluation.statistics import LEVEL, joined, mean, proportion
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from discern.evaluation.types import Scored

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

_CLEAR, _FLAG = 0, 2


class StageFlow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stage: how many items reach it, and what it decides of them.

    `reached` and `decided` are shares of all items, `leakage` the share of all positives that the stage clears,
    `false_flags` the share of all negatives that it flags. `area_under_roc` is that of the stage's own score on the
    items that reach it, which the stages before found hard: it is no figure of the stage on all items.
    """

    name: str
    items: int
    reached: Estimate
    decided: Estimate
    leakage: Estimate
    false_flags: Estimate
    area_under_roc: Estimate


class CascadeFlow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stages in their order, and the exits against the last stage alone.

    `missed` is the share of positives that any stage clears. `same_decision` is the share of items that the last stage
    alone decides alike. `exits` compares the cascade (candidate) with the last stage alone (baseline). `cost` is the
    mean cost of an item by the costs of the stages, `cost_without_exits` what all stages cost.
    """

    stages: tuple[StageFlow, ...]
    missed: Estimate
    same_decision: Estimate
    exits: tuple[Comparison, ...]
    without_score: int = 0
    cost: Estimate | None = None
    cost_without_exits: float | None = None


class CascadeLatency(msgspec.Struct, frozen=True, omit_defaults=True):
    """Milliseconds of an item: with exits, and through all stages. Percentiles are of the items, with exits."""

    with_exits: Estimate
    without_exits: Estimate
    median: float | None = None
    percentile_95: float | None = None


def cascade_flow(scored: Scored, *, costs: Sequence[float] | None = None, level: float = LEVEL) -> CascadeFlow:
    """Return what the stages decide, and what the exits cost. `costs` holds what each stage costs an item."""
    label, group = scored.examples.labels == 1, scored.examples.groups
    there = scored.decision >= 0
    last, alone = scored.stage_scores[:, -1], scored.alone
    both = there & (alone >= 0)
    flows = tuple(_stage(scored, position, there, level) for position in range(len(scored.stages)))
    spent = None
    if costs is not None:
        if len(costs) != len(scored.stages) or min(costs) < 0:
            raise ValueError("there is a cost of zero or more for each stage")
        spent = mean(np.cumsum(costs)[scored.decided_by[there]], group[there], level=level)
    exits = (
        compare_areas(label[both], last[both], scored.score[both], group[both], level=level),
        _flagging(label[both], alone[both], scored.decision[both], group[both], level),
    )
    cleared = scored.decision[there & label] == _CLEAR
    return CascadeFlow(
        stages=flows,
        missed=proportion(cleared, group[there & label], level=level),
        same_decision=proportion((alone == scored.decision)[both], group[both], level=level),
        exits=with_verdicts(exits, level=level),
        without_score=int(np.count_nonzero(~there)),
        cost=spent,
        cost_without_exits=None if costs is None else float(sum(costs)),
    )


def _flagging(
    label: Flags, alone: NDArray[np.int8], cascade: NDArray[np.int8], group: NDArray[np.int64], level: float
) -> Comparison:
    return compare_decisions(
        label, alone == _FLAG, cascade == _FLAG, group, measure="accuracy of flagging", level=level
    )


def _stage(scored: Scored, position: int, there: Flags, level: float) -> StageFlow:
    label, group = scored.examples.labels == 1, scored.examples.groups
    reached = there & (scored.decided_by >= position)
    decided = there & (scored.decided_by == position)

    def share(hits: Flags, among: Flags) -> Estimate:
        return proportion(hits[among], group[among], level=level)

    area = area_under_roc(label[reached], scored.stage_scores[reached, position], group[reached], level=level)
    few = None if reached.all() else "of the items that reach the stage"
    return StageFlow(
        name=scored.stages[position],
        items=int(np.count_nonzero(reached)),
        reached=share(reached, there),
        decided=share(decided, there),
        leakage=share(decided & (scored.decision == _CLEAR), there & label),
        false_flags=share(decided & (scored.decision == _FLAG), there & ~label),
        area_under_roc=msgspec.structs.replace(area, caveat=joined(area.caveat, few)),
    )


def cascade_latency(scored: Scored, *, level: float = LEVEL) -> CascadeLatency:
    """Return how long an item takes, from the milliseconds of each stage; without them there is no figure."""
    if scored.milliseconds is None:
        nothing = Estimate(None, level=level, caveat="durations were not measured")
        return CascadeLatency(nothing, nothing)
    there = (scored.decision >= 0) & ~np.isnan(scored.milliseconds).any(axis=1)
    if not there.any():
        nothing = Estimate(None, level=level, caveat="no items with durations")
        return CascadeLatency(nothing, nothing)
    running = np.cumsum(scored.milliseconds[there], axis=1)
    spent = running[np.arange(len(running)), scored.decided_by[there]]
    group = scored.examples.groups[there]
    return CascadeLatency(
        with_exits=mean(spent, group, level=level),
        without_exits=mean(running[:, -1], group, level=level),
        median=float(np.quantile(spent, 0.5)),
        percentile_95=float(np.quantile(spent, 0.95)),
    )
