"""What stages decide, by hand, and what exits cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from discern.core.verdict import Thresholds
from discern.detectors.scoring import decisions_at
from discern.evaluation.cascades import cascade_flow, cascade_latency
from discern.evaluation.types import Examples, Scored

THRESHOLDS = Thresholds(0.4, 0.8)


def scored_by(labels: Any, stages: Any, exits: tuple[float, float], milliseconds: Any = None) -> Scored:
    """Two stages, the first of which lets a row go below or from the two exits."""
    labels, stages = np.asarray(labels, np.int8), np.asarray(stages, np.float64)
    count = len(labels)
    leaves = (stages[:, 0] < exits[0]) | (stages[:, 0] >= exits[1])
    decided_by = np.where(leaves | np.isnan(stages[:, 0]), 0, 1).astype(np.int16)
    score = stages[np.arange(count), decided_by]
    examples = Examples("made", "0" * 64, tuple(map(str, range(count))), labels, np.arange(count))
    return Scored(
        examples, "made", "1.0.0", "0" * 64, ("screen", "expert"), score, stages, decided_by,
        decisions_at(score, THRESHOLDS), decisions_at(stages[:, -1], THRESHOLDS), {}, milliseconds,
    )  # fmt: skip


def test_shares_and_leakage_by_hand() -> None:
    labels = [1, 1, 1, 1, 0, 0, 0, 0, 0]
    stages = [[0.01, 0.9], [0.99, 0.9], [0.5, 0.9], [0.5, 0.1], [0.02, 0.1], [0.5, 0.1], [0.5, 0.95], [0.97, 0.2]]
    flow = cascade_flow(scored_by(labels, [*stages, [np.nan, 0.5]], (0.05, 0.95)), costs=(1, 10))
    screen, expert = flow.stages
    assert flow.without_score == 1
    assert (screen.items, expert.items) == (8, 4)
    assert (screen.reached.value, screen.decided.value) == (1.0, 0.5)
    assert (expert.reached.value, expert.decided.value) == (0.5, 0.5)
    assert (screen.leakage.value, expert.leakage.value, flow.missed.value) == (0.25, 0.25, 0.5)
    assert (screen.false_flags.value, expert.false_flags.value) == (0.25, 0.25)
    assert flow.same_decision.value == pytest.approx(6 / 8)
    assert flow.cost is not None
    assert (flow.cost.value, flow.cost_without_exits) == (6.0, 11.0)
    assert "of the items that reach the stage" in (expert.area_under_roc.caveat or "")


def test_exits_that_lose_something_are_worse_than_the_last_stage_alone() -> None:
    random = Generator(PCG64(1))
    labels = (random.random(4000) < 0.3).astype(int)
    weak = 1 / (1 + np.exp(-(labels - 0.5 + 1.5 * random.normal(size=4000))))
    strong = 1 / (1 + np.exp(-(6 * labels - 3 + random.normal(size=4000))))
    eager = cascade_flow(scored_by(labels, np.stack([weak, strong], 1), (0.4, 0.9)))
    assert [one.verdict for one in eager.exits] == ["worse", "worse"]
    never = cascade_flow(scored_by(labels, np.stack([weak, strong], 1), (0.0, 1.1)))
    assert [one.verdict for one in never.exits] == ["not distinguishable", "not distinguishable"]
    assert never.same_decision.value == 1.0
    assert never.stages[0].decided.value == 0.0


def test_durations_add_up_over_the_stages_that_a_row_reaches() -> None:
    milliseconds = np.tile([1.0, 9.0], (4, 1))
    scored = scored_by([1, 0, 1, 0], [[0.99, 0.9], [0.5, 0.1], [0.5, 0.9], [0.01, 0.1]], (0.05, 0.95), milliseconds)
    latency = cascade_latency(scored)
    assert (latency.with_exits.value, latency.without_exits.value) == (5.5, 10.0)
    assert (latency.median, latency.percentile_95) == (5.5, 10.0)
    assert cascade_latency(scored_by([1, 0], [[0.9, 0.9], [0.1, 0.1]], (0.05, 0.95))).with_exits.value is None


def test_nothing_scored_and_wrong_costs() -> None:
    nothing = cascade_flow(scored_by([1, 0], [[np.nan, np.nan], [np.nan, np.nan]], (0.05, 0.95)))
    assert nothing.without_score == 2
    assert nothing.stages[0].reached.value is None
    assert nothing.exits[0].verdict is None
    with pytest.raises(ValueError, match="cost"):
        cascade_flow(scored_by([1, 0], [[0.5, 0.5], [0.5, 0.5]], (0.05, 0.95)), costs=(1,))
