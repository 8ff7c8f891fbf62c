"""Calibration, thresholds and operating points of the fraud detector.

Invariants:
- The calibration comes from the calibration folds, the thresholds from the validation folds: payments that the models
  that scored them were not trained on, all earlier than any test payment. No payment is in both.
- Thresholds are for `COSTS`, a pair for each band of amounts: found by search on the validation folds, or computed from
  the costs, which needs no label because the scores are probabilities. Which of the two, and how many bands, is chosen
  by the cost on customers of the validation folds whose payments the thresholds were not searched on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.detectors.calibration import calibrator
from discern.detectors.manifest import Calibration
from discern.evaluation.studio.rules import CLEAR, FLAG, band_of
from discern.evaluation.studio.rules_calibration import choose_calibration
from discern.evaluation.studio.rules_cuts import choose_cuts
from discern.evaluation.studio.rules_evidence import expected_cost, mean_cost
from discern.evaluation.studio.rules_exits import cost_of, last_decisions
from discern.evaluation.studio.types import Costs, Cuts, Goal, Sample, StageCalibration
from discern.evaluation.types import Estimate
from recipes.card_fraud.measure import Scored

STAGE = "trees"

COSTS = Costs(false_alarm=20.0, miss=0.0, review=2.0, reviewer_error=0.05, amount_share=1.0)
"""In currency units: a fraud that is cleared costs its amount, a genuine payment that is flagged 20, a review 2, and
one review in twenty ends in the wrong decision."""

GOAL = Goal(COSTS)

BANDS: tuple[tuple[float, ...], ...] = ((), (100.0,), (50.0, 100.0), (50.0, 100.0, 200.0))
"""Amounts at which bands begin: what is compared."""

FORMER = (Cuts(0.0182, 0.3884),)
"""The thresholds of version 1.0, which flagged at most 0.5 % of payments and showed people at most 100 cards a day."""


@dataclass(frozen=True)
class Decision:
    """The stage's calibration and the detector's thresholds on calibrated scores, a pair for each band."""

    calibration: StageCalibration
    cuts: tuple[Cuts, ...]


@dataclass(frozen=True)
class BandCost:
    """Thresholds for some bands, searched or computed; what a payment costs on customers they were not searched on."""

    cuts: tuple[Cuts, ...]
    cost: Estimate
    searched: bool


@dataclass(frozen=True)
class OperatingPoint:
    """What thresholds do to one period of payments. Rates are shares of payments in [0, 1], `cost` is of a payment.

    `amount_lost` is the share of the frauds' amounts that is cleared.
    """

    payments: int
    frauds: int
    flagged_share: float
    flag_precision: float
    flag_recall: float
    false_positive_rate: float
    reviewed_share: float
    review_precision: float
    recall_with_review: float
    amount_lost: float
    cards_a_day: float
    cost: Estimate


def starts_of(cuts: tuple[Cuts, ...]) -> tuple[float, ...]:
    """The amounts at which bands begin."""
    return tuple(one.start for one in cuts if one.start is not None)


def pooled(folds: Sequence[Scored]) -> Scored:
    """The payments of all folds as one."""
    return Scored(
        np.concatenate([fold.fraud for fold in folds]),
        np.concatenate([fold.score for fold in folds]),
        np.concatenate([fold.customer for fold in folds]),
        np.concatenate([fold.day for fold in folds]),
        np.concatenate([fold.amount for fold in folds]),
    )


def fit_calibration(scored: Scored, *, seed: int) -> StageCalibration:
    """The calibration of payments scored by raw probabilities."""
    return choose_calibration(STAGE, scored.score, scored.fraud, scored.customer, seed)


def calibrated_scores(probability: NDArray[np.float64], calibration: StageCalibration) -> NDArray[np.float64]:
    """Scores of raw probabilities."""
    return calibrator(Calibration.model_validate(calibration.calibration))(probability)


def rescored(scored: Scored, calibration: StageCalibration) -> Scored:
    """The same payments with calibrated scores."""
    return replace(scored, score=calibrated_scores(scored.score, calibration))


def _sample(calibrated: Scored) -> Sample:
    return Sample(
        labels=calibrated.fraud,
        stage_scores=calibrated.score[:, None],
        groups=np.unique(calibrated.customer, return_inverse=True)[1].astype(np.int64),
        weights=np.ones(len(calibrated.score)),
        amounts=calibrated.amount,
    )


def computed_cuts(amount: float, start: float | None = None) -> Cuts:
    """The cheapest thresholds for payments of one amount whose score is the probability of fraud.

    At probability p clearing costs p a, a review r + e (p a + (1 - p) f), and flagging (1 - p) f. A fraud takes a, a
    review costs r, a false alarm f, and the share e of reviews goes wrong. Thresholds are where two of these are equal.
    """
    alarm, error, review = COSTS.false_alarm, COSTS.reviewer_error, COSTS.review
    missed = COSTS.miss + COSTS.amount_share * amount
    review_from = (review + error * alarm) / ((1 - error) * missed + error * alarm)
    flag_from = ((1 - error) * alarm - review) / ((1 - error) * alarm + error * missed)
    if review_from >= flag_from:
        review_from = flag_from = alarm / (alarm + missed)
    return Cuts(_short(review_from), _short(flag_from), start)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _computed(calibrated: Scored, starts: tuple[float, ...]) -> tuple[Cuts, ...]:
    """Thresholds for the mean amount of each band's payments."""
    band = band_of(starts, calibrated.amount, len(calibrated.amount))
    amounts = [float(calibrated.amount[band == number].mean()) for number in range(len(starts) + 1)]
    return tuple(computed_cuts(amount, start) for amount, start in zip(amounts, (None, *starts), strict=True))


