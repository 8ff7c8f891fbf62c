"""Thresholds and exits of the face recipe, on scores made up for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("scipy", reason="the recipe needs scipy: pip install 'discern-detectors[train]'")

from recipes.synthetic_face import cascade
from recipes.synthetic_face.measure import auc, share_from, sigmoid

PAIRS = [("one/synthetic", "one/authentic"), ("two/synthetic", "two/authentic")]


def made(
    seed: int, rows: int = 800
) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Kinds, labels, and scores of a screen that is the expert with noise; photographs of `two` look more synthetic."""
    random = np.random.default_rng(seed)
    kind = np.repeat(["one/synthetic", "one/authentic", "two/synthetic", "two/authentic"], rows)
    label = np.char.endswith(kind, "/synthetic").astype(np.int64)
    odds = random.normal(5.0 * label - 2.5, 1.5) + 0.8 * (kind == "two/authentic")
    return kind, label, sigmoid(odds + random.normal(0, 0.7, len(odds))), sigmoid(odds)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thresholds_hold_for_every_source_of_photographs_and_not_for_their_mean_alone(seed: int) -> None:
    kind, label, screen, expert = made(seed)
    point = cascade.choose(screen, expert, kind, label, PAIRS)
    shares = [share_from(expert[kind == name], point.flag_from) for name in ("one/authentic", "two/authentic")]
    assert 0 < max(shares) <= cascade.FLAG_FALSE_POSITIVE_RATE
    seen = [share_from(expert[kind == name], point.review_from) for name in ("one/authentic", "two/authentic")]
    assert 0.05 < max(seen) <= cascade.REVIEW_FALSE_POSITIVE_RATE


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_screen_decides_as_much_as_it_may_and_costs_no_more_than_it_may(seed: int) -> None:
    kind, label, screen, expert = made(seed)
    point = cascade.choose(screen, expert, kind, label, PAIRS)
    assert point.clear_below <= point.review_from <= point.flag_from <= point.flag_above
    assert point.decided_by_screen(screen).mean() > 0.2
    score = point.cascade(screen, expert)
    for made_by, photographs in PAIRS:
        alone = auc(expert[kind == made_by], expert[kind == photographs]).value
        assert auc(score[kind == made_by], score[kind == photographs]).value >= alone - 2 * cascade.LOST_AUC
    lost = (score < point.review_from) & (expert >= point.review_from) & (label == 1)
    assert lost.sum() <= cascade.LOST_SYNTHETIC * (label == 1).sum()
    wronged = (score >= point.flag_from) & (expert < point.flag_from) & (label == 0)
    assert wronged.sum() <= cascade.LOST_AUTHENTIC * (label == 0).sum()


def test_a_screen_that_knows_nothing_decides_nothing() -> None:
    kind, label, _, expert = made(4)
    screen = np.random.default_rng(5).uniform(0, 1, len(expert))
    point = cascade.choose(screen, expert, kind, label, PAIRS)
    assert point.decided_by_screen(screen).mean() < 0.02
