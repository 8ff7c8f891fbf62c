"""How often drift alarms are false, and what they find, by simulation.

`python -m tests.monitoring.drift.simulations` prints it. The figures stand in `docs/reference/drift.md`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from discern.app import BUILTIN
from discern.monitoring.drift.rules_references import Table, edges_of_numbers, frozen, of_table, table_of
from discern.monitoring.drift.rules_sketches import kll_of
from discern.monitoring.drift.statistics import categories, cells_of, holm, numbers
from discern.monitoring.drift.types import Edges, Learning, Moments, Reference, Subject

Floats = NDArray[np.float64]
Draw = Callable[[Generator, tuple[int, ...]], Floats]

WINDOW = 1000
WINDOWS = 10_000
LEVEL = 1e-4
"""That of the default: one false alarm in 10,000 windows."""
SUBJECTS = 16
"""As many subjects as a release of `card-fraud` has numbers."""
STEPS = np.linspace(0.0, 1.0, 101)


def random(seed: int) -> Generator:
    return Generator(PCG64([2026, seed]))


def false_alarms(p_values: Floats, level: float) -> float:
    """The share of windows [windows, subjects] in which any subject raises an alarm."""
    return float(holm(p_values, level).any(axis=-1).mean())


def numbers_at_once(reference_size: int, windows: int, subjects: int, *, releases: int, seed: int = 1) -> Floats:
    """The p-values [windows, subjects] of numbers without ties.

    Ties apart, nothing depends on the distribution, so it is uniform; the quantiles of a reference of so many are drawn
    as what they are, and the cells of a window at once. `reference_size` - 1 is a multiple of 100.
    """
    drawn = random(seed)
    between = (reference_size - 1) // 100
    shape = np.concatenate([[1.0], np.full(100, between), [1.0]])
    each = windows // releases
    places = [round(float(level) * 100) for level in (0.0, 0.01, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99, 1.0)]
    edges, reference = of_table(Table(STEPS, reference_size), is_score=False)
    assert len(edges.lower) == len(places)
    gaps = drawn.gamma(shape, size=(releases, subjects, len(shape)))
    at = (np.cumsum(gaps, axis=-1) / gaps.sum(axis=-1, keepdims=True))[..., places]
    cells = np.diff(np.concatenate([np.zeros((*at.shape[:2], 1)), at, np.ones((*at.shape[:2], 1))], axis=-1))
    counts = np.zeros((each, releases, subjects, 2 * len(places) + 1), np.int64)
    counts[..., ::2] = drawn.multinomial(WINDOW, cells, size=(each, releases, subjects))
    return numbers(counts, reference).reshape(-1, subjects)


def from_tables(draws: list[Draw], reference_size: int, *, releases: int = 200, seed: int = 2) -> Floats:
    """The p-values [windows, subjects] of whatever is drawn, with references by the quantiles of a sample."""
    drawn, each = random(seed), WINDOWS // releases
    found = np.empty((releases, each, len(draws)))
    for release in range(releases):
        for subject, draw in enumerate(draws):
            table = Table(np.quantile(draw(drawn, (reference_size,)), STEPS), reference_size)
            edges, reference = of_table(table, is_score=False)
            found[release, :, subject] = numbers(counted(draw(drawn, (each, WINDOW)), edges), reference)
    return found.reshape(-1, len(draws))


def learned(draws: list[Draw], *, windows: int = 10, releases: int = 200, seed: int = 3) -> Floats:
    """The same with references that are learned from traffic, as a release learns them."""
    drawn, each = random(seed), WINDOWS // releases
    found = np.empty((releases, each, len(draws)))
    for release in range(releases):
        for subject, draw in enumerate(draws):
            edges = edges_of_numbers(kll_of(draw(drawn, (WINDOW,)).astype(np.float32)))
            cells = counted(draw(drawn, (windows, WINDOW)), edges).sum(axis=0)
            reference = of_traffic(edges, cells)
            found[release, :, subject] = numbers(counted(draw(drawn, (each, WINDOW)), edges), reference)
    return found.reshape(-1, len(draws))


def of_traffic(edges: Edges, cells: NDArray[np.int64]) -> Reference:
    from datetime import UTC, datetime

    learning = Learning(10, tuple(cells.tolist()), Moments())
    return frozen(Subject("score", "number", edges=edges), learning, datetime(2026, 1, 1, tzinfo=UTC))


def counted(values: Floats, edges: Edges) -> NDArray[np.int64]:
    """The cells of many windows [windows, values] at once, as `cells_of` counts those of one."""
    size, (windows, _) = 2 * len(edges.lower) + 1, values.shape
    flat = values.ravel()
    places = np.searchsorted(edges.lower, flat, "right") + np.searchsorted(edges.upper, flat, "left")
    rows = np.repeat(np.arange(windows) * size, values.shape[1])
    cells = np.bincount(rows + places, minlength=windows * size).reshape(windows, size)
    assert cells[0].tolist() == cells_of(values[0], edges).tolist()
    return cells


def in_categories(shares: list[float], *, releases: int = 200, seed: int = 4) -> Floats:
    drawn, each = random(seed), WINDOWS // releases
    found = np.empty((releases, each))
    for release in range(releases):
        reference = Reference("traffic", 10 * WINDOW, cells=tuple(drawn.multinomial(10 * WINDOW, shares).tolist()))
        found[release] = categories(drawn.multinomial(WINDOW, shares, size=each), reference)
    return found.reshape(-1, 1)


def normal(drawn: Generator, size: tuple[int, ...]) -> Floats:
    return drawn.normal(size=size)


def halves(drawn: Generator, size: tuple[int, ...]) -> Floats:
    """Normal, to halves: some ten values have nearly all."""
    return np.round(drawn.normal(size=size) * 2) / 2


def flag(drawn: Generator, size: tuple[int, ...]) -> Floats:
    return (drawn.random(size) < 0.07).astype(np.float64)


def steps(drawn: Generator, size: tuple[int, ...]) -> Floats:
    """Scores of an isotonic calibration: twenty values, most of them small."""
    return np.round(drawn.beta(0.3, 2.0, size) * 20) / 20


def autocorrelated(correlation: float, drawn: Generator, size: tuple[int, ...]) -> Floats:
    """Normal, each correlated with the one before it."""
    values = drawn.normal(size=size)
    for place in range(1, size[-1]):
        values[..., place] = correlation * values[..., place - 1] + math.sqrt(1 - correlation**2) * values[..., place]
    return values


def in_groups(size_of_group: int, drawn: Generator, size: tuple[int, ...]) -> Floats:
    """Normal, so many in a row alike."""
    groups = drawn.normal(size=(*size[:-1], -(-size[-1] // size_of_group)))
    return np.repeat(groups, size_of_group, axis=-1)[..., : size[-1]]


def dependent(draw: Draw, *, windows: int = 2000, seed: int = 5) -> float:
    """The share of windows with a false alarm at the default rate, where verdicts depend on each other."""
    drawn = random(seed)
    edges, reference = of_table(Table(np.quantile(drawn.normal(size=57_601), STEPS), 57_601), is_score=False)
    p_values = numbers(counted(draw(drawn, (windows, WINDOW)), edges), reference)
    return false_alarms(p_values[:, None], LEVEL)


@cache
def table_in(detector: str) -> Table:
    found = json.loads(Path(BUILTIN / detector / "reference.json").read_text())
    table = table_of(found["scores"], found["count"])
    assert table is not None
    return table


def scores_like(table: Table, drawn: Generator, size: tuple[int, ...]) -> Floats:
    return np.interp(drawn.random(size), STEPS, table.quantiles)


def found_within_2000(
    like: Table, deviations: float, *, least: float = 0.05, repetitions: int = 300, seed: int = 6
) -> float:
    """How often a shift of the scores by so many standard deviations, from some verdict on, is found in 2,000 verdicts.

    It begins anywhere in a window; the reference is a sample of the size that the bundle's is. One subject of
    `SUBJECTS` has to be found, with the others as they were.
    """
    drawn, hits = random(seed), 0
    for _ in range(repetitions):
        table = Table(np.quantile(scores_like(like, drawn, (like.verdicts,)), STEPS), like.verdicts)
        edges, reference = of_table(table, is_score=True)
        assert reference.deviation is not None
        before = int(drawn.integers(0, WINDOW))
        scores = scores_like(like, drawn, (2 * WINDOW,))
        scores[before:] = np.clip(scores[before:] + deviations * reference.deviation, 0.0, 1.0)
        cells = counted(scores.reshape(2, WINDOW), edges)
        hits += bool((numbers(cells, reference) <= LEVEL / SUBJECTS).any())
    return hits / repetitions


def tables_of_normal(size: int) -> Table:
    """Scores that are normal round a half, within [0, 1]."""
    return Table(np.clip(np.quantile(random(7).normal(0.5, 0.12, 100_000), STEPS), 0, 1), size)


def labels_alarm(runs: int, labels: int, worse_from: int | None, *, seed: int = 8) -> tuple[float, float]:
    """How often labels raise an alarm in so many, and after how many that were worse: the median."""
    from datetime import UTC, datetime, timedelta

    from discern.monitoring.drift.rules_labels import concept_of, judged
    from discern.monitoring.types import LabelledVerdict

    drawn, begin, delays = random(seed), datetime(2026, 1, 1, tzinfo=UTC), []
    for _ in range(runs):
        scores = drawn.beta(0.3, 2.0, labels)
        chances = scores.copy()
        if worse_from is not None:
            chances[worse_from:] = np.minimum(1.0, chances[worse_from:] + 0.15)
        truth = drawn.random(labels) < chances
        verdicts = [
            LabelledVerdict(UUID(int=0), float(score), "clear", bool(is_positive), begin + timedelta(seconds=place))
            for place, (score, is_positive) in enumerate(zip(scores, truth, strict=True))
        ]
        for upto in range(worse_from or labels, labels + 1, 50):
            concept = concept_of(verdicts[:upto])
            assert concept is not None
            if judged(concept, None, 0, begin)[0].alarm is not None:
                delays.append(upto - (worse_from or 0))
                break
    return len(delays) / runs, float(np.median(delays)) if delays else math.nan


RATES: dict[str, tuple[float, Callable[[], float]]] = {
    "16 numbers, reference of 57,601, 1 in 100": (
        0.01,
        lambda: false_alarms(numbers_at_once(57_601, WINDOWS, SUBJECTS, releases=1000), 0.01),
    ),
    "16 numbers, reference of 601, 1 in 100": (
        0.01,
        lambda: false_alarms(numbers_at_once(601, WINDOWS, SUBJECTS, releases=1000), 0.01),
    ),
    "one number, reference of 57,601, 1 in 100": (
        0.01,
        lambda: false_alarms(numbers_at_once(57_601, WINDOWS, 1, releases=1000), 0.01),
    ),
    "16 numbers, reference of 57,601, 1 in 1,000": (
        0.001,
        lambda: false_alarms(numbers_at_once(57_601, WINDOWS, SUBJECTS, releases=1000), 0.001),
    ),
    "4 discrete numbers, reference of 10,001, 1 in 100": (
        0.01,
        lambda: false_alarms(from_tables([halves, flag, steps, normal], 10_001), 0.01),
    ),
    "4 discrete numbers, reference of 601, 1 in 100": (
        0.01,
        lambda: false_alarms(from_tables([halves, flag, steps, normal], 601), 0.01),
    ),
    "4 discrete numbers, learned from 10 windows, 1 in 100": (
        0.01,
        lambda: false_alarms(learned([halves, flag, steps, normal]), 0.01),
    ),
    "decisions .97, .02, .01, learned from 10 windows, 1 in 100": (
        0.01,
        lambda: false_alarms(in_categories([0.97, 0.02, 0.01]), 0.01),
    ),
}
"""How often windows in which nothing has changed raise an alarm: what is stated, and what is simulated."""

DEPENDENT: dict[str, Callable[[], float]] = {
    "independent": lambda: dependent(normal),
    "each correlated by .2 with the one before": lambda: dependent(partial(autocorrelated, 0.2)),
    "each correlated by .5 with the one before": lambda: dependent(partial(autocorrelated, 0.5)),
    "each correlated by .9 with the one before": lambda: dependent(partial(autocorrelated, 0.9)),
    "2 in a row alike": lambda: dependent(partial(in_groups, 2)),
    "5 in a row alike": lambda: dependent(partial(in_groups, 5)),
    "20 in a row alike": lambda: dependent(partial(in_groups, 20)),
}
"""The same at the default rate, 1 in 10,000, of verdicts that depend on each other: the promise does not hold."""

FOUND: dict[str, Callable[[], float]] = {
    "scores of card-fraud, .5 deviations": lambda: found_within_2000(table_in("card-fraud"), 0.5),
    "scores of synthetic-face, .5 deviations": lambda: found_within_2000(table_in("synthetic-face"), 0.5),
    "scores of driver-drowsiness, .5 deviations": lambda: found_within_2000(table_in("driver-drowsiness"), 0.5),
    "normal scores, reference of 10,000, .5 deviations": lambda: found_within_2000(tables_of_normal(10_000), 0.5),
    "normal scores, reference of 600, .5 deviations": lambda: found_within_2000(tables_of_normal(600), 0.5),
    "normal scores, reference of 10,000, .25 deviations": lambda: found_within_2000(tables_of_normal(10_000), 0.25),
    "normal scores, reference of 10,000, .1 deviations": lambda: found_within_2000(tables_of_normal(10_000), 0.1),
}
"""How often a shift of the score is found within 2,000 verdicts, at the default rate."""


def default_rate(windows: int = 400_000) -> float:
    """False alarms at the default rate, of many windows."""
    chunks = [
        false_alarms(numbers_at_once(57_601, 40_000, SUBJECTS, releases=4000, seed=100 + chunk), LEVEL)
        for chunk in range(windows // 40_000)
    ]
    return float(np.mean(chunks))


def main() -> None:
    out = sys.stdout.write
    out("| windows in which nothing changed | stated | simulated |\n|---|---|---|\n")
    for name, (stated, simulated) in RATES.items():
        out(f"| {name} | {stated:.4f} | {simulated():.4f} |\n")
    out(f"| the default: 16 numbers, 1 in 10,000 (400,000 windows) | {LEVEL:.6f} | {default_rate():.6f} |\n")
    out("\n| verdicts that depend on each other | windows with a false alarm |\n|---|---|\n")
    for name, simulated in DEPENDENT.items():
        out(f"| {name} | {simulated():.3f} |\n")
    out("\n| shift | found within 2,000 verdicts |\n|---|---|\n")
    for name, simulated in FOUND.items():
        out(f"| {name} | {simulated():.3f} |\n")
    out("\n| labels | alarms | labels until then, median |\n|---|---|---|\n")
    share, _ = labels_alarm(200, 2000, None)
    out(f"| 2,000, nothing changed | {share:.3f} | |\n")
    share, delay = labels_alarm(50, 1500, 500)
    out(f"| .15 more positives than scores say, from the 500th on | {share:.3f} | {delay:.0f} |\n")


if __name__ == "__main__":
    main()
