"""Quality by labels, corrected for which verdicts came to be labelled. Pure.

- Labels stand for others only as far as it is known with which probability they were chosen: each counts for as many
  verdicts as one over that (Hajek, 1971), within the verdicts of its decision.
- A decision nearly all of whose verdicts have labels needs no probabilities; those that miss may be either.
- A measure that needs verdicts nobody drew labels of has no value, and says so.

The interval of each share is the beta posterior with Jeffreys' prior of the effective number of labels (Korn and
Graubard, Survey Methodology 24, 1998; Brown, Cai, DasGupta, Statistical Science 16, 2001, with their ends at none and
all), and those of measures are drawn from these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from discern.core.verdict import Decision
from discern.monitoring.quality.rules_drawing import DECISIONS, DRAWS, LEVEL, NEEDS, SEED, figures_of
from discern.monitoring.quality.types import MEASURES, Figure, Measure
from discern.review.types import Judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


# What was kept before labels had a least probability may be so small that one over it is no number.
_LEAST = 1e-6


class Stratum(NamedTuple):
    """What labels say of the verdicts with one decision.

    `share` of them are positive, known as well as `effective` labels drawn evenly would tell. `missing` is the share
    of them that has no label where nearly all have. `stands_for` is the share of them that the labels speak for.
    """

    share: float
    effective: float
    missing: float
    stands_for: float
    used: tuple[Judged, ...]


def stratum(verdicts: int, labelled: Sequence[Judged], least: float) -> Stratum | str:
    """Return what labels say of `verdicts` with one decision, or why they say nothing.

    `labelled` are those of them that have a label which says something; `least` is the share that labels must speak
    for. Of several ways in which labels were drawn, the one that tells most is taken.
    """
    if not verdicts:
        return Stratum(0.0, 0.0, 0.0, 1.0, ())
    if not labelled:
        return "no labels"
    there = min(1.0, len(labelled) / verdicts)
    if there >= least:
        share = float(np.mean([one.positive for one in labelled]))
        return Stratum(share, float(len(labelled)), 1 - there, there, tuple(labelled))
    drawn = [
        [(one, one.held_out) for one in labelled if one.held_out],
        [(one, one.propensity) for one in labelled if one.propensity and one.selected_by != "holdout"],
    ]
    found = [_weighted(verdicts, its, least) for its in drawn if its]
    if not found:
        return f"it is not known how its {len(labelled)} labels came to be: none was drawn by chance"
    enough = [one for one, noise in found if one.stands_for + noise >= least]
    if not enough:
        most = max(one.stands_for for one, _ in found)
        return f"the labels that were drawn so far stand for {most:.0%} of it"
    return max(enough, key=lambda one: one.effective)


def _weighted(verdicts: int, drawn: Sequence[tuple[Judged, float]], least: float) -> tuple[Stratum, float]:
    """Return what drawn labels say, each with its probability, and the noise of the share they stand for.

    The noise is that of drawing, and twice that of which labels happen to be among the share that has come.
    """
    weights = 1 / np.maximum([probability for _, probability in drawn], _LEAST)
    positive = np.array([bool(one.positive) for one, _ in drawn])
    total = float(weights.sum())
    noise = float(np.sqrt(np.sum(weights * (weights - 1)))) / verdicts + 2 * (least * (1 - least) / len(drawn)) ** 0.5
    share, effective = float(weights @ positive) / total, total**2 / float(weights @ weights)
    return Stratum(share, effective, 0.0, total / verdicts, tuple(one for one, _ in drawn)), noise


def realised(verdicts: Mapping[Decision, int], strata: Mapping[Decision, Stratum | str]) -> tuple[Figure, ...]:
    """Return every measure of a window by its labels, with 95 % intervals of what the detector does on such inputs."""
    known = {one: found for one, found in strata.items() if isinstance(found, Stratum)}
    generator = np.random.default_rng(SEED)
    draws = {one: _shares(known[one], generator) if one in known else np.zeros(DRAWS) for one in DECISIONS}
    corners = []
    # Verdicts without a label where nearly all have one may all be positive, or none.
    ends = [(0.0,) if one not in known or not known[one].missing else (0.0, 1.0) for one in DECISIONS]
    for corner in product(*ends):
        there = dict(zip(DECISIONS, corner, strict=True))
        drawn = {one: verdicts[one] * _filled(known, one, there[one], draws[one]) for one in DECISIONS}
        centre = {one: _filled(known, one, there[one], np.array([_middle(known, one)])) for one in DECISIONS}
        middle = {one: verdicts[one] * float(centre[one][0]) for one in DECISIONS}
        corners.append(figures_of("realised", verdicts, middle, drawn))
    plain = {one: verdicts[one] * _middle(known, one) for one in DECISIONS}
    same = {one: np.full(1, plain[one]) for one in DECISIONS}
    values = {one.measure: one.value for one in figures_of("realised", verdicts, plain, same)}
    by_measure = zip(MEASURES, zip(*corners, strict=True), strict=True)
    return tuple(_figure(measure, values[measure], its, strata, verdicts) for measure, its in by_measure)


def _figure(
    measure: Measure,
    value: float | None,
    corners: Sequence[Figure],
    strata: Mapping[Decision, Stratum | str],
    verdicts: Mapping[Decision, int],
) -> Figure:
    missing = [(one, strata[one]) for one in NEEDS[measure] if verdicts[one]]
    whys = [f"{one}: {found}" for one, found in missing if isinstance(found, str)]
    if whys:
        return Figure(measure, "realised", why="; ".join(whys))
    lows = [one.low for one in corners if one.low is not None]
    highs = [one.high for one in corners if one.high is not None]
    if value is None or len(lows) < len(corners):
        why = next((one.why for one in corners if one.why), "too few verdicts that it could be a share of")
        return Figure(measure, "realised", why=why)
    return Figure(measure, "realised", value, min(lows), max(highs))


def _middle(known: Mapping[Decision, Stratum], decision: Decision) -> float:
    return known[decision].share if decision in known else 0.0


def _filled(known: Mapping[Decision, Stratum], decision: Decision, end: float, share: Floats) -> Floats:
    """Return the share of positives if those without a label all were (`end` 1), or none of them (0)."""
    missing = known[decision].missing if decision in known else 0.0
    return share * (1 - missing) + end * missing


def _shares(one: Stratum, generator: np.random.Generator) -> Floats:
    """Draw shares of positives that the labels leave possible, float64 [draws]."""
    if not one.effective:
        return np.zeros(DRAWS)
    positive = one.share * one.effective
    found: Floats = generator.beta(positive + 0.5, one.effective - positive + 0.5, DRAWS)
    low, high = np.quantile(found, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    if one.share == 0:
        found[found < low] = 0.0
    if one.share == 1:
        found[found > high] = 1.0
    return found
