"""Tests at 5 % reject a true hypothesis in 5 % of the cases, as far as a simulation can tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from discern.evaluation.comparisons import mcnemar
from tests.evaluation.documented import figures
from tests.evaluation.simulations import WRONGLY_REJECTED

FEWEST_REPETITIONS = 600


@pytest.mark.parametrize("case", WRONGLY_REJECTED)
def test_a_true_hypothesis_is_rejected_as_often_as_stated(case: str) -> None:
    share = WRONGLY_REJECTED[case]()
    three_errors = 3 * math.sqrt(0.05 * 0.95 / FEWEST_REPETITIONS)
    assert share <= 0.05 + three_errors
    # Holm's bound on several tests is not reached where they are not independent of one another.
    assert share >= (0.01 if "Holm" in case else 0.05 - three_errors)
    assert figures()[case] == pytest.approx(share, abs=0.004)


@pytest.mark.parametrize("discordant", [6, 10, 24])
def test_the_exact_test_never_rejects_more_often_than_it_may(discordant: int) -> None:
    chances = [math.comb(discordant, wins) / 2**discordant for wins in range(discordant + 1)]
    p_values = [mcnemar([1] * wins + [-1] * (discordant - wins)) for wins in range(discordant + 1)]
    size = sum(chance for chance, p_value in zip(chances, p_values, strict=True) if p_value < 0.05)
    assert 0 < size <= 0.05


def test_the_exact_test_in_groups_counts_out_every_sign() -> None:
    sums = np.array([3, 1, -2, 2, 5, -1])
    sizes = [int(abs(one)) for one in sums]
    groups = np.repeat(np.arange(6), sizes)
    differences = np.repeat(np.sign(sums), sizes)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    totals = (signs * abs(sums)[:, None]).sum(axis=0)
    assert mcnemar(differences, groups) == pytest.approx(np.mean(abs(totals) >= abs(sums.sum())))
