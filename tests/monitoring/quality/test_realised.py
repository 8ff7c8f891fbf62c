"""Quality by labels is right whichever verdicts are labelled, as long as it is known how they were chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from discern.core.verdict import Decision
from discern.monitoring.quality.rules_drawing import DECISIONS
from discern.monitoring.quality.rules_realised import Stratum, realised, stratum
from discern.monitoring.quality.types import Figure, Measure
from discern.review.types import Judged
from tests.monitoring.quality.worlds import coverage, decided, judged, measured_truth, sigmoid, truth_of

RANDOM = np.random.default_rng(5)
START = RANDOM.bit_generator.state
LEAST = 0.9


@pytest.fixture(autouse=True)
def _the_same_draws_whatever_ran_before() -> None:
    RANDOM.bit_generator.state = START


def figures(verdicts: Mapping[Decision, int], labels: Iterable[Judged]) -> dict[Measure, Figure]:
    known = list(labels)
    strata = {
        one: stratum(verdicts[one], [label for label in known if label.decision == one], LEAST) for one in DECISIONS
    }
    return {one.measure: one for one in realised(verdicts, strata)}


def test_every_verdict_labelled_needs_no_probabilities() -> None:
    said = [(0.9, True)] * 8 + [(0.9, False)] * 2 + [(0.1, False)] * 85 + [(0.1, True)] * 5
    labels = [judged(score, positive, selected_by="unknown", propensity=None) for score, positive in said]
    found = figures({"clear": 90, "review": 0, "flag": 10}, labels)
    assert found["precision"].value == 0.8
    assert found["true_positive_rate"].value == pytest.approx(8 / 13)
    assert found["false_positive_rate"].value == pytest.approx(2 / 87)
    assert found["positive_rate"].value == 0.13
    assert found["review_precision"] == Figure("review_precision", "realised", 0.8, *_ends(found["precision"]))


def _ends(one: Figure) -> tuple[float | None, float | None]:
    return one.low, one.high


def test_of_what_nobody_drew_labels_nothing_is_said_but_why() -> None:
    reviewed = [judged(0.9, number < 80, selected_by="flagged") for number in range(100)]
    complaints = [
        judged(0.1, positive=True, selected_by="unknown", propensity=None, source="chargeback") for _ in range(30)
    ]
    found = figures({"clear": 5000, "review": 0, "flag": 100}, [*reviewed, *complaints])
    assert found["precision"].value == 0.8
    for measure in ("true_positive_rate", "false_positive_rate", "positive_rate", "review_true_positive_rate"):
        figure = found[measure]
        assert figure.value is None
        assert figure.why == "clear: it is not known how its 30 labels came to be: none was drawn by chance"
    assert figures({"clear": 5000, "review": 0, "flag": 100}, reviewed)["positive_rate"].why == "clear: no labels"


def test_labels_that_stand_for_too_few_are_not_taken() -> None:
    half = [judged(0.9, positive=True, selected_by="flagged") for _ in range(50)]
    found = figures({"clear": 0, "review": 0, "flag": 100}, half)
    assert found["precision"].why == "flag: the labels that were drawn so far stand for 50% of it"


@pytest.mark.parametrize("probability", [1e-320, 1e-300, 1e-12])
def test_a_probability_of_malice_makes_no_measure_of_others_fail(probability: float) -> None:
    odd = [judged(0.9, positive=True, selected_by="sampled", propensity=probability) for _ in range(3)]
    found = figures({"clear": 0, "review": 0, "flag": 100}, odd)
    assert all(one.value is None or 0 <= one.value <= 1 for one in found.values())


def test_what_misses_where_nearly_all_is_labelled_may_be_either() -> None:
    labels = [judged(0.9, positive=True) for _ in range(950)]
    found = figures({"clear": 0, "review": 0, "flag": 1000}, labels)["precision"]
    assert found.value == 1
    assert found.low == pytest.approx(0.95, abs=0.005)


def test_verdicts_that_were_let_through_more_often_do_not_count_more_often() -> None:
    """Half the flagged are let through with .9, half with .1, and these are worse; and back."""
    labels = [judged(0.9, number % 10 < 5, selected_by="unblocked", propensity=0.9) for number in range(900)]
    labels += [judged(0.9, positive=True, selected_by="unblocked", propensity=0.1) for _ in range(100)]
    found = figures({"clear": 0, "review": 0, "flag": 2000}, labels)["precision"]
    assert found.value == pytest.approx(0.75, abs=0.01)
    assert found.low is not None
    assert found.low < 0.75 - 1.96 * (0.1875 / 1000) ** 0.5  # fewer labels than there are


@pytest.mark.parametrize("corrected", [True, False])
def test_the_interval_holds_the_truth_as_often_as_it_says_where_selection_is_corrected(*, corrected: bool) -> None:
    """All flagged are reviewed, and of the rest some are held out: as it is in production."""

    def one_window() -> tuple[Iterable[Figure], Mapping[Measure, float]]:
        log_odds = RANDOM.normal(-2.5, 2.5, 1500)
        scores, chance = sigmoid(log_odds), sigmoid(log_odds + 0.4)  # not calibrated: nothing relies on it
        named = np.array(decided(scores))
        positive = RANDOM.random(1500) < chance
        labelled = (RANDOM.random(1500) < 0.15) | (named != "clear")
        there = {one: positive[(named == one) & labelled] for one in DECISIONS}
        strata = {one: Stratum(float(its.mean()), float(len(its)), 0.0, 1.0, ()) for one, its in there.items()}
        # Without the correction every label stands for one verdict.
        verdicts = {one: int(np.sum(named == one)) if corrected else len(there[one]) for one in DECISIONS}
        # What the detector does on such inputs, not only on these.
        expected = {one: float(chance[named == one].sum()) for one in DECISIONS}
        return realised(verdicts, strata), measured_truth(named, expected)

    found = coverage(300, one_window)
    assert len(found) == 7
    if corrected:
        # Fewer than .91 in 300 has a chance of one in a thousand at a true .95.
        assert min(found.values()) > 0.91, found
    else:
        assert found["precision"] > 0.91
        assert found["true_positive_rate"] < 0.2
        assert found["false_positive_rate"] < 0.2


def test_rare_positives_that_the_hold_out_did_not_meet_leave_the_interval_open() -> None:
    flagged = [judged(0.9, positive=True, selected_by="flagged") for _ in range(100)]
    held_out = [judged(0.1, positive=False, selected_by="holdout", propensity=0.01, held_out=0.01) for _ in range(300)]
    found = figures({"clear": 30_000, "review": 0, "flag": 100}, [*flagged, *held_out])
    assert found["true_positive_rate"].value == 1
    assert found["true_positive_rate"].high == 1
    assert found["true_positive_rate"].low is not None
    assert found["true_positive_rate"].low < 0.3
    assert found["positive_rate"].low is not None
    assert found["positive_rate"].low == pytest.approx(100 / 30_100, rel=0.1)


def test_the_hold_out_counts_whoever_labelled_it_and_once_it_is_nearly_all_there() -> None:
    held_out = [judged(0.1, number < 5, selected_by="unknown", propensity=None, held_out=0.1) for number in range(100)]
    whole = stratum(1000, held_out, LEAST)
    assert isinstance(whole, Stratum)
    assert (whole.share, whole.stands_for) == pytest.approx((0.05, 1.0))
    assert isinstance(stratum(1000, held_out[:50], LEAST), str)
    assert stratum(0, [], LEAST) == Stratum(0.0, 0.0, 0.0, 1.0, ())


def test_truths_of_made_windows_are_what_counting_gives() -> None:
    positive = np.array([True, False, True, False])
    assert truth_of(positive, ["flag", "flag", "clear", "review"])["true_positive_rate"] == 0.5
