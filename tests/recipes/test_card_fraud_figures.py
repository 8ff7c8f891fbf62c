"""Figures and thresholds of the fraud recipe, against values worked out by hand or by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.card_fraud.decision import Decision, choose, operating_point, rescored
from recipes.card_fraud.measure import Scored, auc_delong, average_precision, card_precision, measure


def make_scored(seed: int, count: int = 3000, *, rate: float = 0.05) -> Scored:
    """Payments of 150 customers over seven days, scores rounded so that there are ties."""
    random = np.random.default_rng(seed)
    fraud = random.random(count) < rate
    score = np.round(1.0 / (1.0 + np.exp(-random.normal(-3.0 + 2.5 * fraud, 1.5))), 3)
    return Scored(fraud, score, random.integers(0, 150, count), random.integers(0, 7, count))


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
    scored = Scored(fraud, score, np.arange(5), np.zeros(5, dtype=np.int64))
    assert average_precision(scored) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_card_precision_by_hand() -> None:
    # Day 0: card 7 (its highest payment counts) and card 5; day 1: card 7 was found, so 5 and 6 are looked at.
    day = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    customer = np.array([7, 7, 5, 6, 7, 5, 6, 4])
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.95, 0.6, 0.5, 0.4])
    fraud = np.array([True, False, False, True, False, False, True, True])
    assert card_precision(Scored(fraud, score, customer, day), k=2) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_intervals_hold_the_figures_and_repeat() -> None:
    folds = [make_scored(2), make_scored(3)]
    each, mean = measure(folds, seed=7, draws=60)
    assert measure(folds, seed=7, draws=60) == (each, mean)
    for figures in (*each, mean):
        for estimate in (figures.auc, figures.average_precision, figures.card_precision):
            assert 0 <= estimate.low < estimate.value < estimate.high <= 1
    assert each[1].average_precision.value == pytest.approx(average_precision(folds[1]))
    assert mean.auc.high - mean.auc.low < each[0].auc.high - each[0].auc.low


def test_thresholds_keep_their_constraints_and_give_nothing_away() -> None:
    folds = [make_scored(seed, 20_000, rate=0.01) for seed in (4, 5)]
    folds = [Scored(f.fraud, f.score, f.customer + 150 * np.arange(len(f.score)) % 3000, f.day) for f in folds]
    decision = choose(folds)
    together = [rescored(fold, decision.temperature) for fold in folds]
    points = [operating_point(fold, decision) for fold in together]
    flagged = np.concatenate([fold.score >= decision.flag_from for fold in together])
    assert 0.004 < flagged.mean() <= 0.005
    assert 0 < decision.review_from < decision.flag_from < 1
    assert 90 < np.mean([point.cards_a_day for point in points]) <= 100


def test_an_operating_point_by_hand() -> None:
    fraud = np.array([True, True, False, True, False, False])
    score = np.array([0.9, 0.6, 0.6, 0.4, 0.4, 0.1])
    scored = Scored(fraud, score, np.array([1, 2, 2, 3, 4, 5]), np.array([0, 0, 0, 1, 1, 1]))
    point = operating_point(scored, Decision(temperature=1.0, review_from=0.4, flag_from=0.6))
    assert (point.payments, point.frauds) == (6, 3)
    assert point.flagged_share == pytest.approx(3 / 6)
    assert point.flag_precision == pytest.approx(2 / 3)
    assert point.flag_recall == pytest.approx(2 / 3)
    assert point.false_positive_rate == pytest.approx(1 / 3)
    assert point.review_precision == pytest.approx(1 / 2)
    assert point.recall_with_review == pytest.approx(1.0)
    assert point.cards_a_day == pytest.approx(4 / 2)
