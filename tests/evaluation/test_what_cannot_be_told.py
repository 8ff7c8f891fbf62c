"""Where the data say nothing of how far off a figure is, no interval stands beside it and nothing is called better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from discern.evaluation import comparisons, metrics, metrics_calibration, metrics_cards
from discern.evaluation.comparisons import Comparison, with_verdicts
from discern.evaluation.events import Event, Recording, event_scores
from discern.evaluation.statistics import mean
from discern.evaluation.types import Estimate

LABELS = np.repeat([1, 0], 500)
ONE_A_CLASS = np.repeat([7, 8], 500)
POSITIVES_IN_ONE = np.r_[np.zeros(500, int), np.arange(1, 501)]
FIGURES: dict[str, Callable[..., Estimate]] = {
    "area": metrics.area_under_roc,
    "average precision": metrics.average_precision,
    "equal error rate": lambda *rows: metrics.equal_error_rate(*rows, seed=1, draws=200),
    "true positives": lambda *rows: metrics.true_positive_rate_at(0.1, *rows, seed=1, draws=200),
    "calibration": lambda *rows: metrics_calibration.calibration(*rows, seed=1, draws=100).error,
}
COMPARED: dict[str, Callable[..., Comparison]] = {
    "area": comparisons.compare_areas,
    "average precision": lambda *rows: comparisons.compare_by_bootstrap("ap", *rows, seed=1, draws=200),
}


def two() -> tuple[Any, Any]:
    random = Generator(PCG64(1))
    return (random.random(1000) + LABELS * 0.3) / 1.5, (random.random(1000) + LABELS * 0.5) / 1.5


@pytest.mark.parametrize("groups", [ONE_A_CLASS, POSITIVES_IN_ONE], ids=["one a class", "positives in one"])
@pytest.mark.parametrize("name", FIGURES)
def test_a_class_of_one_group_has_a_figure_and_no_interval(name: str, groups: Any) -> None:
    found = FIGURES[name](LABELS, two()[0], groups)
    assert found.value is not None
    assert (found.low, found.high) == (None, None)
    assert "all positive items are of one group" in (found.caveat or "")


@pytest.mark.parametrize("groups", [ONE_A_CLASS, POSITIVES_IN_ONE], ids=["one a class", "positives in one"])
@pytest.mark.parametrize("name", COMPARED)
def test_two_detectors_on_a_class_of_one_group_are_not_distinguishable(name: str, groups: Any) -> None:
    found = COMPARED[name](LABELS, *two(), groups)
    (told,) = with_verdicts([found])
    assert (told.verdict, told.p_value, told.p_adjusted) == ("not distinguishable", None, None)
    assert told.difference.value is not None
    assert (told.difference.low, told.difference.high) == (None, None)
    assert "all positive items are of one group" in (told.difference.caveat or "")
    assert (told.items_needed, told.detectable) == (None, None)


def test_what_cannot_be_told_takes_no_part_in_holms_correction() -> None:
    first, second = two()
    told, untold = (comparisons.compare_areas(LABELS, first, second, groups) for groups in (None, ONE_A_CLASS))
    assert with_verdicts([told, untold])[0].p_adjusted == told.p_value


def test_decisions_of_one_group_or_of_ten_items_say_that_they_are_few() -> None:
    first, second = two()
    alone = comparisons.compare_decisions(LABELS, first > 0.5, second > 0.5, np.zeros(1000, int))
    (told,) = with_verdicts([alone])
    assert told.verdict == "not distinguishable"
    assert "only 1 group" in (told.difference.caveat or "")
    assert (told.items_needed, told.detectable) == (None, None)
    ten = with_verdicts([comparisons.compare_decisions([0, 1] * 5, [0, 1] * 5, [0, 1] * 5)])[0]
    assert "only 10 items" in (ten.difference.caveat or "")
    assert ten.detectable is None


@pytest.mark.parametrize("name", COMPARED)
def test_the_same_scores_are_no_proof_that_two_are_the_same(name: str) -> None:
    first, _ = two()
    (told,) = with_verdicts([COMPARED[name](LABELS, first, first)])
    assert (told.verdict, told.p_value, told.detectable) == ("not distinguishable", 1.0, None)
    assert (told.difference.value, told.difference.low, told.difference.high) == (0.0, None, None)
    assert told.difference.caveat


@pytest.mark.parametrize("baseline", [0.5, -1.0], ids=["says the same of all", "is the wrong way round"])
def test_a_detector_without_an_error_is_told_from_one_that_knows_nothing(baseline: float) -> None:
    scores = np.r_[np.linspace(0.6, 0.9, 500), np.linspace(0.1, 0.4, 500)]
    other = np.full(1000, baseline) if baseline > 0 else 1 - scores
    better, worse = with_verdicts(
        [comparisons.compare_areas(LABELS, other, scores), comparisons.compare_areas(LABELS, scores, other)]
    )
    assert (better.verdict, worse.verdict) == ("better", "worse")
    value, low, high = better.difference.value, better.difference.low, better.difference.high
    assert low is not None
    assert high is not None
    assert value is not None
    assert 0 < low < value <= high <= 1
    few = comparisons.compare_areas([1, 1, 0, 0], [0.5] * 4, [0.9, 0.8, 0.2, 0.1])
    assert with_verdicts([few])[0].verdict == "not distinguishable"


def test_no_error_seen_is_not_no_error() -> None:
    scores = np.r_[np.linspace(0.6, 0.9, 500), np.linspace(0.1, 0.4, 500)]
    rate = metrics.equal_error_rate(LABELS, scores, seed=1, draws=200)
    assert (rate.value, rate.low) == (0.0, 0.0)
    # At a higher rate the chance that the classes do not overlap is below 2 (1 - rate)^500.
    assert rate.high == pytest.approx(1 - (0.025 / 2) ** (1 / 500))
    found = metrics.true_positive_rate_at(0.01, LABELS, scores, seed=1, draws=200)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 500))
    reversed_rate = metrics.equal_error_rate(LABELS, 1 - scores, seed=1, draws=200)
    assert reversed_rate.value == 1.0
    assert reversed_rate.low == pytest.approx((0.025 / 2) ** (1 / 500))


def test_what_does_not_vary_has_no_interval() -> None:
    nothing = metrics_cards.card_precision([0] * 99 + [1], np.linspace(0, 1, 100), [0] * 100, [0] * 100, k=1, seed=1)
    assert (nothing.value, nothing.low) == (1.0, None)
    assert nothing.caveat == "one group: no interval"
    none = metrics_cards.card_precision([0] * 100, np.linspace(0, 1, 100), np.arange(100), [0] * 100, k=10, seed=1)
    assert (none.value, none.low, none.high) == (0.0, None, None)
    costs = mean(np.zeros(40))
    assert (costs.value, costs.low, costs.high) == (0.0, None, None)
    assert costs.caveat == "the values do not vary: no interval"


def test_few_cards_and_few_recordings_have_a_caveat() -> None:
    found = metrics_cards.card_precision([1, 0] * 6, np.linspace(0, 1, 12), np.arange(12) % 6, [0] * 12, k=2, seed=1)
    assert "only 6 cards" in (found.caveat or "")
    events = (Event(1, 2), Event(5, 6))
    one = event_scores([Recording(60, events, events[:1])], seed=1)
    assert (one.f1.low, one.f1.caveat) == (None, "one group: no interval")
    five = event_scores([Recording(60, events, events[: 1 + number % 2]) for number in range(5)], seed=1)
    assert "only 5 groups" in (five.f1.caveat or "")
    perfect = event_scores([Recording(60, events, events)] * 40, seed=1)
    assert (perfect.f1.value, perfect.f1.low) == (1.0, None)


def test_so_many_items_as_would_tell_are_more_than_there_are_whatever_else_was_compared() -> None:
    error = 0.1 / 2.9
    one = Comparison(
        "area",
        Estimate(0.8),
        Estimate(0.9),
        Estimate(0.1),
        p_value=0.0037,
        items=600,
        items_needed=comparisons._items_needed(0.1, error, 600, 0.95),
        detectable=2.8016 * error,
    )
    others = [Comparison("area", Estimate(0.8), Estimate(0.8), Estimate(0.0), p_value=0.9) for _ in range(19)]
    alone, among = (with_verdicts([one, *more])[0] for more in ([], others))
    assert alone.verdict == "better"
    assert (among.verdict, among.items) == ("not distinguishable", 600)
    assert among.items_needed is not None
    assert among.items_needed > 600
    assert among.detectable is not None
    assert among.detectable > 0.1
