"""Figures against scikit-learn's and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from discern.evaluation import measures
from discern.evaluation.measures import Marked


def made(rows: int, seed: int = 0, *, apart: float = 1.0, groups: int | None = None, digits: int = 2) -> Marked:
    """Scores with ties."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.4).astype(np.int8)
    odds = random.normal(0, 1.5, rows) + apart * labels
    numbers = np.arange(rows) if groups is None else random.integers(0, groups, rows)
    return Marked(labels, np.round(1 / (1 + np.exp(-odds)), digits), numbers.astype(np.int64))


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_those_of_scikit_learn(seed: int) -> None:
    marked = made(700, seed)
    found = measures.metrics(marked, 1)
    assert found["auc"].value == pytest.approx(roc_auc_score(marked.labels, marked.scores))
    assert found["average_precision"].value == pytest.approx(average_precision_score(marked.labels, marked.scores))
    false, true, _ = roc_curve(marked.labels, marked.scores)
    assert found["tpr_at_fpr_1_percent"].value == pytest.approx(true[false <= 0.01].max())
    eer = found["eer"].value
    assert eer == pytest.approx(1 - np.interp(eer or 0, false, true), abs=1e-9)
    for estimate in found.values():
        if estimate.low is not None and estimate.high is not None:
            assert estimate.low <= estimate.high


def test_the_seed_decides_what_is_drawn() -> None:
    marked = made(300)
    assert measures.metrics(marked, 5) == measures.metrics(marked, 5)
    assert measures.metrics(marked, 5) != measures.metrics(marked, 6)


def test_rows_that_repeat_in_groups_make_no_interval_narrower() -> None:
    alone = made(400, digits=6)
    tenfold = Marked(np.repeat(alone.labels, 10), np.repeat(alone.scores, 10), np.repeat(alone.groups, 10))
    one, ten = measures.auc(alone), measures.auc(tenfold)
    assert ten.low == pytest.approx(one.low, abs=0.005)
    flagged = alone.scores > 0.8
    single, repeated = (
        measures.share(flagged, alone.groups),
        measures.share(np.repeat(flagged, 10), np.repeat(alone.groups, 10)),
    )
    assert repeated.low == pytest.approx(single.low, abs=0.002)
    assert measures.share(np.repeat(flagged, 10), np.arange(4000)).low > single.low + 0.01  # type: ignore[operator]


def test_a_rate_that_the_negatives_cannot_show_is_none() -> None:
    found = measures.metrics(made(900), 1)
    assert found["tpr_at_fpr_0_1_percent"].value is None
    assert "it takes 1,000" in (found["tpr_at_fpr_0_1_percent"].caveat or "")


def test_perfect_separation_has_no_interval_and_says_so() -> None:
    marked = Marked(np.array([0, 0, 1, 1], np.int8), np.array([0.1, 0.2, 0.8, 0.9]), np.arange(4))
    area = measures.auc(marked)
    assert (area.value, area.low, area.high) == (1.0, None, None)
    assert area.caveat


def test_a_detector_is_not_distinguishable_from_itself_and_worse_than_a_better_one() -> None:
    marked = made(800, 3, apart=2.0, digits=6)
    noisy = Marked(marked.labels, np.random.default_rng(1).random(800), marked.groups)
    flags = marked.scores > 0.7
    same = measures.corrected(measures.compared("d", marked, marked, [flags, flags]))
    assert [one.finding for one in same] == ["not distinguishable"] * 2
    found = measures.corrected(measures.compared("d", noisy, marked, [noisy.scores > 0.7, flags]))
    assert [one.finding for one in found] == ["worse"] * 2
    assert all(one.p is not None and one.p_alone is not None and one.p >= one.p_alone for one in found)


def test_chance_alone_is_called_a_difference_about_as_often_as_it_should_be() -> None:
    calls = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        labels = (random.random(200) < 0.5).astype(np.int8)
        truth = labels + random.normal(0, 1, 200)
        ours, theirs = (Marked(labels, truth + random.normal(0, 0.7, 200), np.arange(200)) for _ in range(2))
        area = measures.compared("d", ours, theirs, [ours.scores > 1, theirs.scores > 1])[0]
        calls += (area.p_alone or 1.0) < 0.05
    # 20 are expected; more than 34 or fewer than 7 come by chance in one of a thousand.
    assert 7 <= calls <= 34


def test_a_difference_that_is_not_told_says_what_would_tell_it() -> None:
    random = np.random.default_rng(8)
    labels = (random.random(300) < 0.5).astype(np.int8)
    truth = labels + random.normal(0, 1, 300)
    ours, theirs = (Marked(labels, truth + random.normal(0, spread, 300), np.arange(300)) for spread in (0.5, 0.6))
    area = measures.corrected(measures.compared("d", ours, theirs, [ours.scores > 1, theirs.scores > 1]))[0]
    assert area.finding == "not distinguishable"
    assert area.items_that_would_tell is not None
    assert area.items_that_would_tell > 300


def test_curves_begin_and_end_where_they_must() -> None:
    marked = made(5000, digits=6)
    curve = measures.roc(marked)
    assert (curve[0].x, curve[0].y) == (0.0, 0.0)
    assert (curve[-1].x, curve[-1].y) == (1.0, 1.0)
    assert len(curve) <= 202
    area = float(np.trapezoid([point.y for point in curve], [point.x for point in curve]))
    assert area == pytest.approx(roc_auc_score(marked.labels, marked.scores), abs=0.005)
    assert sum(one.items for one in measures.reliability(marked)) == 5000
    bars = measures.histogram(marked)
    assert sum(one.negatives + one.positives for one in bars) == 5000
