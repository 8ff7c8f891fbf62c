"""The tests say what they state: the false-alarm rate, and what is found."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from discern.monitoring.drift.rules_references import Table, of_table
from discern.monitoring.drift.statistics import categories, cells_of, change_point, distances, holm, numbers, tails
from discern.monitoring.drift.types import Edges, Reference
from tests.monitoring.drift.simulations import DEPENDENT, FOUND, RATES, STEPS, WINDOWS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "drift.md"


@cache
def page() -> dict[str, float]:
    """The last figure of every row of the page's tables."""
    rows = re.findall(
        r"^\| ([^|]+) \|(?: [\d.]+ \|)? ([\d.]+) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return {name: float(value) for name, value in rows}


@pytest.mark.parametrize("case", RATES)
def test_windows_in_which_nothing_changed_raise_no_more_alarms_than_is_stated(case: str) -> None:
    stated, simulate = RATES[case]
    share = simulate()
    interval = binomtest(round(share * WINDOWS), WINDOWS).proportion_ci(0.95, "wilson")
    assert interval.low <= stated
    assert share >= stated / 5, "a test that never rejects finds nothing either"
    assert page()[case] == pytest.approx(share, abs=6e-4)


@pytest.mark.parametrize("case", [case for case in FOUND if ".5 deviations" in case])
def test_half_a_deviation_of_the_score_is_found_within_2000_verdicts(case: str) -> None:
    share = FOUND[case]()
    assert share >= 0.9
    assert page()[case] == pytest.approx(share, abs=0.02)


def test_of_verdicts_that_depend_on_each_other_the_page_says_that_the_promise_does_not_hold() -> None:
    case = "5 in a row alike"
    share = DEPENDENT[case]()
    assert share > 100 / 10_000
    assert page()[case] == pytest.approx(share, abs=0.02)


def test_a_tail_is_that_of_fishers_exact_test() -> None:
    drawn = np.random.default_rng(1)
    compared = 0
    for _ in range(200):
        of, before = int(drawn.integers(50, 3000)), int(drawn.integers(50, 60_000))
        share = drawn.random() ** 3
        seen_before = int(drawn.binomial(before, share))
        seen = min(of, int(drawn.binomial(of, share)) + int(drawn.integers(0, 40)))
        found = float(tails(seen, of, seen_before, before))
        exact = fisher_exact([[seen, of - seen], [seen_before, before - seen_before]], alternative="greater")[1]
        if found < 1:
            assert found == pytest.approx(exact, rel=1e-8)
            compared += 1
        else:
            assert exact > 0.005
    assert compared > 50


@pytest.mark.parametrize("before", [601, 57_601, 1_000_003])
def test_shares_of_a_reference_are_the_counts_that_they_were(before: int) -> None:
    # 28,801 / 57,601 * 57,601 is not 28,801 in floating point.
    seen = before // 2 + 1
    reference = Reference("bundle", before, (seen / before,), (seen / before,))
    exact = fisher_exact([[600, 400], [seen, before - seen]], alternative="greater")[1]
    assert float(numbers(np.array([600, 0, 400]), reference)) == pytest.approx(2 * exact, rel=1e-8)


def test_ties_and_tables_make_a_p_value_larger_never_smaller() -> None:
    # Two thirds of all are 0: a table of quantiles tells of the share only that it lies between two of its steps.
    values = np.array([0.0] * 667 + [1.0] * 333)
    edges, reference = of_table(Table(np.quantile(values, STEPS), 1000), is_score=False)
    for share in (0.64, 0.65, 0.66, 0.67, 0.68):
        ones = round(1000 * (1 - share))
        window = np.array([0.0] * (1000 - ones) + [1.0] * ones)
        found = float(numbers(cells_of(window, edges), reference))
        exact = fisher_exact([[ones, 1000 - ones], [333, 667]])[1]
        assert found >= exact


def test_numbers_that_a_table_has_rounded_lie_on_their_edges() -> None:
    thirds = np.array([1 / 3, 2 / 3] * 500)
    rounded = np.round(np.quantile(thirds, STEPS), 6)
    edges, reference = of_table(Table(rounded, 1000), is_score=True)
    assert float(distances(cells_of(thirds, edges), reference)) == 0.0
    singles = np.array([4.27, 12.99] * 500, np.float32)
    edges, reference = of_table(Table(np.quantile(np.array([4.27, 12.99] * 500), STEPS), 1000), is_score=False)
    assert float(distances(cells_of(singles, edges), reference)) == 0.0


def test_a_category_that_was_never_seen_is_found() -> None:
    reference = Reference("traffic", 10_000, cells=(9_900, 100, 0))
    assert float(categories(np.array([990, 10, 0]), reference)) == 1.0
    assert float(categories(np.array([980, 10, 10]), reference)) < 1e-6


def test_values_of_no_known_category_are_counted_together() -> None:
    assert cells_of(np.array([1, 5, 5, 7, 9, 0]), Edges(codes=(1, 5, 9))).tolist() == [1, 2, 1, 2]


def test_holm_rejects_step_by_step_and_leaves_out_what_was_not_tested() -> None:
    assert holm(np.array([0.02, 0.001, math.nan, 0.2]), 0.05).tolist() == [True, True, False, False]
    assert holm(np.array([0.02, 0.03, 0.2]), 0.05).tolist() == [False, False, False]
    assert holm(np.array([math.nan, math.nan]), 0.05).tolist() == [False, False]


@pytest.mark.parametrize("begins", [0, 1, 7, 19])
def test_the_time_a_change_began_is_told_to_the_window(begins: int) -> None:
    drawn = np.random.default_rng(3)
    before, after = [0.1, 0.4, 0.4, 0.1], [0.05, 0.3, 0.45, 0.2]
    windows = np.array([drawn.multinomial(1000, after if place >= begins else before) for place in range(20)])
    assert change_point(windows, np.array(before) * 50_000) == begins
