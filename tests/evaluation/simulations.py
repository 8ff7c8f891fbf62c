"""What intervals cover and how often tests reject wrongly, by simulation.

`python -m tests.evaluation.simulations` prints it.
Each case draws data whose truth is known, again and again, and returns the share of intervals that hold the truth, or
the share of tests that reject a hypothesis that is true. The figures stand in `docs/reference/statistics.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from discern.evaluation import comparisons, comparisons_margin, metrics, metrics_calibration, metrics_cards
from discern.evaluation import metrics_weighted as weighted
from discern.evaluation.events import Event, Recording, event_scores
from discern.evaluation.statistics import mean, proportion, rate_of_events, rows_of
from discern.evaluation.types import Estimate

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Drawn = tuple[Flags, Floats, Integers]

APART = 1.2
"""How many standard deviations positives score above negatives, where a case does not say otherwise."""


def streams(times: int) -> Iterator[Generator]:
    """Yield one generator for each repetition."""
    yield from (Generator(PCG64([2026, number])) for number in range(times))


def covered(draw: Callable[[Generator], tuple[Estimate, float]], times: int) -> float:
    held = 0
    for random in streams(times):
        estimate, truth = draw(random)
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= truth <= estimate.high
    return held / times


def noise(random: Generator, groups: int, size: int, shared: float = 0.5) -> Floats:
    """Standard normal noise, of which the rows of a group share a part."""
    own = random.normal(size=groups * size)
    return (
        own if size == 1 else np.sqrt(shared) * np.repeat(random.normal(size=groups), size) + np.sqrt(1 - shared) * own
    )


def scored(random: Generator, groups: int, size: int, positives: float, *, pure: bool = False) -> Drawn:
    """Rows in groups that hold both classes, or (`pure`) one each."""
    count = groups * size
    labels = np.repeat(np.arange(groups) < positives * groups, size) if pure else random.random(count) < positives
    return labels, APART * labels + noise(random, groups, size), np.repeat(np.arange(groups), size)


# Intervals in closed form.


def area_of_two_samples(random: Generator, positives: int, negatives: int, area: float) -> tuple[Estimate, float]:
    above = norm.ppf(area) * np.sqrt(2) + random.normal(size=positives)
    labels = np.repeat([1, 0], [positives, negatives])
    return metrics.area_under_roc(labels, np.concatenate([above, random.normal(size=negatives)])), area


def area_in_groups(random: Generator, groups: int, size: int, pure: bool) -> tuple[Estimate, float]:
    return metrics.area_under_roc(*scored(random, groups, size, 0.4, pure=pure)), float(norm.cdf(APART / np.sqrt(2)))


def share_alone(random: Generator, count: int, share: float) -> tuple[Estimate, float]:
    return proportion(random.random(count) < share), share


def share_in_groups(random: Generator, groups: int, size: int, share: float) -> tuple[Estimate, float]:
    of_group = np.repeat(random.beta(share * 4, (1 - share) * 4, groups), size)
    return proportion(random.random(groups * size) < of_group, np.repeat(np.arange(groups), size)), share


def mean_in_groups(random: Generator, groups: int, size: int) -> tuple[Estimate, float]:
    values = np.exp(noise(random, groups, size) / 2)
    return mean(values, np.repeat(np.arange(groups), size)), float(np.exp(1 / 8))


def events_an_hour(random: Generator, recordings: int, rate: float, spread: float) -> tuple[Estimate, float]:
    hours = random.uniform(0.5, 2, recordings)
    own = random.gamma(1 / spread, spread, recordings) if spread else np.ones(recordings)
    return rate_of_events(random.poisson(rate * hours * own), hours), rate


def paired_difference(random: Generator, groups: int, size: int) -> tuple[Estimate, float]:
    own = np.repeat(random.uniform(0, 1, groups), size)
    chance = random.random(groups * size)
    apart = (chance < 0.2 * own).astype(np.int64) - (chance > 1 - 0.1 * own)
    limits = comparisons_margin.paired_limits(apart, np.repeat(np.arange(groups), size))
    return Estimate(float(apart.mean()), *limits), 0.05


IN_CLOSED_FORM: dict[str, Callable[[], float]] = {
    "AUC .8, 30 and 30 items": lambda: covered(
        partial(area_of_two_samples, positives=30, negatives=30, area=0.8), 1000
    ),
    "AUC .9, 30 and 300 items": lambda: covered(
        partial(area_of_two_samples, positives=30, negatives=300, area=0.9), 1000
    ),
    "AUC, 60 groups of 10, both classes in each": lambda: covered(
        partial(area_in_groups, groups=60, size=10, pure=False), 1000
    ),
    "AUC, 80 groups of 10, one class in each": lambda: covered(
        partial(area_in_groups, groups=80, size=10, pure=True), 1000
    ),
    "share .1 of 100 items": lambda: covered(partial(share_alone, count=100, share=0.1), 1000),
    "share .02 of 1,000 items": lambda: covered(partial(share_alone, count=1000, share=0.02), 1000),
    "share .3, 30 groups of 10": lambda: covered(partial(share_in_groups, groups=30, size=10, share=0.3), 1000),
    "share .05, 100 groups of 10": lambda: covered(partial(share_in_groups, groups=100, size=10, share=0.05), 1000),
    "mean, 50 groups of 10": lambda: covered(partial(mean_in_groups, groups=50, size=10), 1000),
    "events an hour, 30 recordings": lambda: covered(partial(events_an_hour, recordings=30, rate=3, spread=0), 2000),
    "events an hour, 40 unlike recordings": lambda: covered(
        partial(events_an_hour, recordings=40, rate=3, spread=0.5), 1000
    ),
    "paired difference of shares, 300 items": lambda: covered(partial(paired_difference, groups=300, size=1), 1000),
    "paired difference of shares, 100 groups of 5": lambda: covered(
        partial(paired_difference, groups=100, size=5), 1000
    ),
}


# Intervals by resampling. The truth is the figure of two million rows.


def of_many(statistic: Callable[..., Callable[[Floats], Floats]], positives: float) -> float:
    rows = rows_of(*scored(Generator(PCG64(1)), 2_000_000, 1, positives))
    return float(statistic(rows)(np.ones((1, rows.group_count)))[0])


def resampled(figure: Callable[..., Estimate], truth: float, groups: int, size: int, positives: float) -> float:
    def draw(random: Generator) -> tuple[Estimate, float]:
        return figure(*scored(random, groups, size, positives), seed=1, draws=400), truth

    return covered(draw, 300)


def precise() -> float:
    return of_many(weighted.average_precision, 0.2)


def precision_of(random: Generator, groups: int, size: int, truth: float) -> tuple[Estimate, float]:
    return metrics.average_precision(*scored(random, groups, size, 0.2)), truth


def calibration(random: Generator, groups: int, size: int, stretched: float) -> tuple[Estimate, float]:
    """Scores of a detector that is too sure of itself. The truth is the error in the bins that the scores fall into."""
    true = expit(-1 + 1.5 * noise(random, groups, size))
    labels = norm.cdf(noise(random, groups, size, 0.3)) < true
    scores = expit(np.log(true / (1 - true)) * stretched)
    bins = metrics_calibration.bins_of(scores)
    truth = float(np.abs(np.bincount(bins, true - scores)).sum()) / len(scores)
    found = metrics_calibration.calibration(labels, scores, np.repeat(np.arange(groups), size), seed=1, draws=300)
    return found.error, truth + 1e-12


CARDS, FRAUDULENT = 400, 0.06


def days_of_cards(random: Generator, cards: int) -> tuple[Flags, Floats, Integers, Integers]:
    """Three days on each of which every card pays once."""
    labels = random.random((3, cards)) < FRAUDULENT
    scores = 2 * labels + random.normal(size=(3, cards))
    numbers = np.tile(np.arange(cards), 3)
    return labels.ravel(), scores.ravel(), numbers, np.repeat(np.arange(3), cards)


def cards_caught(random: Generator, truth: float) -> tuple[Estimate, float]:
    return metrics_cards.card_precision(*days_of_cards(random, CARDS), k=20, seed=1, draws=400), truth


def yawns(random: Generator, recordings: int) -> tuple[Estimate, float]:
    """Recordings of an hour: two yawns on average, of which 7 in 10 are found, and one false one every two hours."""
    made = []
    for true, false in zip(random.poisson(2, recordings), random.poisson(0.5, recordings), strict=True):
        yawned = [Event(100.0 * number, 100.0 * number + 4) for number in range(true)]
        wrong = [Event(100.0 * number + 50, 100.0 * number + 52) for number in range(false)]
        made.append(Recording(3600, tuple(yawned), tuple(y for y in yawned if random.random() < 0.7) + tuple(wrong)))
    return event_scores(made, seed=1, draws=400).f1, 2 * 1.4 / (2 + 1.4 + 0.5)


def card_truth() -> float:
    """The mean over many sets of as many cards: the figure is of the k most suspicious of that many."""
    ones = np.ones((1, CARDS))
    return float(
        np.mean([metrics_cards.CardRanking(*days_of_cards(r, CARDS)).precision(ones, 20)[0] for r in streams(2000)])
    )


BY_RESAMPLING: dict[str, Callable[[], float]] = {
    "average precision, 300 items": lambda: covered(partial(precision_of, groups=300, size=1, truth=precise()), 1000),
    "average precision, 100 groups of 5": lambda: covered(
        partial(precision_of, groups=100, size=5, truth=precise()), 1000
    ),
    "equal error rate, 500 items": lambda: resampled(
        metrics.equal_error_rate, of_many(weighted.equal_error_rate, 0.4), 500, 1, 0.4
    ),
    "equal error rate, 100 groups of 5": lambda: resampled(
        metrics.equal_error_rate, of_many(weighted.equal_error_rate, 0.4), 100, 5, 0.4
    ),
    "TPR at FPR .05, 400 items": lambda: resampled(
        partial(metrics.true_positive_rate_at, 0.05),
        of_many(partial(weighted.true_positive_rate_at, false_positive_rate=0.05), 0.4),
        400,
        1,
        0.4,
    ),
    "TPR at FPR .02, 625 items": lambda: resampled(
        partial(metrics.true_positive_rate_at, 0.02),
        of_many(partial(weighted.true_positive_rate_at, false_positive_rate=0.02), 0.2),
        625,
        1,
        0.2,
    ),
}

OF_CALIBRATION_AND_CARDS: dict[str, Callable[[], float]] = {
    "calibration error of a calibrated detector, 1,000 items": lambda: covered(
        partial(calibration, groups=1000, size=1, stretched=1.0), 300
    ),
    "calibration error, 1,000 items": lambda: covered(partial(calibration, groups=1000, size=1, stretched=1.5), 300),
    "calibration error, 100 groups of 10": lambda: covered(
        partial(calibration, groups=100, size=10, stretched=1.5), 300
    ),
    "F1 of events, 60 recordings": lambda: covered(partial(yawns, recordings=60), 500),
    "card precision@20, 400 cards": lambda: covered(partial(cards_caught, truth=card_truth()), 400),
}


# Tests of hypotheses that are true, at 5 %.


def rejected(test: Callable[[Generator], float], times: int) -> float:
    return float(np.mean([test(random) < 0.05 for random in streams(times)]))


def equally_good(random: Generator, groups: int, size: int) -> tuple[Flags, Floats, Floats, Integers]:
    labels = random.random(groups * size) < 0.4
    shared = noise(random, groups, size)
    both = (APART * labels + np.sqrt(0.6) * shared + np.sqrt(0.4) * noise(random, groups, size) for _ in range(2))
    return labels, *both, np.repeat(np.arange(groups), size)


def areas(random: Generator, groups: int, size: int) -> float:
    return comparisons.compare_areas(*equally_good(random, groups, size)).p_value or 0.0


def precisions(random: Generator, groups: int, size: int) -> float:
    drawn = equally_good(random, groups, size)
    return comparisons.compare_by_bootstrap("average_precision", *drawn, seed=1, draws=200).p_value or 0.0


def decisions(random: Generator, groups: int, size: int) -> float:
    labels, first, second, group = equally_good(random, groups, size)
    return comparisons.compare_decisions(labels, first > 0.6, second > 0.6, group).p_value or 0.0


def any_of_three(random: Generator) -> float:
    drawn = [areas_of(random) for _ in range(3)]
    return min(one.p_adjusted or 0.0 for one in comparisons.with_verdicts(drawn))


def areas_of(random: Generator) -> comparisons.Comparison:
    return comparisons.compare_areas(*equally_good(random, 150, 1))


def worse_by_the_margin(random: Generator, groups: int, size: int, margin: float) -> float:
    """0 where the test passes a candidate that is worse by just the margin, 1 elsewhere."""
    own = np.repeat(random.uniform(0, 2, groups), size) if size > 1 else np.ones(groups)
    labels, chance = random.random(groups * size) < 0.5, random.random(groups * size)
    only_candidate, only_baseline = chance < (0.05 + margin) * own, chance > 1 - 0.05 * own
    raised = (labels ^ only_baseline, labels ^ only_candidate)
    group = np.repeat(np.arange(groups), size)
    return 0.0 if comparisons_margin.not_worse_by(margin, labels, *raised, group).not_worse else 1.0


WRONGLY_REJECTED: dict[str, Callable[[], float]] = {
    "DeLong, paired, 200 items": lambda: rejected(partial(areas, groups=200, size=1), 1000),
    "DeLong, paired, 60 groups of 10": lambda: rejected(partial(areas, groups=60, size=10), 1000),
    "bootstrap of average precision, 200 items": lambda: rejected(partial(precisions, groups=200, size=1), 600),
    "bootstrap of average precision, 60 groups of 5": lambda: rejected(partial(precisions, groups=60, size=5), 600),
    "McNemar, 400 items": lambda: rejected(partial(decisions, groups=400, size=1), 1000),
    "McNemar, 60 groups of 10": lambda: rejected(partial(decisions, groups=60, size=10), 1000),
    "any of three tests after Holm": lambda: rejected(any_of_three, 600),
    "not worse by .03, 1,000 items": lambda: rejected(
        partial(worse_by_the_margin, groups=1000, size=1, margin=0.03), 1000
    ),
    "not worse by .03, 200 groups of 10": lambda: rejected(
        partial(worse_by_the_margin, groups=200, size=10, margin=0.03), 1000
    ),
}

if __name__ == "__main__":
    for cases in (IN_CLOSED_FORM, BY_RESAMPLING, OF_CALIBRATION_AND_CARDS, WRONGLY_REJECTED):
        for name, simulated in cases.items():
            sys.stdout.write(f"| {name} | {simulated():.3f} |\n")
