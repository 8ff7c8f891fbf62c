"""Comparisons in pairs: against statsmodels and brute force, and what verdicts say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from discern.evaluation import comparisons, comparisons_margin, metrics, metrics_calibration, metrics_weighted
from discern.evaluation.comparisons import _items_needed
from discern.evaluation.statistics import rows_of


def two(seed: int, count: int, better: float, *, size: int = 1) -> tuple[Any, Any, Any, Any]:
    """Labels, scores of two detectors on the same items, and groups; the second is `better` than the first."""
    random = Generator(PCG64(seed))
    labels = (random.random(count) < 0.4).astype(int)
    shared = np.repeat(random.normal(size=count // size), size)
    first, second = (d * labels + shared + random.normal(size=count) for d in (1.0, 1.0 + better))
    return labels, first, second, np.repeat(np.arange(count // size), size)


def test_the_paired_test_is_delongs() -> None:
    labels, first, second, _ = two(1, 120, 0.3)
    positive = labels == 1
    parts = []
    for scores in (first, second):
        wins = (scores[positive][:, None] > scores[~positive]).astype(float)
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    apart = [parts[1][i] - parts[0][i] for i in (0, 1)]
    variance = sum(part.var(ddof=1) / len(part) for part in apart)
    found = comparisons.compare_areas(labels, first, second)
    assert found.difference.value == pytest.approx(apart[0].mean())
    assert found.detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * math.sqrt(variance))
    assert found.baseline == metrics.area_under_roc(labels, first)


@pytest.mark.parametrize(("wins", "losses"), [(3, 9), (0, 5), (12, 12), (20, 35), (60, 21)])
def test_mcnemars_test_is_statsmodels(wins: int, losses: int) -> None:
    exact = wins + losses < 25
    expected = reference_mcnemar([[50, wins], [losses, 50]], exact=exact, correction=False).pvalue
    assert comparisons.mcnemar([1] * wins + [-1] * losses + [0] * 100) == pytest.approx(expected)


def test_holms_correction_is_statsmodels() -> None:
    for p_values in ([0.04, 0.001, 0.03, 0.5, 0.03], [0.9, 0.8]):
        expected = list(multipletests(p_values, method="holm")[1])
        assert comparisons.holm(p_values) == pytest.approx(expected)
    assert comparisons.holm([]) == []


def test_a_better_one_is_told_and_an_equal_one_is_not() -> None:
    labels, first, second, groups = two(2, 2000, 0.5, size=4)
    better, worse = (comparisons.compare_areas(labels, a, b, groups) for a, b in ((first, second), (second, first)))
    same = comparisons.compare_areas(labels, first, first, groups)
    told = comparisons.with_verdicts([better, worse, same])
    assert [one.verdict for one in told] == ["better", "worse", "not distinguishable"]
    assert told[0].items_needed is None
    assert (told[2].p_value, told[2].items_needed, told[2].detectable) == (1.0, None, None)


def test_a_lower_error_is_better() -> None:
    labels, first, second, _ = two(3, 1500, 1.0)
    apart = comparisons.compare_by_bootstrap(
        "equal_error_rate",
        labels,
        first,
        second,
        statistic=metrics_weighted.equal_error_rate,
        higher_is_better=False,
        seed=1,
        draws=200,
    )
    assert comparisons.with_verdicts([apart])[0].verdict == "better"


def test_holm_takes_back_what_one_test_alone_would_say() -> None:
    labels, first, second, _ = two(4, 300, 0.35)
    one = comparisons.compare_areas(labels, first, second)
    assert one.p_value is not None
    assert 0.005 < one.p_value < 0.05
    assert comparisons.with_verdicts([one])[0].verdict == "better"
    equal = [comparisons.compare_areas(*two(seed, 300, 0.0)[:3]) for seed in range(20, 29)]
    assert comparisons.with_verdicts([one, *equal])[0].verdict == "not distinguishable"


def test_so_many_items_as_it_names_tell_the_difference_four_times_in_five() -> None:
    pilot = comparisons.compare_areas(*two(5, 40_000, 0.25)[:3])
    assert pilot.items_needed is not None
    needed = pilot.items_needed
    told = [(comparisons.compare_areas(*two(seed, needed, 0.25)[:3]).p_value or 0) < 0.05 for seed in range(200)]
    assert np.mean(told) == pytest.approx(0.8, abs=0.07)


def test_a_difference_of_rounding_names_no_number_of_items() -> None:
    assert _items_needed(0.01, 0.01, 400, 0.95) == math.ceil(400 * 2.8016**2)
    assert _items_needed(1e-17, 0.01, 400, 0.95) is None


def test_both_are_measured_on_the_rows_that_both_have_a_score_for() -> None:
    labels, first, second, _ = two(6, 200, 0.2)
    first[3], second[7] = np.nan, np.nan
    found = comparisons.compare_areas(labels, first, second)
    kept = np.delete(np.arange(200), [3, 7])
    assert found.items == 198
    assert found.candidate.value == metrics.area_under_roc(labels[kept], second[kept]).value
    assert "2 rows have no score" in (found.difference.caveat or "")


def test_one_class_compares_nothing() -> None:
    for found in (
        comparisons.compare_areas([1, 1, 1], [0.1, 0.2, 0.3], [0.2, 0.1, 0.3]),
        comparisons.compare_by_bootstrap("average_precision", [1, 1], [0.1, 0.2], [0.2, 0.1], seed=1),
        comparisons.compare_decisions([], [], []),
    ):
        assert found.difference.value is None
        assert comparisons.with_verdicts([found])[0].verdict is None


def constrained_score(more: float, less: float, total: float, difference: float) -> float:
    """Tango's statistic with the nuisance share found by search, not by formula."""

    def unlikely(share: float) -> float:
        rest = total - more - less
        parts = ((more, share + difference), (less, share), (rest, 1 - 2 * share - difference))
        return -sum(count * math.log(max(chance, 1e-300)) for count, chance in parts if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (more - less - total * difference) / math.sqrt(total * (2 * share + difference - difference**2))


@pytest.mark.parametrize(("more", "less", "total"), [(12, 2, 50), (3, 8, 100), (1, 0, 44), (30, 30, 400)])
def test_tangos_limits_are_where_the_score_test_stops_rejecting(more: int, less: int, total: int) -> None:
    low, high = comparisons_margin.tango_limits(more, less, total, 1.96)
    assert constrained_score(more, less, total, low) == pytest.approx(1.96, abs=1e-3)
    assert constrained_score(more, less, total, high) == pytest.approx(-1.96, abs=1e-3)


def test_pairs_that_never_differ_still_have_an_interval() -> None:
    low, high = comparisons_margin.paired_limits(np.zeros(50, int))
    squared = norm.ppf(0.975) ** 2
    assert (low, high) == pytest.approx((-squared / (50 + squared), squared / (50 + squared)), abs=1e-6)
    clustered = comparisons_margin.paired_limits(np.zeros(500, int), np.repeat(np.arange(50), 10))
    assert clustered == pytest.approx((low, high), abs=1e-6)


def test_equal_decisions_pass_the_margin_with_enough_items_only() -> None:
    labels = np.arange(2000) % 2
    enough = comparisons_margin.not_worse_by(0.01, labels, labels, labels)
    assert enough.not_worse
    assert enough.equivalent
    few = comparisons_margin.not_worse_by(0.01, labels[:40], labels[:40], labels[:40])
    assert not few.not_worse
    assert "only 20 positive items" in (few.balanced.caveat or "")


def test_the_margin_is_of_balanced_error_and_knows_which_way() -> None:
    labels = np.repeat([1, 0], [1000, 3000])
    missing = labels.copy()
    missing[:100] = 0
    worse = comparisons_margin.not_worse_by(0.02, labels, labels, missing)
    assert (worse.misses.value, worse.false_alarms.value) == (0.1, 0.0)
    assert worse.balanced.value == pytest.approx(0.05)
    assert not worse.not_worse
    better = comparisons_margin.not_worse_by(0.02, labels, missing, labels)
    assert better.not_worse
    assert not better.equivalent


def test_a_margin_without_a_class_or_a_size_passes_nothing() -> None:
    alone = comparisons_margin.not_worse_by(0.5, np.ones(100), np.ones(100), np.ones(100))
    assert not alone.not_worse
    assert alone.balanced.value is None
    with pytest.raises(ValueError, match="above 0"):
        comparisons_margin.not_worse_by(0.0, [1, 0], [1, 0], [1, 0])


def test_the_calibration_error_of_a_file_is_the_same_each_time() -> None:
    labels, scores, _, groups = two(7, 400, 0.0, size=4)
    scores = 1 / (1 + np.exp(-scores))
    first, second = (metrics_calibration.calibration(labels, scores, groups, seed=9, draws=100) for _ in range(2))
    assert first == second
    order = Generator(PCG64(1)).permutation(400)
    rows = rows_of(labels[order], scores[order], groups[order])
    assert metrics.area_under_roc(rows.labels, rows.scores, rows.groups).low == pytest.approx(
        metrics.area_under_roc(labels, scores, groups).low, abs=1e-12
    )
