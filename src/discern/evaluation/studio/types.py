"""The nouns of the studio.

- Costs are in one currency of the user's choice; only their ratios change what is chosen.
- `ThresholdChoice` holds nothing that depends on the machine or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Costs(msgspec.Struct, frozen=True):
    """What errors and reviews cost.

    `false_alarm` is what a negative costs that is flagged, `miss` a positive that is cleared, with `amount_share` of
    its amount on top; `review` what each review costs, after which the error is made all the same in the share
    `reviewer_error` of the cases.
    """

    false_alarm: float = 1.0
    miss: float = 1.0
    review: float = 0.0
    reviewer_error: float = 0.0
    amount_share: float = 0.0


class Goal(msgspec.Struct, frozen=True):
    """What is to be reached: the lowest expected cost within the limits.

    `reviews` is the largest share of items that may be reviewed, `cards` the largest share of the cards of a day that
    may have a payment reviewed, as the mean of all days, None for any; `max_fpr` the largest share of negatives that
    may be flagged, with `upper_end` at the upper end of its interval. Exits may add the share `exit_loss` of the
    expected cost; `stage_costs` are what each stage costs an item, empty where only their number counts.
    """

    costs: Costs
    reviews: float | None = None
    max_fpr: float | None = None
    upper_end: bool = False
    exit_loss: float = 0.01
    stage_costs: tuple[float, ...] = ()
    cards: float | None = None


class Cuts(msgspec.Struct, frozen=True):
    """The two thresholds, of records whose amount is `start` or more, None for where no band begins."""

    review_from: float
    flag_from: float
    start: float | None = None


class StageExits(msgspec.Struct, frozen=True):
    """Where an earlier stage decides by itself."""

    stage: int
    clear_below: float
    flag_above: float


class Chosen(msgspec.Struct, frozen=True):
    """Thresholds, the first without a start and then by rising start, and the exits of every stage but the last."""

    cuts: tuple[Cuts, ...]
    exits: tuple[StageExits, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """Items that every stage gave a score: n rows, s stages.

    `labels` bool [n], `stage_scores` float64 [n, s], `groups` int64 [n] numbered from 0 without gaps, `weights`
    float64 [n] what a row counts, `amounts` float64 [n] or None. `days` int64 [n] and `card_days` int64 [n], a number
    for each card of a day, or None where reviews are not counted as cards.
    """

    labels: NDArray[np.bool_]
    stage_scores: NDArray[np.float64]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64]
    amounts: NDArray[np.float64] | None = None
    days: NDArray[np.int64] | None = None
    card_days: NDArray[np.int64] | None = None

    def part(self, rows: NDArray[np.bool_]) -> Sample:
        """Return some of the rows; their groups and cards keep their numbers."""
        return Sample(
            self.labels[rows],
            self.stage_scores[rows],
            self.groups[rows],
            self.weights[rows],
            None if self.amounts is None else self.amounts[rows],
            None if self.days is None else self.days[rows],
            None if self.card_days is None else self.card_days[rows],
        )

    def weighing(self, weights: NDArray[np.float64]) -> Sample:
        """Return the same rows with other weights."""
        return replace(self, weights=weights)


class Flow(msgspec.Struct, frozen=True):
    """What becomes of the items of one class, as shares with their intervals."""

    label: str
    items: int
    clear: Estimate
    review: Estimate
    flag: Estimate


class StageShare(msgspec.Struct, frozen=True):
    """How many of all items a stage decides."""

    stage: str
    decided: Estimate


class BandThresholds(msgspec.Struct, frozen=True):
    """The thresholds of one band with the intervals of their choice; `start` as in `Cuts`."""

    start: float | None
    review_from: Estimate
    flag_from: Estimate


class CardsReviewed(msgspec.Struct, frozen=True):
    """Cards a day where it runs: how many may be `allowed`, how many pay, of how many a payment is reviewed.

    `busiest` is how many are reviewed on the busiest day of the data.
    """

    allowed: float
    paying: float
    reviewed: float
    busiest: int


class WhatIf(msgspec.Struct, frozen=True):
    """Under another assumption: the best thresholds, their cost, and the cost of those that were chosen; an item.

    Where `chosen_keeps` is false the chosen ones break a limit there, and what they cost is no measure of the best.
    """

    assumption: str
    review_from: float
    flag_from: float
    cost: float
    cost_of_chosen: float
    reviews: float
    chosen_keeps: bool = True


class KindLoss(msgspec.Struct, frozen=True):
    """The log loss of a kind of calibration on folds that it was not fitted on, and what it is above the best.

    `error` is the standard error of `above`.
    """

    kind: str
    log_loss: float | None
    above: float | None = None
    error: float | None = None
    caveat: str | None = None


class StageCalibration(msgspec.Struct, frozen=True):
    """The calibration of a stage: the kind that was chosen, as the manifest has it, and what it was chosen among.

    `items` is how many it was fitted on.
    """

    stage: str
    kind: str
    calibration: dict[str, Any]
    tried: tuple[KindLoss, ...]
    items: int


class CostPoint(msgspec.Struct, frozen=True):
    """Expected cost of an item where one threshold is moved to `at` and the other stays."""

    at: float
    cost: float


class ThresholdChoice(msgspec.Struct, frozen=True):
    """The whole: what was chosen, on what, and what it comes to.

    `cost` is of an item, measured by cross-fitting: thresholds chosen on some groups, measured on others.
    `cost_of_shipped` is that of the thresholds the bundle has, on all items, or says why it is not known.
    `cost_here` is that of the chosen thresholds on the items they were chosen on, which flatters them. `review_from`
    and `flag_from` hold the thresholds (those of the first band) with the interval of their choice, `bands` those of
    every band where there are several.
    """

    detector: str
    version: str
    bundle_sha256: str
    dataset: str
    manifest_sha256: str
    split: str | None
    items: int
    positives: int
    groups: int
    seed: int
    goal: Goal
    prevalence: float
    items_a_day: float | None
    amount_field: str | None
    chosen: Chosen
    review_from: Estimate
    flag_from: Estimate
    bands: tuple[BandThresholds, ...]
    cost: Estimate
    cost_here: float
    cost_without_exits: float
    cost_of_shipped: Estimate
    reviews: float
    cards: CardsReviewed | None
    compute: float | None
    flows: tuple[Flow, ...]
    stages: tuple[StageShare, ...]
    what_if: tuple[WhatIf, ...]
    curve_review: tuple[CostPoint, ...]
    curve_flag: tuple[CostPoint, ...]
    calibrations: tuple[StageCalibration, ...]
    caveats: tuple[str, ...]
    command: str
    versions: dict[str, str]
