"""Calibration by temperature, beta and isotonic curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from discern.detectors.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    calibrate,
    calibrate_beta,
    calibrator,
    fit_temperature,
)
from discern.detectors.manifest import Calibration

if TYPE_CHECKING:
    from discern.detectors.calibration import Calibrate

shares = st.floats(0, 1)
temperatures = st.floats(0.1, 10)


@pytest.mark.parametrize(("probability", "temperature"), [(0.2, 1.31), (0.9, 0.5), (0.999, 4.0), (1e-6, 2.0)])
def test_the_score_is_the_logistic_of_the_logit_over_the_temperature(probability: float, temperature: float) -> None:
    logit = math.log(probability / (1 - probability))
    expected = 1 / (1 + math.exp(-logit / temperature))
    assert calibrate([probability], temperature)[0] == pytest.approx(expected, rel=1e-12)


@given(st.lists(shares))
def test_a_temperature_of_one_changes_no_bit(probabilities: list[float]) -> None:
    assert calibrate(probabilities, 1.0).tolist() == probabilities


def test_float32_probabilities_keep_their_value_at_temperature_one() -> None:
    raw = np.array([0.0, 1e-30, 0.1, 1.0], dtype=np.float32)
    assert (calibrate(raw, 1.0) == raw).all()


def test_the_ends_stay_inside_zero_and_one() -> None:
    low, high = calibrate([0.0, 1.0], 0.1)
    assert 0.0 <= low < 1e-60
    assert high == 1.0
    assert calibrate([0.0, 1.0], 2.0) == pytest.approx([1 / (1 + math.sqrt((1 - 1e-7) / 1e-7)), 0.99968387], rel=1e-6)


def test_nan_stays_nan_so_that_no_one_takes_it_for_a_score() -> None:
    assert np.isnan(calibrate([math.nan, 0.5], 2.0)).tolist() == [True, False]


@given(shares, shares, temperatures)
def test_calibration_keeps_the_order(one: float, other: float, temperature: float) -> None:
    low, high = calibrate(sorted([one, other]), temperature)
    assert low <= high


@given(shares, temperatures)
def test_calibration_never_crosses_one_half(probability: float, temperature: float) -> None:
    score = calibrate([probability], temperature)[0]
    assert score == pytest.approx(0.5, abs=1e-12) or (score > 0.5) == (probability > 0.5)


@given(st.lists(shares, min_size=1, max_size=70), temperatures)
def test_each_value_is_calibrated_by_itself(probabilities: list[float], temperature: float) -> None:
    alone = [calibrate([probability], temperature)[0] for probability in probabilities]
    assert calibrate(probabilities, temperature).tolist() == alone


def test_the_given_array_is_neither_changed_nor_shared() -> None:
    raw = np.array([0.2, 0.8])
    calibrated = calibrate(raw, 1.0)
    calibrated[:] = 0
    assert raw.tolist() == [0.2, 0.8]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        calibrate([0.5], temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8, 6.0])
def test_the_fit_finds_the_temperature_that_the_data_were_made_with(temperature: float) -> None:
    rng = np.random.default_rng(11)
    true_logits = rng.normal(0, 0.8, 40_000)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-true_logits))
    overconfident = 1 / (1 + np.exp(-true_logits * temperature))
    assert fit_temperature(overconfident, labels) == pytest.approx(temperature, rel=0.05)


@given(st.integers(0, 2**32 - 1))
def test_no_other_temperature_has_a_lower_loss_than_the_fitted_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.random(40)
    labels = (rng.random(40) < 0.5).astype(int)
    labels[:2] = [0, 1]
    fitted = fit_temperature(probabilities, labels)
    best = _loss(probabilities, labels, fitted)
    for other in np.geomspace(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE, 60):
        assert best <= _loss(probabilities, labels, float(other)) + 1e-9


def test_a_minimum_outside_the_range_gives_the_bound() -> None:
    separated, labels = [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]
    assert fit_temperature(separated, labels) == pytest.approx(LOWEST_TEMPERATURE)
    assert fit_temperature([0.9, 0.8, 0.2, 0.1], labels) == pytest.approx(HIGHEST_TEMPERATURE)


@pytest.mark.parametrize(
    ("probabilities", "labels", "reason"),
    [
        ([0.5, 0.6], [1], "equal length"),
        ([[0.5], [0.6]], [[1], [0]], "equal length"),
        ([0.5, math.nan], [0, 1], "NaN"),
        ([0.5, 1.5], [0, 1], "outside"),
        ([0.5, 0.6], [0, 2], "neither 0 nor 1"),
        ([0.5, 0.6], [1, 1], "only one class"),
        ([], [], "only one class"),
    ],
)
def test_data_that_cannot_fit_a_temperature_are_refused(
    probabilities: list[float], labels: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_temperature(probabilities, labels)


def _loss(probabilities: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    scores = np.clip(calibrate(probabilities, temperature), 1e-300, 1 - 1e-16)
    return float(-np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores))))


def of(**given: Any) -> Calibrate:
    return calibrator(Calibration.model_validate(given))


rising = st.lists(shares, min_size=2, max_size=12, unique=True).map(sorted)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibrate:
    if draw(st.booleans()):
        steepness = st.floats(0, 20)
        return of(beta={"a": draw(steepness), "b": draw(steepness), "c": draw(st.floats(-10, 10))})
    points = draw(rising)
    scores = sorted(draw(st.lists(shares, min_size=len(points), max_size=len(points))))
    return of(isotonic={"probabilities": points, "scores": scores})


@given(calibrations(), st.lists(shares, min_size=1, max_size=70))
def test_every_kind_keeps_the_order_stays_in_range_and_takes_each_value_by_itself(
    calibrate_: Calibrate, probabilities: list[float]
) -> None:
    ranked = sorted(probabilities)
    scores = calibrate_(ranked)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores) >= 0).all()
    assert scores.tolist() == [calibrate_([one])[0] for one in ranked]
    assert np.isnan(calibrate_([math.nan])).all()


@given(shares, temperatures)
def test_beta_with_equal_slopes_is_temperature(probability: float, temperature: float) -> None:
    slope = 1 / temperature
    assert calibrate_beta([probability], slope, slope, 0.0)[0] == pytest.approx(
        calibrate([probability], temperature)[0],
        abs=2e-7,  # a share that near to 0 or 1 is cut off at 1e-7
    )


def test_beta_is_the_formula() -> None:
    p, a, b, c = 0.3, 1.7, 0.4, -0.6
    odds = math.exp(c) * p**a / (1 - p) ** b
    assert calibrate_beta([p], a, b, c)[0] == pytest.approx(odds / (1 + odds), rel=1e-12)
    with pytest.raises(ValueError, match="keep the order"):
        calibrate_beta([p], -0.1, b, c)


def test_an_isotonic_curve_is_straight_between_its_points_and_level_outside() -> None:
    curve = of(isotonic={"probabilities": [0.2, 0.4, 0.8], "scores": [0.1, 0.1, 0.7]})
    assert curve([0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0]) == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.4, 0.7, 0.7])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": 2.0, "beta": {"a": 1, "b": 1, "c": 0}}, "temperature and beta"),
        ({"beta": {"a": -1, "b": 1, "c": 0}}, "greater than or equal to 0"),
        ({"isotonic": {"probabilities": [0.5, 0.2], "scores": [0.1, 0.2]}}, "must rise"),
        ({"isotonic": {"probabilities": [0.2, 0.5], "scores": [0.3, 0.2]}}, "must not fall"),
        ({"isotonic": {"probabilities": [0.2, 0.5], "scores": [0.3, 0.4, 0.5]}}, "a score for each"),
        ({"isotonic": {"probabilities": [0.2, 0.5], "scores": [math.nan, 0.5]}}, "finite"),
    ],
)
def test_a_calibration_that_would_not_keep_the_order_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Calibration.model_validate(given)
