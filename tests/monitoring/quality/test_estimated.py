"""What is estimated before labels come holds what labels then show, as often as it says, and fails where it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

from discern.app import BUILTIN
from discern.detectors.assessment import load_detector
from discern.detectors.bundle import open_bundle
from discern.detectors.calibration import calibrate_beta
from discern.detectors.scoring import DECISIONS as CODES
from discern.monitoring.quality.rules_estimated import deviation, doubt_of, estimated, typical_log_odds
from discern.monitoring.quality.sources import evidence_of
from discern.monitoring.quality.types import CalibrationDoubt, Figure, Group, Measure
from tests.monitoring.quality.worlds import Flags, Floats, coverage, decided, groups_of, recalibrated, sigmoid, truth_of

RANDOM = np.random.default_rng(11)
START = RANDOM.bit_generator.state
World = Callable[[], tuple[Floats, Flags]]


@pytest.fixture(autouse=True)
def _the_same_draws_whatever_ran_before() -> None:
    RANDOM.bit_generator.state = START


def drawn(log_odds: Floats) -> tuple[Floats, Flags]:
    scores = sigmoid(log_odds)
    return scores, RANDOM.random(len(scores)) < scores


def rare() -> tuple[Floats, Flags]:
    return drawn(RANDOM.normal(-5, 2, 5000))


def common() -> tuple[Floats, Flags]:
    return drawn(RANDOM.normal(0, 3, 800))


def shifted_inputs() -> tuple[Floats, Flags]:
    """Other inputs than ever before: two kinds, mixed as it comes; what a score means is the same."""
    mixed = np.where(RANDOM.random(2000) < RANDOM.random(), RANDOM.normal(-4, 1, 2000), RANDOM.normal(2, 2, 2000))
    return drawn(mixed)


def measured(world: World, doubt: CalibrationDoubt | None = None) -> tuple[Iterable[Figure], Mapping[Measure, float]]:
    scores, positive = world()
    decisions = decided(scores)
    return estimated(groups_of(scores, decisions), doubt), truth_of(positive, decisions)


@pytest.mark.parametrize("world", [rare, common, shifted_inputs])
def test_where_scores_are_right_the_interval_holds_the_truth_as_often_as_it_says(world: World) -> None:
    found = coverage(250, lambda: measured(world))
    assert len(found) == 7
    # Fewer than .912 in 250 has a chance of one in three hundred at a true .95.
    assert min(found.values()) > 0.912, found
    assert 0.935 < np.mean(list(found.values())) < 0.995


def test_where_scores_mean_something_else_than_they_did_the_interval_fails_and_does_not_show_it() -> None:
    def another_kind_of_positives() -> tuple[Floats, Flags]:
        scores, positive = rare()
        missed = RANDOM.random(len(scores)) < 0.01  # they score like anybody
        return scores, positive | missed

    def more_positives() -> tuple[Floats, Flags]:
        log_odds = RANDOM.normal(-5, 2, 5000)
        return sigmoid(log_odds), RANDOM.random(5000) < sigmoid(log_odds + 1)

    for world in (another_kind_of_positives, more_positives):
        found = coverage(60, lambda world=world: measured(world))  # type: ignore[misc]
        assert found["positive_rate"] < 0.1
        assert found["review_true_positive_rate"] < 0.6
    quiet, _ = measured(rare)
    loud, _ = measured(another_kind_of_positives)
    widths = [one.high - one.low for figures in (quiet, loud) for one in figures if one.measure == "positive_rate"]  # type: ignore[operator]
    assert widths[0] == pytest.approx(widths[1], rel=0.3)


def test_the_doubt_about_the_calibration_is_in_the_interval_where_the_bundle_tells_it() -> None:
    """A detector whose calibration was fitted on 1,000 inputs, asked about 40,000 others."""
    with_doubt, without = ([], [])  # type: ignore[var-annotated]
    for _ in range(100):
        off = recalibrated(RANDOM, 1000)
        log_odds = RANDOM.normal(-3.5, 2.5, 40_000)
        positive = RANDOM.random(len(log_odds)) < sigmoid(log_odds)
        scores = sigmoid((log_odds - off[0]) / off[1])
        decisions = decided(scores)
        reference = np.quantile(sigmoid((RANDOM.normal(-3, 2.5, 1000) - off[0]) / off[1]), np.linspace(0, 1, 101))
        doubt = doubt_of(reference.tolist(), 1000)
        assert doubt is not None
        truth = truth_of(positive, decisions)
        for figures, found in ((estimated(groups_of(scores, decisions), doubt), with_doubt),
                               (estimated(groups_of(scores, decisions), None), without)):  # fmt: skip
            found.append([one.low <= truth[one.measure] <= one.high for one in figures])  # type: ignore[operator]
    covered = np.mean(with_doubt, axis=0)
    assert covered.min() > 0.85, covered
    assert covered.mean() > 0.91
    assert np.mean(without, axis=0).mean() < 0.75


def test_the_doubt_is_the_one_a_logistic_fit_has() -> None:
    log_odds = RANDOM.normal(-3, 2.5, 4000)
    share = sigmoid(log_odds)
    design = np.stack([np.ones(4000), log_odds], axis=1)
    covariance = np.linalg.inv((design * (share * (1 - share))[:, None]).T @ design)
    told = doubt_of(np.quantile(share, np.linspace(0, 1, 101)).tolist(), 4000)
    assert told is not None
    assert (told.intercept, told.slope, told.both) == pytest.approx(
        (covariance[0, 0], covariance[1, 1], covariance[0, 1]), rel=0.15
    )
    assert doubt_of([0.5], 10) is None
    assert doubt_of([0.0, 0.0, 1.0], 10) is None
    assert deviation(None, Group(10, 1.0, 0.5)) == 0


def test_typical_log_odds_are_where_the_doubtful_part_of_a_group_lies() -> None:
    for log_odds in (RANDOM.normal(-6, 1, 5000), RANDOM.normal(5, 1, 5000)):
        scores = sigmoid(log_odds)
        (group,) = (one for one in groups_of(scores, ["clear"] * 5000).values() if one.verdicts)
        weight = scores * (1 - scores)
        assert typical_log_odds(group) == pytest.approx(float(weight @ log_odds / weight.sum()), abs=0.6)


def test_nothing_is_estimated_of_nothing_and_certain_scores_are_certain() -> None:
    assert all(one.value is None and one.why for one in estimated({}, None))
    certain = {one.measure: one for one in estimated({"flag": Group(10, 10.0, 0.0), "clear": Group(5, 0.0, 0.0)}, None)}
    assert (certain["precision"].value, certain["precision"].low, certain["precision"].high) == (1, 1, 1)
    assert certain["true_positive_rate"].low == 1
    assert certain["false_positive_rate"].high == 0
    assert estimated({"flag": Group(10, 7.0, 1.0)}, None) == estimated({"flag": Group(10, 7.0, 1.0)}, None)


# ---- The shipped detector of payments ------------------------------------------------------------------------------


def payments(count: int, *, large: float, risky: float) -> Floats:
    """Made payments as the shipped detector takes them; `large` and `risky` say how unlike the usual they are."""
    amount = np.round(RANDOM.gamma(2.0, 25.0 * large, count) + 0.01, 2)
    risk = np.where(RANDOM.random(count) < risky, RANDOM.uniform(0.1, 1.0, count), 0.0)
    mean = RANDOM.gamma(8.0, 6.0, count)
    columns = [amount, RANDOM.random(count) < 0.28, RANDOM.random(count) < 0.15]
    for days in (1, 7, 30):
        columns += [1 + RANDOM.poisson(2 * days, count), mean + RANDOM.normal(0, 5 / days, count).clip(0)]
    for days in (1, 7, 30):
        columns += [RANDOM.poisson(1 * days, count), risk * RANDOM.uniform(0.6, 1.0, count)]
    return np.stack([np.asarray(one, np.float64) for one in columns], axis=1)


@pytest.mark.system
def test_of_the_shipped_detector_other_payments_are_estimated_right_and_another_fraud_is_not() -> None:
    bundle = open_bundle(Path(BUILTIN) / "card-fraud", None)
    detector, evidence = load_detector(bundle), evidence_of(bundle)
    assert evidence.doubt is not None
    assert not evidence.pools_videos

    def asked(large: float, risky: float, shift: float) -> tuple[Iterable[Figure], Mapping[Measure, float]]:
        scored = detector.score_rows(payments(3000, large=large, risky=risky).astype(np.float32))
        scores = scored.score
        decisions = [CODES[code] for code in scored.decision]
        # Truth as the scores say, or with the odds off by a shift.
        truth = calibrate_beta(scores, 1, 1, shift) if shift else scores
        positive = RANDOM.random(len(scores)) < truth
        return estimated(groups_of(scores, decisions), None), truth_of(positive, decisions)

    for large, risky in ((1.0, 0.02), (3.0, 0.02), (1.0, 0.3)):
        found = coverage(30, lambda large=large, risky=risky: asked(large, risky, 0.0))  # type: ignore[misc]
        assert np.mean(list(found.values())) > 0.92, (large, risky, found)
    fails = coverage(20, lambda: asked(1.0, 0.1, 1.5))
    assert fails["positive_rate"] < 0.3
    assert fails["true_positive_rate"] < 0.7
