"""Figures and thresholds of the fraud recipe, against values worked out by hand or by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from discern.core.errors import CallerError
from discern.evaluation.studio.types import Cuts
from recipes.card_fraud.decision import (
    BANDS,
    COSTS,
    cheapest,
    compare_bands,
    computed_cuts,
    fit_calibration,
    operating_point,
    pooled,
    rescored,
    saved,
    starts_of,
)
from recipes.card_fraud.measure import Scored, auc_delong, average_precision, card_precision, measure


def make_scored(seed: int, count: int = 3000, *, rate: float = 0.05) -> Scored:
    """Payments of 150 customers over seven days, scores rounded so that there are ties; frauds are larger."""
    random = np.random.default_rng(seed)
    fraud = random.random(count) < rate
    score = np.round(1.0 / (1.0 + np.exp(-random.normal(-3.0 + 2.5 * fraud, 1.5))), 3)
    customer, day = random.integers(0, 150, count), random.integers(0, 7, count)
    return Scored(fraud, score, customer, day, np.round(random.gamma(2.0, 30.0 + 40.0 * fraud), 2))


def test_area_under_the_curve_counts_pairs() -> None:
    scored = make_scored(1)
    positive, negative = scored.score[scored.fraud], scored.score[~scored.fraud]
    pairs = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    area, variance = auc_delong(scored.fraud, scored.score)
    assert area == pytest.approx(pairs)
    # The spread over fresh samples of the same kind is what the variance estimates.
    spread = np.std([auc_delong(s.fraud, s.score)[0] for s in map(make_scored, range(100, 220))])
    assert np.sqrt(variance) == pytest.approx(spread, rel=0.25)


def test_average_precision_by_hand_with_a_tie() -> None:
    fraud = np.array([True, False, True, False, True])
    score = np.array([0.9, 0.8, 0.8, 0.7, 0.1])
    scored = Scored(fraud, score, np.arange(5), np.zeros(5, dtype=np.int64), np.ones(5))
    assert average_precision(scored) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_card_precision_by_hand() -> None:
    # Day 0: card 7 (its highest payment counts) and card 5; day 1: card 7 was found, so 5 and 6 are looked at.
    day = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    customer = np.array([7, 7, 5, 6, 7, 5, 6, 4])
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.95, 0.6, 0.5, 0.4])
    fraud = np.array([True, False, False, True, False, False, True, True])
    assert card_precision(Scored(fraud, score, customer, day, np.ones(8)), k=2) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_intervals_hold_the_figures_and_repeat() -> None:
    folds = [make_scored(2), make_scored(3)]
    each, mean = measure(folds, seed=7, draws=60)
    assert measure(folds, seed=7, draws=60) == (each, mean)
    for figures in (*each, mean):
        for estimate in (figures.auc, figures.average_precision, figures.card_precision):
            assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    assert each[1].average_precision.value == pytest.approx(average_precision(folds[1]))
    assert mean.auc.high - mean.auc.low < each[0].auc.high - each[0].auc.low


def test_calibrated_scores_are_near_the_truth_and_keep_the_order() -> None:
    raw = make_scored(4, 20_000)
    assert abs(raw.score.mean() - raw.fraud.mean()) > 0.03
    calibration = fit_calibration(raw, seed=7)
    other = make_scored(5, 20_000)
    calibrated = rescored(other, calibration)
    assert abs(calibrated.score.mean() - other.fraud.mean()) < 0.01
    order = np.argsort(other.score, kind="stable")
    assert np.all(np.diff(calibrated.score[order]) >= 0)
    assert [one.kind for one in calibration.tried] == ["temperature", "beta", "isotonic"]


def test_a_calibration_wants_frauds() -> None:
    with pytest.raises(CallerError, match="positive items in"):
        fit_calibration(make_scored(4, 400, rate=0.02), seed=7)


def test_bands_are_chosen_by_what_they_cost_on_other_customers() -> None:
    calibrated = pooled([rescored(make_scored(seed, 8000), fit_calibration(make_scored(9), seed=7)) for seed in (4, 5)])
    compared = compare_bands(calibrated, seed=7)
    assert [(one.searched, starts_of(one.cuts)) for one in compared] == [
        (how, b) for how in (True, False) for b in BANDS
    ]
    chosen = cheapest(compared)
    assert chosen.cost.value == min(one.cost.value for one in compared if one.cost.value is not None)
    assert all(0 <= cut.review_from <= cut.flag_from <= 1 for one in compared for cut in one.cuts)
    # A large fraud costs more than a small one, so that less suspicion is enough.
    assert compared[1].cuts[1].review_from < compared[1].cuts[0].review_from

    one_pair = compared[0].cuts
    assert saved(calibrated, chosen.cuts, chosen.cuts).value == 0
    less = saved(calibrated, compared[1].cuts, one_pair).value or 0.0
    banded, plain = (operating_point(calibrated, cuts).cost.value for cuts in (compared[1].cuts, one_pair))
    assert less > 0
    assert (plain or 0.0) - (banded or 0.0) == pytest.approx(less)


@pytest.mark.parametrize("amount", [0.5, 5.0, 40.0, 500.0, 5000.0])
def test_computed_thresholds_take_the_cheapest_decision_at_every_probability(amount: float) -> None:
    cuts = computed_cuts(amount)
    for fraud in np.linspace(0.0, 1.0, 997):
        clear, flag = fraud * amount, (1 - fraud) * COSTS.false_alarm
        review = COSTS.review + COSTS.reviewer_error * (clear + flag)
        made = flag if fraud >= cuts.flag_from else review if fraud >= cuts.review_from else clear
        assert made == pytest.approx(min(clear, review, flag), abs=0.01 + 1e-3 * amount)


def test_an_operating_point_by_hand() -> None:
    fraud = np.array([True, True, False, True, False, False])
    score = np.array([0.9, 0.6, 0.6, 0.4, 0.4, 0.1])
    amount = np.array([10.0, 200.0, 30.0, 60.0, 50.0, 70.0])
    scored = Scored(fraud, score, np.array([1, 2, 2, 3, 4, 5]), np.array([0, 0, 0, 1, 1, 1]), amount)
    point = operating_point(scored, (Cuts(0.4, 0.6),))
    assert (point.payments, point.frauds) == (6, 3)
    assert point.flagged_share == pytest.approx(3 / 6)
    assert point.flag_precision == pytest.approx(2 / 3)
    assert point.flag_recall == pytest.approx(2 / 3)
    assert point.false_positive_rate == pytest.approx(1 / 3)
    assert point.review_precision == pytest.approx(1 / 2)
    assert point.recall_with_review == pytest.approx(1.0)
    assert point.amount_lost == 0
    assert point.cards_a_day == pytest.approx(4 / 2)
    reviews = 2 * COSTS.review + COSTS.reviewer_error * (60 + COSTS.false_alarm)
    assert point.cost.value == pytest.approx((COSTS.false_alarm + reviews) / 6)

    # From an amount of 60 on, less suspicion is enough to flag; below it everything under 0.95 is cleared.
    banded = operating_point(scored, (Cuts(0.95, 0.95), Cuts(0.3, 0.4, 60.0)))
    assert banded.flagged_share == pytest.approx(2 / 6)
    assert banded.amount_lost == pytest.approx(10 / 270)
    assert banded.cost.value == pytest.approx(10 / 6)