def compare_bands(calibrated: Scored, *, seed: int) -> list[BandCost]:
    """Thresholds for each of `BANDS`, first searched, then computed, and what they cost."""
    sample = _sample(calibrated)
    searched = [
        BandCost(choose_cuts(sample, GOAL, starts), expected_cost(sample, GOAL, starts, seed), searched=True)
        for starts in BANDS
    ]
    computed = [_computed(calibrated, starts) for starts in BANDS]
    costs = [mean_cost(_costs(calibrated, cuts), sample) for cuts in computed]
    return searched + [BandCost(cuts, cost, searched=False) for cuts, cost in zip(computed, costs, strict=True)]


def cheapest(compared: Sequence[BandCost]) -> BandCost:
    """Those with the lowest cost on other customers. Raises ValueError when a cost could not be measured."""
    costs = [one.cost.value for one in compared]
    if None in costs:
        raise ValueError("the payments are too few to measure what thresholds cost")
    return min(zip(costs, compared, strict=True), key=lambda pair: pair[0] or 0.0)[1]


def _costs(calibrated: Scored, cuts: tuple[Cuts, ...]) -> NDArray[np.float64]:
    sample = _sample(calibrated)
    return cost_of(last_decisions(cuts, sample), sample, GOAL)


def saved(calibrated: Scored, cuts: tuple[Cuts, ...], other: tuple[Cuts, ...]) -> Estimate:
    """What a payment costs less with `cuts` than with `other`."""
    return mean_cost(_costs(calibrated, other) - _costs(calibrated, cuts), _sample(calibrated))


def _share(part: NDArray[Any], whole: NDArray[np.bool_]) -> float:
    return float(np.sum(part[whole]) / np.sum(whole)) if whole.any() else float("nan")


def operating_point(calibrated: Scored, cuts: tuple[Cuts, ...]) -> OperatingPoint:
    """What the thresholds do to calibrated payments."""
    sample = _sample(calibrated)
    decided = last_decisions(cuts, sample)
    flagged, seen = decided == FLAG, decided != CLEAR
    reviewed = seen & ~flagged
    fraud, amount = calibrated.fraud, calibrated.amount
    pairs = np.unique(np.stack([calibrated.day[seen], calibrated.customer[seen]]), axis=1).shape[1]
    return OperatingPoint(
        payments=len(fraud),
        frauds=int(fraud.sum()),
        flagged_share=float(flagged.mean()),
        flag_precision=_share(fraud, flagged),
        flag_recall=_share(flagged, fraud),
        false_positive_rate=_share(flagged, ~fraud),
        reviewed_share=float(reviewed.mean()),
        review_precision=_share(fraud, reviewed),
        recall_with_review=_share(seen, fraud),
        amount_lost=float(np.sum(amount[fraud & ~seen]) / np.sum(amount[fraud])),
        cards_a_day=pairs / len(np.unique(calibrated.day)),
        cost=mean_cost(cost_of(decided, sample, GOAL), sample),
    )
