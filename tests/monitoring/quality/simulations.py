"""What the intervals and the alarm of quality come to in made worlds: `python -m tests.monitoring.quality.simulations`.

It prints the tables of docs/reference/quality.md and takes minutes; the tests beside it hold that they are about so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from discern.monitoring.quality.rules_drawing import DECISIONS
from discern.monitoring.quality.rules_estimated import doubt_of, estimated
from discern.monitoring.quality.rules_gap import Item, gaps
from discern.monitoring.quality.rules_realised import Stratum, realised
from discern.monitoring.quality.types import GAP_MEASURES, Measure
from tests.monitoring.quality.worlds import (
    NOON,
    Flags,
    Floats,
    coverage,
    decided,
    groups_of,
    measured_truth,
    recalibrated,
    sigmoid,
    truth_of,
)

ROUNDS = 1000
World = Callable[[np.random.Generator], tuple[Floats, Flags]]


def drawn(random: np.random.Generator, log_odds: Floats, shift: float = 0.0) -> tuple[Floats, Flags]:
    scores = sigmoid(log_odds)
    return scores, random.random(len(scores)) < sigmoid(log_odds + shift)


def mixed(random: np.random.Generator) -> tuple[Floats, Flags]:
    one = random.random(2000) < random.random()
    return drawn(random, np.where(one, random.normal(-4, 1, 2000), random.normal(2, 2, 2000)))


WORLDS: dict[str, World] = {
    "rare positives, 5,000 verdicts": lambda random: drawn(random, random.normal(-5, 2, 5000)),
    "half positives, 800 verdicts": lambda random: drawn(random, random.normal(0, 3, 800)),
    "other inputs in each window, 2,000 verdicts": mixed,
    "odds of positives times 2.7, 5,000 verdicts": lambda random: drawn(random, random.normal(-5, 2, 5000), 1.0),
}


def line(title: str, found: Mapping[Measure, float]) -> str:
    values = list(found.values())
    return f"| {title} | {min(values):.3f} | {np.mean(values):.3f} | {max(values):.3f} |"


def estimates() -> Iterator[str]:
    yield "| estimated: world | least | mean | greatest |"
    for title, world in WORLDS.items():
        random = np.random.default_rng(1)

        def one(world: World = world, random: np.random.Generator = random):  # type: ignore[no-untyped-def]
            scores, positive = world(random)
            decisions = decided(scores)
            return estimated(groups_of(scores, decisions), None), truth_of(positive, decisions)

        yield line(title, coverage(ROUNDS, one))
    for items in (300, 1000, 4000):
        for with_doubt in (True, False):
            random = np.random.default_rng(2)

            def off(items: int = items, with_doubt: bool = with_doubt, random: np.random.Generator = random):  # type: ignore[no-untyped-def]
                shift, slope = recalibrated(random, items)
                reference = sigmoid((random.normal(-3, 2.5, items) - shift) / slope)
                doubt = doubt_of(np.quantile(reference, np.linspace(0, 1, 101)).tolist(), items)
                log_odds = random.normal(-3.5, 2.5, 40_000)
                positive = random.random(40_000) < sigmoid(log_odds)
                scores = sigmoid((log_odds - shift) / slope)
                decisions = decided(scores)
                return estimated(groups_of(scores, decisions), doubt if with_doubt else None), truth_of(
                    positive, decisions
                )

            told = "told" if with_doubt else "not told"
            yield line(f"calibration fitted on {items:,}, {told}; 40,000 verdicts", coverage(ROUNDS // 3, off))


def by_labels() -> Iterator[str]:
    yield "| realised: world | least | mean | greatest |"
    for title, corrected in (("held out 5 %, corrected", True), ("held out 5 %, as if all counted alike", False)):
        random = np.random.default_rng(3)

        def one(corrected: bool = corrected, random: np.random.Generator = random):  # type: ignore[no-untyped-def]
            log_odds = random.normal(-2.5, 2.5, 6000)
            scores, chance = sigmoid(log_odds), sigmoid(log_odds + 0.4)
            named = np.array(decided(scores))
            positive = random.random(6000) < chance
            labelled = (random.random(6000) < 0.05) | (named != "clear")
            there = {name: positive[(named == name) & labelled] for name in DECISIONS}
            strata = {name: Stratum(float(its.mean()), float(len(its)), 0.0, 1.0, ()) for name, its in there.items()}
            verdicts = {name: int(np.sum(named == name)) if corrected else len(there[name]) for name in DECISIONS}
            expected = {name: float(chance[named == name].sum()) for name in DECISIONS}
            return realised(verdicts, strata), measured_truth(named, expected)

        yield line(title, coverage(ROUNDS, one))


def alarms() -> Iterator[str]:
    yield "| gap: odds are off by | labels | alarm at quality_false_alarms 0.01 | 0.1 |"
    for odds in (1.0, 1.25, 1.5, 2.0, 4.0):
        for labels in (300, 3000):
            found = []
            for chance in (0.01, 0.1):
                random = np.random.default_rng(4)
                found.append(np.mean([_is_alarm(random, labels, odds, chance) for _ in range(ROUNDS // 4)]))
            yield f"| {odds:g} | {labels:,} | {found[0]:.3f} | {found[1]:.3f} |"


def _is_alarm(random: np.random.Generator, labels: int, odds: float, chance: float) -> bool:
    log_odds = random.normal(0, 2, labels)
    scores, positive = drawn(random, log_odds, math.log(odds))
    items = [Item(NOON, 1, *one) for one in zip(decided(scores), scores.tolist(), positive.tolist(), strict=True)]
    return any(
        gap.is_alarm for gap in gaps(items, odds=1.25, doubts=dict.fromkeys(GAP_MEASURES, 0.0), false_alarms=chance)
    )


if __name__ == "__main__":
    for part in (estimates, by_labels, alarms):
        for row in part():
            print(row, flush=True)  # noqa: T201
