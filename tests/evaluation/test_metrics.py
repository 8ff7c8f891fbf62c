"""Figures against scikit-learn, SciPy and hand counts, and what they say of bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from scipy import stats
from sklearn import metrics as reference

from discern.core.errors import CallerError
from discern.evaluation import metrics, metrics_weighted
from discern.evaluation.metrics_calibration import bins_of, calibration, calibration_error
from discern.evaluation.metrics_cards import CardRanking, card_precision
from discern.evaluation.statistics import mean, proportion, rate_of_events, rows_of, separated_limits, share_limits
from discern.evaluation.statistics_bootstrap import by_bootstrap, drawn, resamples
from discern.evaluation.types import Estimate

WEIGHTED: dict[str, tuple[Callable[..., Any], Callable[..., float]]] = {
    "area": (metrics_weighted.area_under_roc, reference.roc_auc_score),
    "precision": (metrics_weighted.average_precision, reference.average_precision_score),
}


def sample(seed: int, count: int = 400, decimals: int = 1) -> tuple[Any, Any]:
    """Labels and scores with many ties."""
    random = Generator(PCG64(seed))
    labels = random.random(count) < 0.3
    return labels.astype(int), np.round(labels + random.normal(size=count), decimals)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weighted_figure_is_that_of_rows_repeated(name: str) -> None:
    ours, theirs = WEIGHTED[name]
    labels, scores = sample(1)
    groups = np.arange(400) % 90
    statistic = ours(rows_of(labels, scores, groups))
    assert statistic(np.ones((1, 90)))[0] == pytest.approx(theirs(labels, scores))
    weights = Generator(PCG64(2)).integers(0, 4, (5, 90)).astype(float)
    for weight, found in zip(weights, statistic(weights), strict=True):
        repeated = np.repeat(np.arange(400), weight[groups].astype(int))
        assert found == pytest.approx(theirs(labels[repeated], scores[repeated]))


def test_the_equal_error_rate_lies_where_the_two_rates_cross() -> None:
    labels, scores = sample(3)
    alarms, hits, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    fine = np.linspace(0, 1, 200_001)
    crossing = fine[np.argmin(abs(fine - (1 - np.interp(fine, alarms, hits))))]
    found = metrics.equal_error_rate(labels, scores, seed=1, draws=50)
    assert found.value == pytest.approx(crossing, abs=1e-4)


def test_the_true_positive_rate_is_the_largest_within_the_false_positive_rate() -> None:
    labels, scores = sample(4, decimals=2)
    alarms, hits, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    found = metrics.true_positive_rate_at(0.05, labels, scores, seed=1, draws=50)
    assert found.value == pytest.approx(hits[alarms <= 0.05].max())


@pytest.mark.parametrize("groups", [None, np.arange(400) % 60], ids=["alone", "in groups"])
@pytest.mark.parametrize("decimals", [1, 6])
def test_rates_from_shared_resamples_are_those_that_each_has_by_itself(decimals: int, groups: Any) -> None:
    labels, scores = sample(17, decimals=decimals)
    rates = (0.1, 0.01, 0.001)
    shared = metrics.error_rates(labels, scores, groups, at=rates, seed=3, draws=60)
    one_by_one = [
        metrics.equal_error_rate(labels, scores, groups, seed=3, draws=60),
        *(metrics.true_positive_rate_at(rate, labels, scores, groups, seed=3, draws=60) for rate in rates),
    ]
    assert list(shared) == one_by_one
    assert metrics.error_rates([1] * 9, [0.5] * 9, at=rates, seed=3) == (
        metrics.equal_error_rate([1] * 9, [0.5] * 9, seed=3),
        *(metrics.true_positive_rate_at(rate, [1] * 9, [0.5] * 9, seed=3) for rate in rates),
    )


@pytest.mark.parametrize(
    ("labels", "scores", "groups"),
    [
        ([0] * 200 + [1] * 200, [0.1] * 200 + [0.9] * 200, None),
        ([0, 1] * 200, np.linspace(0, 1, 400), np.arange(400) % 2),
    ],
    ids=["classes that do not overlap", "one group a class"],
)
def test_shared_resamples_say_as_much_where_nothing_varies(labels: Any, scores: Any, groups: Any) -> None:
    shared = metrics.error_rates(labels, scores, groups, at=(0.1,), seed=3, draws=60)
    assert list(shared) == [
        metrics.equal_error_rate(labels, scores, groups, seed=3, draws=60),
        metrics.true_positive_rate_at(0.1, labels, scores, groups, seed=3, draws=60),
    ]


def test_midranks_are_scipys() -> None:
    random = Generator(PCG64(18))
    for count, kinds in ((0, 1), (1, 1), (7, 2), (500, 20), (500, 10_000)):
        values = random.integers(0, kinds, count) / kinds
        assert metrics.midranks(values).tolist() == stats.rankdata(values).tolist()


def test_rows_are_grouped_alike_whatever_their_groups_are_called() -> None:
    groups = np.array([4, 1, 4, 9, 1])
    for named in (
        groups,
        groups.astype(np.int16),
        groups * 10**12,
        groups - 5,
        groups.astype(float),
        groups.astype(str),
    ):
        rows = rows_of([0, 1, 0, 1, 1], [0.1, 0.2, 0.3, np.nan, 0.5], named)
        assert (rows.groups.tolist(), rows.group_count) == ([1, 0, 1, 0], 2)
        assert rows.groups.dtype == np.int64
        assert (rows.groups_with(True), rows.groups_with(False)) == (1, 1)


def test_the_variance_of_an_area_is_delongs_and_groups_of_copies_change_nothing() -> None:
    labels, scores = sample(5, 60)
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    expected = wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)
    rows = rows_of(labels, scores)
    area = metrics.area_of(metrics.placements(rows), rows)
    assert (area.value, area.variance) == pytest.approx((wins.mean(), expected))
    copies = rows_of(np.repeat(labels, 3), np.repeat(scores, 3), np.repeat(np.arange(60), 3))
    of_copies = metrics.area_of(metrics.placements(copies), copies)
    assert (of_copies.value, of_copies.variance) == pytest.approx((wins.mean(), expected))


def test_classes_that_do_not_overlap_have_an_interval_with_a_width() -> None:
    found = metrics.area_under_roc(np.repeat([0, 1], 40), np.arange(80.0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low is not None
    assert 0.9 < found.low < 1.0
    # Newcombe's equation holds at the limit.
    low = found.low
    spread = low * (1 - low) * (1 + 39 * ((1 - low) / (2 - low) + low / (1 + low))) / 1600
    assert 1 - low == pytest.approx(1.959964 * np.sqrt(spread), rel=1e-5)
    assert separated_limits(0.0, 40, 40) == pytest.approx((0.0, 1 - low))


def test_limits_of_shares_are_scipys() -> None:
    for hits, total in ((30, 100), (6, 400), (395, 400)):
        expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
        low, high, method = share_limits(hits / total, total)
        assert method == "Wilson"
        assert (low, high) == pytest.approx((expected.low, expected.high))
    for hits, total in ((0, 50), (3, 50), (48, 50), (50, 50)):
        expected = stats.binomtest(hits, total).proportion_ci(method="exact")
        assert share_limits(hits / total, total)[:2] == pytest.approx((expected.low, expected.high))


def test_events_an_hour_have_the_tabled_poisson_limits() -> None:
    ten = rate_of_events([10], [2.0])
    assert (ten.value, ten.low, ten.high) == pytest.approx((5.0, 4.795 / 2, 18.39 / 2), abs=1e-3)
    none = rate_of_events([0, 0], [1.0, 1.0])
    assert (none.low, none.high) == pytest.approx((0.0, 3.689 / 2), abs=1e-3)


def test_a_mean_alone_has_students_interval() -> None:
    values = Generator(PCG64(6)).normal(size=2000)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (mean(values).low, mean(values).high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_resamples_follow_from_the_seed_alone_and_draw_every_group() -> None:
    small = np.concatenate(list(resamples(7, 7, seed=3, draws=50)))
    large = np.concatenate(list(resamples(7, 400_000, seed=3, draws=50)))
    assert np.array_equal(small, large)
    assert (small.sum(axis=1) == 7).all()
    assert small.mean(axis=0) == pytest.approx(np.ones(7), abs=0.4)


def test_the_bootstrap_of_a_mean_is_what_theory_says() -> None:
    values = Generator(PCG64(7)).normal(size=300)
    found = drawn(lambda w: (w * values).sum(axis=1) / w.sum(axis=1), 300, 300, seed=1, draws=4000)
    assert found.std() == pytest.approx(values.std() / np.sqrt(300), rel=0.05)
    theirs = stats.bootstrap((np.exp(values),), np.mean, rng=1, n_resamples=4000).confidence_interval
    ours = by_bootstrap(lambda w: (w * np.exp(values)).sum(axis=1) / w.sum(axis=1), 300, 300, seed=1, draws=4000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_equal_scores_share_a_bin_whatever_their_order() -> None:
    scores = np.repeat([0.1, 0.4, 0.9], [50, 3, 47])
    bins = bins_of(scores)
    assert [len(set(bins[scores == score])) for score in (0.1, 0.4, 0.9)] == [1, 1, 1]
    assert sorted(set(bins)) == list(range(len(set(bins))))
    labels = Generator(PCG64(8)).integers(0, 2, 100)
    order = Generator(PCG64(9)).permutation(100)
    assert calibration_error(labels, scores) == pytest.approx(calibration_error(labels[order], scores[order]))


def test_a_calibrated_detector_may_have_no_error_and_a_bad_one_has() -> None:
    random = Generator(PCG64(10))
    scores = random.random(2000)
    labels = (random.random(2000) < scores).astype(int)
    good = calibration(labels, scores, seed=1, draws=300)
    assert good.error.low == 0.0
    assert good.expected_if_calibrated == pytest.approx(good.error.value, rel=0.5)
    bad = calibration(labels, scores**3, seed=1, draws=300)
    assert bad.error.low is not None
    assert bad.corrected is not None
    assert bad.error.value is not None
    assert 0.1 < bad.error.low < bad.corrected <= bad.error.value
    assert sum(line.items for line in bad.bins) == 2000


def test_card_precision_by_hand_with_and_without_blocking() -> None:
    # Day 0: card 7 (its highest payment counts) and card 5. Day 1: card 7 was found, so 5 and 6 are looked at.
    day = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    card = np.array([7, 7, 5, 6, 7, 5, 6, 4])
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.95, 0.6, 0.5, 0.4])
    fraud = np.array([1, 0, 0, 1, 1, 0, 1, 1])
    assert card_precision(fraud, score, card, day, k=2, seed=1, draws=20).value == pytest.approx((1 / 2 + 1 / 2) / 2)
    again = card_precision(fraud, score, card, day, k=2, once=False, seed=1, draws=20)
    assert again.value == pytest.approx((1 / 2 + 1 / 2) / 2)
    fraud[5] = 0
    fraud[6] = 0
    assert card_precision(fraud, score, card, day, k=2, seed=1, draws=20).value == pytest.approx(1 / 4)
    assert card_precision(fraud, score, card, day, k=2, once=False, seed=1, draws=20).value == pytest.approx(1 / 2)


def test_a_card_that_was_drawn_twice_takes_two_looks() -> None:
    ranking = CardRanking(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7]), np.arange(3), np.zeros(3))
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert ranking.precision(weights, 2).tolist() == [1 / 2, 1.0, 1 / 2]


def test_rates_at_the_thresholds_by_hand() -> None:
    point = metrics.operating_point([0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 0, 2, -1])
    assert (point.negative.clear.value, point.negative.review.value, point.negative.flag.value) == (0.5, 0.25, 0.25)
    assert (point.positive.items, point.positive.undecided, point.positive.flag.value) == (3, 1, 0.5)
    assert point.flag_precision.value == 0.5


def test_a_subgroup_of_one_class_is_measured_against_the_other_class_of_all() -> None:
    labels, scores = sample(11)
    names = np.where(labels == 1, np.where(np.arange(400) % 2, "swap", "morph"), "real")
    lines = metrics.subgroup_table(labels, scores, np.where(scores > 1, 2, 0), names)
    assert [line.name for line in lines] == ["morph", "real", "swap"]
    swap = lines[2]
    among = (names == "swap") | (labels == 0)
    assert swap.area_under_roc.value == pytest.approx(reference.roc_auc_score(labels[among], scores[among]))
    assert "negatives of the whole dataset" in (swap.area_under_roc.caveat or "")
    assert swap.flagged_negatives.value is None
    small = metrics.subgroup_table(labels, scores, np.zeros(400), np.where(np.arange(400) < 5, "few", "many"))
    assert small[0].caveat == "only 5 items"
    assert small[1].caveat is None


def test_frames_become_one_score_a_video() -> None:
    scores = [0.1, 0.9, np.nan, 0.5, 0.2, np.nan]
    videos = [4, 4, 4, 9, 9, 11]
    labels = [1, 1, 1, 0, 0, 0]
    for pool, top, expected in (("mean", 1, [0.5, 0.35]), ("max", 1, [0.9, 0.5]), ("top_mean", 2, [0.5, 0.35])):
        label, score, frames = metrics.pooled(labels, scores, videos, pool=pool, top=top)  # type: ignore[arg-type]
        assert label.tolist() == [1, 0, 0]
        assert score[:2] == pytest.approx(expected)
        assert np.isnan(score[2])
        assert frames.tolist() == [2, 2, 0]
    with pytest.raises(CallerError, match="labelled otherwise, in 1 of 3 videos"):
        metrics.pooled([1, 0, 1, 0, 0, 0], scores, videos, pool="mean")


FIGURES: dict[str, Callable[..., Estimate]] = {
    "area": metrics.area_under_roc,
    "precision": metrics.average_precision,
    "error rate": lambda *columns: metrics.equal_error_rate(*columns, seed=1, draws=50),
    "at 1 %": lambda *columns: metrics.true_positive_rate_at(0.01, *columns, seed=1, draws=50),
    "calibration": lambda *columns: calibration(*columns, seed=1, draws=50).error,
}


@pytest.mark.parametrize("name", FIGURES)
def test_one_class_no_items_and_no_scores_are_no_figure(name: str) -> None:
    figure = FIGURES[name]
    for labels, scores in (([1] * 9, [0.5] * 9), ([], []), ([0, 1] * 5, [np.nan] * 10), ([0] * 9, [0.5] * 9)):
        found = figure(labels, scores)
        assert found.value is None
        assert found.caveat


@pytest.mark.parametrize("name", ["area", "precision", "error rate", "calibration"])
def test_rows_without_a_score_are_left_out_and_counted(name: str) -> None:
    labels, scores = sample(12)
    scores = 1 / (1 + np.exp(-scores))
    scores[5:8] = np.nan
    found, expected = (
        FIGURES[name](labels, scores),
        FIGURES[name](np.delete(labels, [5, 6, 7]), np.delete(scores, [5, 6, 7])),
    )
    assert found.value == expected.value
    assert "3 rows have no score" in (found.caveat or "")


def test_too_few_negatives_are_no_false_positive_rate() -> None:
    labels, scores = sample(13)
    found = metrics.true_positive_rate_at(0.001, labels, scores, seed=1)
    assert found.value is None
    assert "needs 1000 at least, 10000 to be known" in (found.caveat or "")


def test_what_is_no_column_of_labels_and_scores_is_refused() -> None:
    for labels, scores in (([0, 2], [0.1, 0.2]), ([0, 1], [0.1]), ([0, 1], [0.1, np.inf])):
        with pytest.raises(ValueError, match=r"label|columns|infinite"):
            metrics.area_under_roc(labels, scores)


def test_equal_scores_and_one_group_have_no_interval() -> None:
    tied = metrics.area_under_roc([0, 1] * 40, [0.5] * 80)
    assert (tied.value, tied.low) == (0.5, None)
    assert "do not vary" in (tied.caveat or "")
    assert metrics.area_under_roc(*sample(14), np.zeros(400)).value is None
    assert proportion([], None).value is None


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    assert calibration(*sample(15), seed=1).error.value is None
