"""What a choice is said to cost, against what it does cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from discern.evaluation.studio import rules_evidence as evidence
from discern.evaluation.studio.rules_cards import numbered
from discern.evaluation.studio.rules_exits import choose, cost_of, decisions
from discern.evaluation.studio.types import Chosen, Costs, Cuts, Goal, Sample

GOAL = Goal(Costs(2, 8, 0.4, 0.05))


def drawn(random: Generator, groups: int, size: int = 4, prevalence: float = 0.2) -> Sample:
    """Items in groups that share a part of their noise."""
    rows = groups * size
    labels = random.random(rows) < prevalence
    noise = np.repeat(random.normal(0, 0.5, groups), size) + random.normal(0, 0.85, rows)
    scores = 1 / (1 + np.exp(-(noise + 2.2 * labels - 1.5)))
    return Sample(labels, scores.reshape(-1, 1), np.repeat(np.arange(groups), size), np.ones(rows))


def test_the_interval_of_the_expected_cost_covers_what_the_thresholds_cost_on_more_data() -> None:
    world = drawn(Generator(PCG64(99)), 40_000)
    held, flattered, times = 0, 0.0, 300
    for number in range(times):
        sample = drawn(Generator(PCG64([7, number])), 120)
        chosen = choose(sample, GOAL)
        truth = evidence.weighted_mean(cost_of(decisions(chosen, world)[0], world, GOAL), world)
        found = evidence.expected_cost(sample, GOAL, (), 1)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
        here = evidence.weighted_mean(cost_of(decisions(chosen, sample)[0], sample, GOAL), sample)
        flattered += (here - truth) / times
    assert 0.93 <= held / times <= 0.97
    assert flattered < 0


def test_a_band_of_one_group_has_no_cost_on_others() -> None:
    sample = drawn(Generator(PCG64(3)), 20, size=60, prevalence=0.5)
    amounts = np.where(sample.groups == 3, 1000.0, 10.0)
    found = evidence.expected_cost(replace(sample, amounts=amounts), GOAL, (500.0,), 1)
    assert found.value is None
    assert found.caveat == "without a fifth of the groups: a band has no items"


def test_another_prevalence_is_what_a_sample_of_that_prevalence_gives() -> None:
    rich = drawn(Generator(PCG64(1)), 20_000, prevalence=0.3)
    poor = drawn(Generator(PCG64(2)), 20_000, prevalence=0.05)
    weighed = rich.weighing(evidence.weights_at(rich.labels, 0.05))
    assert weighed.weights.mean() == pytest.approx(1)
    cuts = Chosen((Cuts(0.3, 0.7),))
    costs = [evidence.weighted_mean(cost_of(decisions(cuts, one)[0], one, GOAL), one) for one in (weighed, poor)]
    assert costs[0] == pytest.approx(costs[1], rel=0.05)
    best = [choose(one, GOAL).cuts[0] for one in (weighed, poor)]
    assert best[0].flag_from == pytest.approx(best[1].flag_from, abs=0.08)


def test_thresholds_come_with_the_spread_of_their_choice() -> None:
    small, large = (drawn(Generator(PCG64(5)), groups) for groups in (100, 3000))
    widths = []
    for sample in (small, large):
        cuts = choose(sample, GOAL).cuts[0]
        values = (cuts.review_from, cuts.flag_from)
        for found, value in zip(evidence.threshold_intervals(sample, GOAL, cuts, 1), values, strict=True):
            assert found.low is not None
            assert found.high is not None
            assert found.value == value
            assert found.low <= value <= found.high
            widths.append(found.high - found.low)
    assert widths[2] < widths[0]
    assert widths[3] < widths[1]


def with_amounts(sample: Sample, seed: int) -> Sample:
    """The same with amounts, and cards of ten items each over five days."""
    random = Generator(PCG64(seed))
    rows = len(sample.labels)
    cards, days = np.arange(rows) // 10, random.integers(0, 5, rows)
    return replace(sample, amounts=random.exponential(50, rows), days=days, card_days=numbered(cards, days))


@pytest.mark.parametrize(
    "goal",
    [GOAL, Goal(GOAL.costs, 0.05), Goal(GOAL.costs, None, 0.05), Goal(GOAL.costs, None, 0.1, upper_end=True)],
    ids=["costs", "a limit of reviews", "a limit of false positives", "at its upper end"],
)
def test_thresholds_of_bands_come_with_the_spread_of_their_choice(goal: Goal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "DRAWS", 60)
    starts = (20.0, 60.0)
    widths = []
    for groups in (100, 2000):
        sample = with_amounts(drawn(Generator(PCG64(5)), groups), 3)
        cuts = choose(sample, goal, starts).cuts
        found = evidence.band_intervals(sample, goal, cuts, starts, 1)
        assert [one.start for one in found] == [None, 20.0, 60.0]
        assert found == evidence.band_intervals(sample, goal, cuts, starts, 1)
        for one, cut in zip(found, cuts, strict=True):
            for estimate, value in ((one.review_from, cut.review_from), (one.flag_from, cut.flag_from)):
                assert estimate.value == value
                assert estimate.low is not None
                assert estimate.high is not None
                assert estimate.low <= value <= estimate.high
                assert "cluster bootstrap" in estimate.method
                widths.append(estimate.high - estimate.low)
    assert sum(widths[6:]) < sum(widths[:6])


def test_a_limit_of_cards_is_kept_and_its_thresholds_have_a_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "DRAWS", 60)
    sample = with_amounts(drawn(Generator(PCG64(7)), 600), 4)
    goal = Goal(GOAL.costs, cards=0.1)
    chosen = choose(sample, goal)
    cards = evidence.cards_reviewed(chosen, sample, allowed=20.0, paying=200.0)
    assert 15 < cards.reviewed <= 20
    reviewed = decisions(chosen, sample)[0] == 1
    assert sample.card_days is not None
    assert sample.days is not None
    by_day = [len(np.unique(sample.card_days[reviewed & (sample.days == day)])) for day in range(5)]
    assert cards.busiest == max(by_day)
    assert cards.reviewed == pytest.approx(200 * sum(by_day) / len(np.unique(sample.card_days)))
    for found in evidence.threshold_intervals(sample, goal, chosen.cuts[0], 1):
        assert found.low is not None
        assert found.value is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
        assert found.low < found.high
    said = [one.assumption for one in evidence.what_if(sample, goal, (), chosen, 0.2, None)]
    assert {"at most 5 % of a day's cards are reviewed", "at most 20 % of a day's cards are reviewed"} <= set(said)
    assert not any("positive" in one for one in said)


def test_the_curves_pass_through_what_was_chosen() -> None:
    sample = drawn(Generator(PCG64(6)), 300)
    chosen = choose(sample, GOAL)
    here = evidence.weighted_mean(cost_of(decisions(chosen, sample)[0], sample, GOAL), sample)
    for curve in evidence.cost_curves(sample, GOAL, chosen.cuts[0]):
        assert min(point.cost for point in curve) >= here - 1e-9
        assert [point.at for point in curve] == sorted(point.at for point in curve)


def test_no_assumption_is_cheaper_with_the_chosen_thresholds_than_with_its_own() -> None:
    sample = drawn(Generator(PCG64(8)), 300)
    chosen = choose(sample, GOAL)
    rows = evidence.what_if(sample, GOAL, (), chosen, 0.2, 500.0)
    assert len(rows) >= 12
    for one in rows:
        if one.chosen_keeps:
            assert one.cost <= one.cost_of_chosen + 1e-9
    (half,) = (one for one in rows if "at most" in one.assumption and not one.chosen_keeps)
    assert half.assumption.endswith(" a day")


def test_a_limit_alone_is_asked_about_with_other_limits_and_with_no_costs_that_nobody_named() -> None:
    sample = drawn(Generator(PCG64(8)), 300)
    goal = Goal(Costs(false_alarm=0.0), reviews=0.0, max_fpr=0.1)
    rows = evidence.what_if(sample, goal, (), choose(sample, goal), 0.2, None)
    said = [one.assumption for one in rows]
    assert not any("as much" in one for one in said)
    limits = [one for one in rows if "negatives are flagged" in one.assumption]
    assert [one.chosen_keeps for one in limits] == [False, True]
    assert limits[0].cost > limits[1].cost


def test_a_cost_is_never_below_zero_and_a_resample_out_of_the_limit_takes_the_highest_cut() -> None:
    labels = np.arange(400) < 40
    costs = np.zeros(400)
    costs[0] = 50.0
    sample = Sample(labels, np.linspace(1, 0, 400).reshape(-1, 1), np.arange(400), np.ones(400))
    found = evidence.mean_cost(costs, sample)
    assert (found.value, found.low) == (0.125, 0.0)
    # Two negatives have a score of 1, which no cut is above: one resample in many draws more of them than the limit.
    scores = np.where(labels, 0.9, np.linspace(0, 0.5, 400))
    scores[[398, 399]] = 1.0
    ends = Sample(labels, scores.reshape(-1, 1), np.arange(400), np.ones(400))
    goal = Goal(Costs(0.0, 1.0), 0.0, max_fpr=0.006)
    cuts = choose(ends, goal).cuts[0]
    _, flag = evidence.threshold_intervals(ends, goal, cuts, 1)
    assert flag.low is not None
    assert flag.low > 0.4
