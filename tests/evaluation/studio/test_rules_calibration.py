"""Calibrations as they are fitted and chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from discern.core.errors import CallerError
from discern.detectors.calibration import calibrator
from discern.detectors.manifest import Calibration
from discern.evaluation.studio.rules_calibration import choose_calibration, fit_beta, fit_isotonic

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def drawn(rows: int, seed: int, distort: Any) -> tuple[Floats, Flags]:
    """Probabilities that are true before they are distorted."""
    random = Generator(PCG64(seed))
    true = expit(random.normal(-0.5, 2, rows))
    return np.asarray(distort(true)), random.random(rows) < true


def test_beta_is_the_maximum_of_logistic_regression_on_both_logarithms() -> None:
    probabilities, labels = drawn(4000, 1, lambda true: true**1.7)
    features = np.stack([np.log(probabilities), -np.log1p(-probabilities)], axis=1)
    free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(features, labels)
    assert (free.coef_ > 0).all()
    found = fit_beta(probabilities, labels)["beta"]
    assert [found["a"], found["b"]] == pytest.approx(free.coef_[0].tolist(), rel=2e-3)
    assert found["c"] == pytest.approx(float(free.intercept_[0]), abs=3e-3)


def test_beta_never_turns_the_order_round() -> None:
    probabilities, labels = drawn(2000, 2, lambda true: 1 - true)
    found = fit_beta(probabilities, labels)["beta"]
    assert (found["a"], found["b"]) == (0, 0)
    assert expit(found["c"]) == pytest.approx(labels.mean(), abs=1e-3)


def test_isotonic_has_the_levels_of_scikit_learn_at_the_middle_of_its_blocks() -> None:
    probabilities, labels = drawn(3000, 3, lambda true: np.round(true, 3))
    points = fit_isotonic(probabilities, labels)["isotonic"]
    given = calibrator(Calibration.model_validate({"isotonic": points}))
    peer = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probabilities, labels)
    middles = np.array(points["probabilities"])
    assert given(middles) == pytest.approx(np.clip(peer.predict(middles), 1 / 3002, 3001 / 3002), abs=1e-5)
    assert (np.diff(given(np.linspace(0, 1, 5001))) >= 0).all()


def test_isotonic_keeps_more_scores_apart_than_the_steps_do() -> None:
    probabilities, labels = drawn(3000, 4, lambda true: true)
    given = calibrator(Calibration.model_validate(fit_isotonic(probabilities, labels)))
    peer = IsotonicRegression(out_of_bounds="clip").fit(probabilities, labels)
    assert len(np.unique(given(probabilities))) > 10 * len(np.unique(peer.predict(probabilities)))


@pytest.mark.parametrize(
    ("kind", "distort"),
    [
        ("temperature", lambda true: expit(logit(true) * 2.5)),
        ("beta", lambda true: true**2.5),
        ("isotonic", lambda true: np.where(true < 0.5, 0.2 * true, 0.4 + 0.6 * true)),
    ],
)
def test_the_simplest_kind_that_fits_is_taken(kind: str, distort: Any) -> None:
    probabilities, labels = drawn(20_000, 5, distort)
    found = choose_calibration("only", probabilities, labels, np.arange(20_000), 1)
    assert found.kind == kind
    assert [one.kind for one in found.tried] == ["temperature", "beta", "isotonic"]
    given = calibrator(Calibration.model_validate(found.calibration))
    fresh, fresh_labels = drawn(20_000, 6, distort)
    error = np.abs(given(fresh) - fresh_labels).mean(), np.abs(fresh - fresh_labels).mean()
    bins = np.minimum((given(fresh) * 10).astype(int), 9)
    gaps = [abs(given(fresh)[bins == number].mean() - fresh_labels[bins == number].mean()) for number in range(10)]
    assert max(gaps) < 0.05, (gaps, error)


def test_the_same_data_give_the_same_calibration_whatever_the_groups_are_called() -> None:
    probabilities, labels = drawn(3000, 7, lambda true: true**2)
    groups = np.arange(3000) // 10
    one, other = (choose_calibration("only", probabilities, labels, names, 1) for names in (groups, groups * 7 + 3))
    assert one == other


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        (200, np.zeros(200, np.bool_), "0 positive items"),
        (200, np.arange(200) < 29, "29 positive items"),
        (10, np.arange(10) < 5, "too few"),
    ],
)
def test_too_few_of_a_class_are_refused(rows: int, labels: Flags, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        choose_calibration("only", np.linspace(0.1, 0.9, rows), labels, np.arange(rows), 1)


def test_few_groups_are_refused_however_many_items_they_have() -> None:
    probabilities, labels = drawn(3000, 8, lambda true: true)
    with pytest.raises(CallerError, match="in 6 groups are too few"):
        choose_calibration("only", probabilities, labels, np.arange(3000) % 6, 1)


def test_nan_is_refused() -> None:
    probabilities, labels = drawn(300, 9, lambda true: true)
    probabilities[17] = np.nan
    with pytest.raises(CallerError, match="NaN"):
        choose_calibration("only", probabilities, labels, np.arange(300), 1)
