"""The choice of thresholds and exits against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.evaluation.statistics import proportion
from discern.evaluation.studio.rules import NotReachable, ladder, prices
from discern.evaluation.studio.rules_bands import BandedCuts, parts_of
from discern.evaluation.studio.rules_cards import numbered
from discern.evaluation.studio.rules_cuts import choose_cuts
from discern.evaluation.studio.rules_exits import choose, choose_exits, cost_of, decisions, last_decisions
from discern.evaluation.studio.types import Chosen, Costs, Cuts, Goal, Sample

scores = st.sampled_from([0.0, 1e-9, 0.05, 0.1, 0.2, 0.35, 0.5, 0.50000001, 0.7, 0.9, 0.99999, 1.0])
# Quarters, so that no two costs differ by less than rounding does.
money = st.integers(0, 400).map(lambda quarters: quarters / 4)
costs = st.builds(Costs, money, money, money, st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.5, 2.0]))
rows = st.lists(
    st.tuples(st.booleans(), scores, scores, money, st.sampled_from([0.5, 1.0, 3.0])),
    min_size=2,
    max_size=14,
)


def sample_of(table: list[tuple[bool, float, float, float, float]]) -> Sample:
    labels, first, last, amounts, weights = (np.array(column) for column in zip(*table, strict=True))
    return Sample(labels.astype(np.bool_), np.stack([first, last], axis=1), np.arange(len(table)), weights, amounts)


def total(cuts: tuple[Cuts, ...], sample: Sample, goal: Goal) -> float:
    return float(np.sum(cost_of(last_decisions(cuts, sample), sample, goal) * sample.weights))


def reviewed(cuts: tuple[Cuts, ...], sample: Sample) -> float:
    return float(np.sum((last_decisions(cuts, sample) == 1) * sample.weights))


def every_pair(sample: Sample) -> list[tuple[Cuts, ...]]:
    steps = ladder(sample.stage_scores[:, -1])
    values = [steps.value(place) for place in range(len(steps.below))]
    return [(Cuts(low, high),) for low, high in product(values, values) if low <= high]


@given(rows, costs, st.one_of(st.none(), st.floats(0, 1)), st.one_of(st.none(), st.floats(0, 1)))
@settings(max_examples=300, deadline=None)
def test_no_pair_of_cuts_costs_less_within_the_limits(
    table: list[tuple[bool, float, float, float, float]], costs: Costs, reviews: float | None, max_fpr: float | None
) -> None:
    sample, goal = sample_of(table), Goal(costs, reviews, max_fpr)
    negatives = np.count_nonzero(~sample.labels)

    def within(cuts: tuple[Cuts, ...]) -> bool:
        flagged = np.count_nonzero((last_decisions(cuts, sample) == 2) & ~sample.labels)
        room = np.inf if reviews is None else reviews * sample.weights.sum() + 1e-6
        return bool(reviewed(cuts, sample) <= room and (max_fpr is None or flagged <= max_fpr * negatives + 1e-9))

    allowed = [cuts for cuts in every_pair(sample) if within(cuts)]
    if not allowed:
        with pytest.raises(NotReachable):
            choose_cuts(sample, goal)
        return
    found = choose_cuts(sample, goal)
    assert within(found)
    best = min(total(cuts, sample, goal) for cuts in allowed)
    assert total(found, sample, goal) == pytest.approx(best, rel=1e-9, abs=1e-9)


@given(rows, costs)
@settings(max_examples=200, deadline=None)
def test_bands_are_the_best_of_each_band_by_itself(
    table: list[tuple[bool, float, float, float, float]], costs: Costs
) -> None:
    sample, goal = sample_of(table), Goal(costs)
    middle = float(np.median(sample.amounts if sample.amounts is not None else [0]))
    high = np.asarray(sample.amounts).astype(np.float32) >= np.float32(middle)
    if not high.any() or high.all():
        return
    found = choose_cuts(sample, goal, (middle,))
    assert [one.start for one in found] == [None, middle]
    best = sum(
        min(total(cuts, part, goal) for cuts in every_pair(part)) for part in (sample.part(~high), sample.part(high))
    )
    assert total(found, sample, goal) == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_bands_share_a_limit_of_reviews() -> None:
    random = np.random.default_rng(3)
    labels = random.random(4000) < 0.2
    stage_scores = np.clip(random.normal(0.3 + 0.3 * labels, 0.2), 0, 1).reshape(-1, 1)
    sample = Sample(labels, stage_scores, np.arange(4000), np.ones(4000), random.exponential(50, 4000))
    costs = Costs(5, 10, 0.5, 0.02, 1.0)
    free = choose_cuts(sample, Goal(costs), (20.0, 80.0))
    assert reviewed(free, sample) > 400
    found = choose_cuts(sample, Goal(costs, 0.1), (20.0, 80.0))
    assert 300 <= reviewed(found, sample) <= 400
    # Where reviews are few, those of large amounts save most.
    assert found[2].flag_from - found[2].review_from > found[0].flag_from - found[0].review_from


def cards_seen(cuts: tuple[Cuts, ...], sample: Sample) -> float:
    """The weight of the cards of a day that have a row reviewed, each as heavy as its heaviest row."""
    assert sample.card_days is not None
    seen = set(sample.card_days[last_decisions(cuts, sample) == 1].tolist())
    return float(sum(sample.weights[sample.card_days == card].max() for card in seen))


@given(rows, costs, st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)), st.data())
@settings(max_examples=100, deadline=None)
def test_no_pair_of_cuts_costs_less_within_a_limit_of_cards(
    table: list[tuple[bool, float, float, float, float]],
    costs: Costs,
    share: float,
    reviews: float | None,
    data: st.DataObject,
) -> None:
    cards = data.draw(st.lists(st.integers(0, 4), min_size=len(table), max_size=len(table)))
    sample = replace(sample_of(table), card_days=np.array(cards))
    goal = Goal(costs, reviews, cards=share)
    all_cards = sum(sample.weights[np.array(cards) == card].max() for card in set(cards))

    def within(cuts: tuple[Cuts, ...]) -> bool:
        room = np.inf if reviews is None else reviews * sample.weights.sum() + 1e-6
        return bool(cards_seen(cuts, sample) <= share * all_cards + 1e-6 and reviewed(cuts, sample) <= room)

    found = choose_cuts(sample, goal)
    assert within(found)
    best = min(total(cuts, sample, goal) for cuts in every_pair(sample) if within(cuts))
    assert total(found, sample, goal) == pytest.approx(best, rel=1e-9, abs=1e-9)


@given(rows, costs, st.floats(0, 1), st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_cuts_of_bands_flag_as_few_negatives_and_cost_less(
    table: list[tuple[bool, float, float, float, float]], costs: Costs, max_fpr: float, nothing_reviewed: bool
) -> None:
    sample, goal = sample_of(table), Goal(costs, 0.0 if nothing_reviewed else None, max_fpr)
    middle = float(np.median(sample.amounts if sample.amounts is not None else [0]))
    high = np.asarray(sample.amounts).astype(np.float32) >= np.float32(middle)
    if not high.any() or high.all():
        return

    def flagged(cuts: tuple[Cuts, ...], of: Sample) -> int:
        return int(np.count_nonzero((last_decisions(cuts, of) == 2) & ~of.labels))

    # The fewest that each number of flagged negatives costs, in each band.
    cheapest: list[dict[int, float]] = []
    for part in (sample.part(~high), sample.part(high)):
        cheapest.append({})
        for cuts in every_pair(part):
            if not nothing_reviewed or reviewed(cuts, part) == 0:
                count = flagged(cuts, part)
                cheapest[-1][count] = min(cheapest[-1].get(count, np.inf), total(cuts, part, goal))
    most = max_fpr * np.count_nonzero(~sample.labels) * (1 + 1e-12)
    if min(cheapest[0]) + min(cheapest[1]) > most:
        with pytest.raises(NotReachable, match="have a score of 1"):
            choose_cuts(sample, goal, (middle,))
        return
    parts = parts_of(sample, high.astype(np.int64), 2)
    banded = BandedCuts(parts, sample, goal)
    places = banded.places()
    by_price = tuple(
        Cuts(part.steps.value(low), part.steps.value(up), start)
        for part, (low, up), start in zip(parts, places, (None, middle), strict=True)
    )
    count = flagged(by_price, sample)
    best = min(one + other for a, one in cheapest[0].items() for b, other in cheapest[1].items() if a + b <= count)
    assert total(by_price, sample, goal) == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert banded.rate_of(places) * np.count_nonzero(~sample.labels) == pytest.approx(count)
    found = choose_cuts(sample, goal, (middle,))
    assert [one.start for one in found] == [None, middle]
    assert flagged(found, sample) <= most
    assert total(found, sample, goal) <= best + 1e-6


def banded_sample(rows: int = 4000, seed: int = 3) -> Sample:
    """Payments of cards, four a day each at most, whose scores say more of large amounts."""
    random = np.random.default_rng(seed)
    labels = random.random(rows) < 0.2
    stage_scores = np.clip(random.normal(0.3 + 0.3 * labels, 0.2), 0, 1).reshape(-1, 1)
    cards, days = random.integers(0, rows // 20, rows), random.integers(0, 10, rows)
    return Sample(labels, stage_scores, cards, np.ones(rows), random.exponential(50, rows), days, numbered(cards, days))


def test_bands_share_limits_of_cards_of_reviews_and_of_flagged_negatives() -> None:
    sample, starts = banded_sample(), (20.0, 80.0)
    costs = Costs(5, 10, 0.5, 0.02, 1.0)
    all_cards = len(np.unique(np.asarray(sample.card_days)))
    free = choose_cuts(sample, Goal(costs), starts)
    assert cards_seen(free, sample) > 0.1 * all_cards

    def rate(cuts: tuple[Cuts, ...]) -> float:
        return float(np.mean(last_decisions(cuts, sample)[~sample.labels] == 2))

    limited = choose_cuts(sample, Goal(costs, cards=0.05), starts)
    assert 0.03 * all_cards <= cards_seen(limited, sample) <= 0.05 * all_cards
    assert rate(limited) > 0.03
    both = choose_cuts(sample, Goal(costs, 0.1, 0.03), starts)
    assert 0.02 <= rate(both) <= 0.03
    assert 0.08 * 4000 <= reviewed(both, sample) <= 0.1 * 4000
    upper = choose_cuts(sample, Goal(costs, 0.1, 0.03, upper_end=True), starts)
    flagged = last_decisions(upper, sample)[~sample.labels] == 2
    assert 0.01 < flagged.mean() < 0.03
    assert (proportion(flagged, sample.groups[~sample.labels]).high or 1) <= 0.03
    with pytest.raises(NotReachable, match="upper end"):
        choose_cuts(banded_sample(200), Goal(costs, None, 0.005, upper_end=True), starts)


def test_cards_of_a_day_are_numbered_by_card_and_day() -> None:
    cards, days = np.array([7, 7, 3, 7, 3]), np.array([100, 101, 100, 100, 100])
    found = numbered(cards, days)
    assert sorted(set(found.tolist())) == [0, 1, 2]
    assert found[0] == found[3] != found[1]
    assert found[2] == found[4] not in {found[0], found[1]}


@given(rows, costs, st.floats(0, 0.5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_exits_save_more_within_the_bound(
    table: list[tuple[bool, float, float, float, float]], costs: Costs, bound: float, priced: bool
) -> None:
    sample = sample_of(table)
    goal = Goal(costs, exit_loss=bound, stage_costs=(0.1, 2.0) if priced else ())
    cuts = choose_cuts(sample, goal)
    alone = total(cuts, sample, goal)
    (found,) = choose_exits(sample, goal, cuts)
    assert found.clear_below <= cuts[0].review_from
    assert found.flag_above >= cuts[0].flag_from
    first = ladder(sample.stage_scores[:, 0])
    values = [first.value(place) for place in range(len(first.below))]

    def outcome(clear_below: float, flag_above: float) -> tuple[float, float]:
        one = Chosen(cuts, (type(found)(0, clear_below, flag_above),))
        decided, by = decisions(one, sample)
        added = float(np.sum(cost_of(decided, sample, goal) * sample.weights)) - alone
        saved = float(np.sum((by == 0) * sample.weights)) * (2.0 if priced else 1.0)
        return added, saved - added if priced else saved

    room = bound * alone + 1e-6
    pairs = [
        (min(low, cuts[0].review_from), max(high, cuts[0].flag_from))
        for low, high in product([0.0, *values], [*values, 1.0])
    ]
    within = [value for added, value in (outcome(*pair) for pair in pairs) if added <= room]
    added, value = outcome(found.clear_below, found.flag_above)
    if within:
        assert added <= room
        assert value == pytest.approx(max(within), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_cuts_part_the_scores_as_their_places_say(given_scores: list[float]) -> None:
    steps = ladder(np.array(given_scores))
    values = [steps.value(place) for place in range(len(steps.below))]
    assert values == sorted(values)
    for value, below in zip(values, steps.below.tolist(), strict=True):
        assert sum(score < value for score in given_scores) == below
        assert value == float(f"{value:.6g}")


def test_the_upper_end_of_the_rate_is_stricter_and_may_be_out_of_reach() -> None:
    random = np.random.default_rng(5)
    labels = np.repeat([False, True], [2000, 200])
    stage_scores = np.clip(random.normal(0.3 + 0.3 * labels, 0.15), 0, 1).reshape(-1, 1)
    sample = Sample(labels, stage_scores, np.arange(2200), np.ones(2200))
    goal = Goal(Costs(0, 1), 0.0, 0.01)
    plain, strict = (choose_cuts(sample, goal)[0], choose_cuts(sample, Goal(Costs(0, 1), 0.0, 0.01, True))[0])
    rates = [float(np.mean(stage_scores[~labels, 0] >= one.flag_from)) for one in (plain, strict)]
    assert rates[1] < rates[0] <= 0.01
    assert plain.review_from == plain.flag_from
    few = sample.part(np.arange(2200) % 20 == 0)
    with pytest.raises(NotReachable, match="100 negatives cannot show"):
        choose_cuts(few, Goal(Costs(0, 1), 0.0, 0.01, True))


def test_a_reviewer_who_errs_and_an_amount_are_in_the_price() -> None:
    price = prices(Costs(5, 100, 1.6, 0.1, 0.5), np.array([False, True]), np.array([10.0, 40.0]))
    assert price.tolist() == [[0, 120], [1.6 + 0.5, 1.6 + 12], [5, 0]]


def test_cheap_reviews_are_used_and_dear_ones_are_not() -> None:
    random = np.random.default_rng(9)
    labels = random.random(3000) < 0.1
    stage_scores = np.clip(random.normal(0.3 + 0.25 * labels, 0.15), 0, 1).reshape(-1, 1)
    sample = Sample(labels, stage_scores, np.arange(3000), np.ones(3000))
    cheap, dear = (choose(sample, Goal(Costs(5, 50, review))).cuts[0] for review in (0.1, 100.0))
    assert cheap.flag_from - cheap.review_from > 0.2
    assert dear.flag_from == dear.review_from


def test_a_limit_that_is_so_many_negatives_allows_so_many() -> None:
    # 0.29 * 100 is a little less than 29.
    labels = np.arange(120) >= 100
    scores = np.where(labels, 0.995, np.arange(120) / 101)
    sample = Sample(labels, scores.reshape(-1, 1), np.arange(120), np.ones(120))
    cuts = choose_cuts(sample, Goal(Costs(0.0, 1.0), 0.0, max_fpr=0.29))[0]
    assert int((scores[~labels] >= cuts.flag_from).sum()) == 29


# A score of 1 is flagged by every exit there can be.
below_one = scores.map(lambda score: min(score, 0.999999))


@given(
    st.lists(
        st.tuples(st.booleans(), below_one, scores, money, st.sampled_from([0.5, 1.0, 3.0])), min_size=4, max_size=14
    ),
    st.floats(0, 0.6),
    st.floats(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_exits_keep_the_limit_of_false_positives(
    table: list[tuple[bool, float, float, float, float]], max_fpr: float, exit_loss: float
) -> None:
    sample = sample_of(table)
    goal = Goal(Costs(false_alarm=0.0), 0.0, max_fpr, exit_loss=exit_loss)
    try:
        chosen = choose(sample, goal)
    except NotReachable:
        return
    flagged = np.count_nonzero((decisions(chosen, sample)[0] == 2) & ~sample.labels)
    assert flagged <= max_fpr * np.count_nonzero(~sample.labels) + 1e-9


def test_exits_flag_nobody_more_where_the_upper_end_is_limited() -> None:
    random = np.random.default_rng(5)
    labels = random.random(3000) < 0.4
    stage_scores = np.clip(random.normal(0.25 + 0.4 * labels[:, None], (0.2, 0.14), (3000, 2)), 0, 0.999)
    sample = Sample(labels, stage_scores, np.arange(3000), np.ones(3000))
    for upper_end in (False, True):
        goal = Goal(Costs(false_alarm=0.0), 0.0, 0.05, upper_end=upper_end)
        chosen = choose(sample, goal)
        with_exits, alone = decisions(chosen, sample)[0], last_decisions(chosen.cuts, sample)
        negatives = np.count_nonzero(~labels)
        assert np.count_nonzero((with_exits == 2) & ~labels) <= 0.05 * negatives
        if upper_end:
            assert not ((with_exits == 2) & (alone != 2) & ~labels).any()
        assert chosen.exits[0].clear_below > 0
