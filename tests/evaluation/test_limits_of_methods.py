"""Where a method is known to fail it says so, and here is by how much."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.stats import binom

from discern.evaluation import metrics
from discern.evaluation.statistics import proportion, share_limits
from discern.evaluation.types import Estimate
from tests.evaluation.simulations import area_of_two_samples, scored, streams


def held(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def test_few_groups_make_the_interval_of_a_share_too_wide_or_too_narrow_and_have_a_caveat() -> None:
    def draw(random: Generator) -> Estimate:
        own = np.repeat(random.beta(0.05, 0.95, 8), 10)
        return proportion(random.random(80) < own, np.repeat(np.arange(8), 10))

    drawn = [draw(random) for random in streams(400)]
    assert all(estimate.caveat and "only 8 groups" in estimate.caveat for estimate in drawn)
    assert not 0.93 <= np.mean([held(estimate, 0.05) for estimate in drawn]) <= 0.97


def test_an_area_near_1_of_few_positives_is_covered_less_and_has_a_caveat() -> None:
    drawn = [area_of_two_samples(random, 100, 1000, 0.99)[0] for random in streams(500)]
    assert np.mean([estimate.caveat is not None for estimate in drawn]) > 0.95
    assert 0.89 < np.mean([held(estimate, 0.99) for estimate in drawn]) < 0.94


def test_ten_items_have_a_figure_with_a_caveat_and_an_interval_too_wide() -> None:
    def draw(random: Generator) -> Estimate:
        labels = np.repeat([1, 0], 5)
        return metrics.area_under_roc(labels, 1.2 * labels + random.normal(size=10))

    drawn = [draw(random) for random in streams(300)]
    assert all(estimate.caveat and "only 5 positive items" in estimate.caveat for estimate in drawn)
    assert np.mean([held(estimate, 0.802) for estimate in drawn]) > 0.97


def test_a_false_positive_rate_that_rests_on_two_negatives_has_a_caveat() -> None:
    for random in streams(3):
        found = metrics.true_positive_rate_at(0.01, *scored(random, 400, 1, 0.4), seed=1, draws=200)
        assert found.caveat is not None
        assert "rests on 2 false positives" in found.caveat


def test_the_interval_of_a_share_covers_at_least_93_percent_for_every_share() -> None:
    for total in (30, 100, 400):
        limits = np.array([share_limits(hits / total, total)[:2] for hits in range(total + 1)])
        for share in np.linspace(0.002, 0.5, 150):
            within = (limits[:, 0] <= share) & (share <= limits[:, 1])
            assert binom.pmf(np.arange(total + 1), total, share)[within].sum() > 0.925
