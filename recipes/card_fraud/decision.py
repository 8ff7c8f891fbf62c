"""Calibration, thresholds and operating points of the fraud detector.

Invariants:
- Temperature and thresholds come from the validation folds: payments that the models that scored them were not trained
  on, all earlier than any test payment.
- `flag_from` keeps flagged payments within `FLAGGED_SHARE`, `review_from` keeps the cards that people look at, flagged
  ones included, within `CARDS_A_DAY` a day; both hold exactly on the validation folds and are measured, not assumed, on
  the test folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.detectors.calibration import calibrate, fit_temperature
from recipes.card_fraud.measure import CARDS_A_DAY, Scored

FLAGGED_SHARE = 0.005
"""Largest share of payments that may be flagged."""

_DECIMALS = 4


@dataclass(frozen=True)
class Decision:
    """A stage's temperature and the detector's two thresholds, on calibrated scores."""

    temperature: float
    review_from: float
    flag_from: float


@dataclass(frozen=True)
class OperatingPoint:
    """What the thresholds do to one period of payments. Rates are shares of payments in [0, 1]."""

    payments: int
    frauds: int
    flagged_share: float
    flag_precision: float
    flag_recall: float
    false_positive_rate: float
    reviewed_share: float
    review_precision: float
    recall_with_review: float
    cards_a_day: float


def _round_up(value: float) -> float:
    """Round up, so that a limit that held at `value` still holds."""
    return min(1.0, math.ceil(value * 10.0**_DECIMALS) / 10.0**_DECIMALS)


def _just_above(value: float) -> float:
    return float(np.nextafter(value, np.inf))


def lowest_flag_threshold(score: NDArray[np.float64], share: float) -> float:
    """Lowest threshold from which at most `share` of the scores are flagged."""
    allowed = int(share * len(score))
    ordered = np.sort(score)[::-1]
    return _just_above(float(ordered[allowed])) if allowed < len(score) else 0.0


def lowest_review_threshold(folds: Sequence[Scored], cards_a_day: float) -> float:
    """Lowest threshold from which at most `cards_a_day` cards a day, on average over all days, have a payment."""
    highest = []
    days = 0
    for fold in folds:
        pair, inverse = np.unique(np.stack([fold.day, fold.customer]), axis=1, return_inverse=True)
        best = np.zeros(pair.shape[1])
        np.maximum.at(best, inverse.ravel(), fold.score)
        highest.append(best)
        days += len(np.unique(fold.day))
    ordered = np.sort(np.concatenate(highest))[::-1]
    allowed = int(cards_a_day * days)
    return _just_above(float(ordered[allowed])) if allowed < len(ordered) else 0.0


def choose(validation: Sequence[Scored]) -> Decision:
    """Temperature and thresholds from the scored, uncalibrated validation folds."""
    score = np.concatenate([fold.score for fold in validation])
    fraud = np.concatenate([fold.fraud for fold in validation])
    temperature = round(fit_temperature(score, fraud.astype(np.int64)), _DECIMALS)
    calibrated = [rescored(fold, temperature) for fold in validation]
    flag_from = _round_up(lowest_flag_threshold(np.concatenate([fold.score for fold in calibrated]), FLAGGED_SHARE))
    review_from = _round_up(lowest_review_threshold(calibrated, CARDS_A_DAY))
    return Decision(temperature, min(review_from, flag_from), flag_from)


def rescored(fold: Scored, temperature: float) -> Scored:
    """The fold with calibrated scores."""
    return Scored(fold.fraud, calibrate(fold.score, temperature), fold.customer, fold.day)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(np.sum(part & whole) / np.sum(whole)) if whole.any() else float("nan")


def operating_point(calibrated: Scored, decision: Decision) -> OperatingPoint:
    """What the decision does to calibrated payments."""
    flagged = calibrated.score >= decision.flag_from
    seen = calibrated.score >= decision.review_from
    reviewed = seen & ~flagged
    pairs = np.unique(np.stack([calibrated.day[seen], calibrated.customer[seen]]), axis=1).shape[1]
    return OperatingPoint(
        payments=len(calibrated.score),
        frauds=int(calibrated.fraud.sum()),
        flagged_share=float(flagged.mean()),
        flag_precision=_share(calibrated.fraud, flagged),
        flag_recall=_share(flagged, calibrated.fraud),
        false_positive_rate=_share(flagged, ~calibrated.fraud),
        reviewed_share=float(reviewed.mean()),
        review_precision=_share(calibrated.fraud, reviewed),
        recall_with_review=_share(seen, calibrated.fraud),
        cards_a_day=pairs / len(np.unique(calibrated.day)),
    )


def expected_calibration_error(calibrated: Scored, bins: int = 10) -> float:
    """Mean distance of score and observed fraud rate over bins of equal count, weighted by count."""
    order = np.argsort(calibrated.score, kind="stable")
    parts = np.array_split(order, bins)
    gaps = [abs(calibrated.score[part].mean() - calibrated.fraud[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))
