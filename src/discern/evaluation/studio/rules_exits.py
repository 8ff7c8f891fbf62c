"""Where earlier stages of a cascade decide by themselves, and what thresholds and exits decide.

- An exit never decides otherwise than every threshold would for its score: `clear_below` is at most the lowest
  `review_from`, `flag_above` at least the highest `flag_from`.
- What the exits of a stage add to the cost of the last stage's decisions stays within that stage's part of the bound on
  the sample. Within it as much of the later stages is saved as can be, exactly.
- Under a limit of false positives exits flag no more negatives than it leaves room for beside the last stage's; at the
  upper end of its interval, none but those. A score of 1 of an earlier stage is flagged all the same.
- Stages are taken in their order, each on the rows that those before left open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from discern.evaluation.studio.rules import CLEAR, FLAG, band_of, ladder, prices
from discern.evaluation.studio.rules_cuts import choose_cuts
from discern.evaluation.studio.types import Chosen, Cuts, Goal, Sample, StageExits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def choose(sample: Sample, goal: Goal, starts: tuple[float, ...] = ()) -> Chosen:
    """Return thresholds and exits. Raises NotReachable."""
    cuts = choose_cuts(sample, goal, starts)
    return Chosen(cuts, choose_exits(sample, goal, cuts))


def choose_exits(sample: Sample, goal: Goal, cuts: tuple[Cuts, ...]) -> tuple[StageExits, ...]:
    """Return the exits of every stage but the last, for thresholds that are chosen."""
    stages = sample.stage_scores.shape[1]
    price = prices(goal.costs, sample.labels, sample.amounts)
    alone = last_decisions(cuts, sample)
    staying = price[alone, np.arange(len(alone))]
    bound = goal.exit_loss * float(np.sum(staying * sample.weights)) / max(1, stages - 1)
    stage_costs = goal.stage_costs or (1.0,) * stages
    limits = min(one.review_from for one in cuts), max(one.flag_from for one in cuts)
    left = np.arange(len(alone))
    # Negatives that only an exit would flag, and how many of them the limit leaves room for.
    extra = (~sample.labels & (alone != FLAG)).astype(np.float64)
    spare = _spare(sample, goal, alone)
    exits = []
    for stage in range(stages - 1):
        weights = sample.weights[left]
        exit_ = _exits_of_a_stage(
            sample.stage_scores[left, stage],
            (price[[CLEAR, FLAG]][:, left] - staying[left]) * weights,
            weights * sum(stage_costs[stage + 1 :]),
            limits,
            bound,
            (extra[left], spare),
            priced=bool(goal.stage_costs),
        )
        exits.append(StageExits(stage, *exit_))
        scores = sample.stage_scores[left, stage]
        spare -= float(np.sum(extra[left][scores >= exit_[1]]))
        left = left[(scores >= exit_[0]) & (scores < exit_[1])]
    return tuple(exits)


def _spare(sample: Sample, goal: Goal, alone: NDArray[np.int8]) -> float:
    """Return how many negatives more than those the last stage flags may be flagged."""
    if goal.max_fpr is None:
        return np.inf
    if goal.upper_end:
        return 0.0
    flagged = np.count_nonzero(~sample.labels & (alone == FLAG))
    return max(0.0, goal.max_fpr * np.count_nonzero(~sample.labels) - flagged)


def _exits_of_a_stage(
    scores: Floats,
    added: Floats,
    saved: Floats,
    limits: tuple[float, float],
    bound: float,
    flagging: tuple[Floats, float],
    *,
    priced: bool,
) -> tuple[float, float]:
    """Return `clear_below` and `flag_above`.

    `flagging` is which rows [n] are flagged by exits alone and against the limit, and how many of them may be. `added`
    [2, n] is what clearing and flagging add to the cost of a row, `saved` [n] what is saved by not going on.
    With `priced` both are of one currency, and the most is saved after what is added; else as much as can be.
    """
    review_from, flag_from = limits
    if not len(scores):
        return 0.0, 1.0
    steps = ladder(scores)
    cleared, flagged = (steps.summed_below(one) for one in added)
    loss_clear, loss_flag = cleared, float(np.sum(added[1][steps.order])) - flagged
    kept = steps.summed_below(saved)
    gain_clear, gain_flag = kept, float(np.sum(saved[steps.order])) - kept
    if priced:
        gain_clear, gain_flag = gain_clear - loss_clear, gain_flag - loss_flag
    clears = np.flatnonzero(steps.low < review_from)
    extra, spare = flagging
    flags = np.flatnonzero(
        (steps.high >= flag_from) & (float(np.sum(extra)) - steps.summed_below(extra) <= spare + 1e-9)
    )
    if not len(flags):
        return 0.0, 1.0
    by_loss = flags[np.lexsort((flags, loss_flag[flags]))]
    best = np.maximum.accumulate(gain_flag[by_loss])
    slack = 1e-9 * max(1.0, bound)
    allowed = np.searchsorted(loss_flag[by_loss], bound + slack - loss_clear[clears], side="right") - 1
    value = np.where(allowed >= 0, gain_clear[clears] + best[np.maximum(allowed, 0)], -np.inf)
    if not np.isfinite(value).any():
        return 0.0, 1.0
    at = int(np.argmax(value))
    flag_at = int(by_loss[int(np.argmax(gain_flag[by_loss[: int(allowed[at]) + 1]]))])
    return min(steps.value(int(clears[at])), review_from), max(steps.value(flag_at), flag_from)


def last_decisions(cuts: tuple[Cuts, ...], sample: Sample) -> NDArray[np.int8]:
    """Return what the last stage alone decides of each row."""
    return _decided(sample.stage_scores[:, -1], *_thresholds(cuts, sample))


def decisions(chosen: Chosen, sample: Sample) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return the decision of each row with the exits on, and the position of the stage that makes it."""
    scores = sample.stage_scores[:, -1].copy()
    decided_by = np.full(len(scores), sample.stage_scores.shape[1] - 1, np.int64)
    travelling = np.ones(len(scores), np.bool_)
    for exit_ in chosen.exits:
        own = sample.stage_scores[:, exit_.stage]
        leaves = travelling & ((own < exit_.clear_below) | (own >= exit_.flag_above))
        scores[leaves], decided_by[leaves] = own[leaves], exit_.stage
        travelling &= ~leaves
    return _decided(scores, *_thresholds(chosen.cuts, sample)), decided_by


def cost_of(decided: NDArray[np.int8], sample: Sample, goal: Goal) -> Floats:
    """Return what the decision of each row costs."""
    price = prices(goal.costs, sample.labels, sample.amounts)
    return np.asarray(price[decided, np.arange(len(decided))])


def compute_of(decided_by: NDArray[np.int64], stage_costs: tuple[float, ...]) -> Floats:
    """Return what the stages cost each row that the stage at `decided_by` decided."""
    return np.asarray(np.cumsum(stage_costs)[decided_by])


def _thresholds(cuts: tuple[Cuts, ...], sample: Sample) -> tuple[Floats, Floats]:
    starts = tuple(one.start for one in cuts if one.start is not None)
    band = band_of(starts, sample.amounts, len(sample.labels))
    return np.array([one.review_from for one in cuts])[band], np.array([one.flag_from for one in cuts])[band]


def _decided(scores: Floats, review_from: Floats, flag_from: Floats) -> NDArray[np.int8]:
    return np.add(scores >= review_from, scores >= flag_from, dtype=np.int8)
