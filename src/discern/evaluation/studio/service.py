"""The studio's run: data are scored, calibrations fitted, thresholds and exits chosen, and the evidence put together.

- Nothing is scored before the bundle, the data and what was asked have been looked at.
- Thresholds are chosen on one side of the data, calibrations fitted on another, and neither on items that the other
  has.
- The result depends on the bundle, the data and what was asked alone.

Needs the extra `evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import discern
from discern.core.errors import CallerError, DatasetRefused
from discern.detectors.assessment import load_detector
from discern.detectors.calibration import calibrator
from discern.detectors.manifest import Calibration, Manifest
from discern.evaluation.datasets import read_manifest
from discern.evaluation.journal import Journal
from discern.evaluation.service_scoring import Scoring, score_source
from discern.evaluation.sources import FrozenSource, chosen_on, side_of
from discern.evaluation.statistics import proportion
from discern.evaluation.studio import rules_evidence as evidence
from discern.evaluation.studio.rules import NotReachable
from discern.evaluation.studio.rules_calibration import choose_calibration
from discern.evaluation.studio.rules_cards import numbered
from discern.evaluation.studio.rules_exits import choose, compute_of, cost_of, decisions, last_decisions
from discern.evaluation.studio.service_asked import Asked, check, check_apart, check_nothing_shared
from discern.evaluation.studio.sources import column_of
from discern.evaluation.studio.types import (
    BandThresholds,
    CardsReviewed,
    Chosen,
    CostPoint,
    Costs,
    Cuts,
    Goal,
    Sample,
    StageCalibration,
    StageExits,
    StageShare,
    ThresholdChoice,
)
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.evaluation.ports import Watcher
    from discern.evaluation.service import Parts
    from discern.evaluation.types import Examples, Scored
    from discern.evaluation.types_datasets import FrozenManifest

LEAST = 10
"""Items of each class below which nothing is chosen."""

LEAST_OF_A_BAND = 30
_SHIPPED_HERE = (
    "The thresholds that the bundle has were chosen on these items: what they cost here is flattered, beside a cost "
    "that is measured on groups that did not choose."
)
_LIBRARIES = ("numpy", "onnxruntime", "scipy")


@dataclass(frozen=True, slots=True)
class Looked:
    """The bundle and the data, opened and looked at, and nothing scored yet."""

    bundle: Bundle
    frozen: FrozenManifest
    source: FrozenSource
    examples: Examples
    goal: Goal
    items_a_day: float | None
    paying: float | None
    shared: tuple[str, ...] = ()


def look(asked: Asked, parts: Parts) -> Looked:
    """Open what was asked for. Raises what opening raises, and CallerError for what does not go together."""
    check(asked)
    bundle = parts.open_detector(asked.detector)
    manifest = bundle.manifest
    if asked.stage_costs and len(asked.stage_costs) != len(manifest.stages):
        raise CallerError(f"{manifest.name} has {len(manifest.stages)} stages.", mend="Give a cost for each.")
    frozen = read_manifest(asked.data)
    check_apart(asked, manifest, frozen)
    source = side_of(frozen, asked.root, asked.split, manifest, parts.limits)
    examples = source.examples
    shared = () if asked.calibrate is None else tuple(check_nothing_shared(asked, frozen, len(examples.labels)))
    items_a_day = asked.items_a_day or _items_a_day(examples)
    paying = None if asked.cards_a_day is None else _paying(examples, items_a_day)
    goal = _goal(asked, items_a_day, paying)
    return Looked(bundle, frozen, source, examples, goal, items_a_day, paying, shared)


def run(asked: Asked, looked: Looked, parts: Parts, out: Path, watch: Watcher) -> ThresholdChoice:
    """Score what was looked at, and return what was chosen. Raises CallerError where nothing can be."""
    manifest, caveats = looked.bundle.manifest, [*looked.source.caveats, *looked.shared]
    caveats += _unknown_calibrations(asked, manifest, looked.frozen)
    costs, limited = looked.goal.costs, looked.goal.reviews is not None or looked.goal.cards is not None
    if not (costs.review or costs.reviewer_error or limited):
        caveats.append("Reviews cost nothing here and nothing limits them: whatever is not sure is reviewed.")
    if asked.calibrate is None and chosen_on(manifest.decision.chosen_by, looked.frozen.sha256, asked.split):
        caveats.append(_SHIPPED_HERE)
    calibrations: tuple[StageCalibration, ...] = ()
    raw = _uncalibrated(manifest) if asked.calibrate is not None else _plain(manifest)
    if asked.calibrate is not None:
        calibrations = _calibrations(asked, looked, raw, parts, out, watch, caveats)
    scored = _scored(raw, looked.source, looked, parts, out, watch)
    scored = replace(scored, stage_scores=_calibrated(scored.stage_scores, manifest, calibrations))
    amounts = None if asked.amount_field is None else column_of(looked.source, asked.amount_field)
    sample = _sample(scored, amounts, asked, caveats)
    starts = _starts(sample, asked.bands, caveats)
    try:
        chosen = choose(sample, looked.goal, starts)
        return _put_together(asked, looked, sample, starts, chosen, calibrations, scored, caveats)
    except NotReachable as reason:
        raise CallerError(f"The limits cannot be kept: {reason}.", mend="Give more data, or a wider limit.") from None


def _put_together(
    asked: Asked,
    looked: Looked,
    sample: Sample,
    starts: tuple[float, ...],
    chosen: Chosen,
    calibrations: tuple[StageCalibration, ...],
    scored: Scored,
    caveats: list[str],
) -> ThresholdChoice:
    manifest, goal = looked.bundle.manifest, looked.goal
    prevalence = asked.prevalence or float(np.mean(sample.labels))
    decided, decided_by = decisions(chosen, sample)
    bands, edges, curves = _spread(asked, goal, sample, starts, chosen)
    if any(cuts.review_from == cuts.flag_from for cuts in chosen.cuts):
        caveats.append("The two thresholds coincide: nothing is sent to review there.")
    compute = evidence.weighted_mean(compute_of(decided_by, goal.stage_costs), sample) if goal.stage_costs else None
    return ThresholdChoice(
        detector=manifest.name,
        version=manifest.version,
        bundle_sha256=looked.bundle.digest,
        dataset=looked.frozen.name,
        manifest_sha256=looked.frozen.sha256,
        split=asked.split,
        items=len(sample.labels),
        positives=int(sample.labels.sum()),
        groups=int(sample.groups.max()) + 1,
        seed=asked.seed,
        goal=goal,
        prevalence=prevalence,
        items_a_day=looked.items_a_day,
        amount_field=asked.amount_field,
        chosen=chosen,
        review_from=edges[0],
        flag_from=edges[1],
        bands=bands,
        cost=evidence.expected_cost(sample, goal, starts, asked.seed),
        cost_here=evidence.weighted_mean(cost_of(decided, sample, goal), sample),
        cost_without_exits=evidence.weighted_mean(cost_of(last_decisions(chosen.cuts, sample), sample, goal), sample),
        cost_of_shipped=_cost_of_shipped(asked, manifest, sample, goal),
        reviews=evidence.reviews_of(chosen, sample),
        cards=_cards_reviewed(asked, looked, chosen, sample),
        compute=compute,
        flows=evidence.flows(decided, sample, (manifest.classes.negative, manifest.classes.positive)),
        stages=tuple(
            StageShare(name, proportion(decided_by == place, sample.groups)) for place, name in enumerate(scored.stages)
        ),
        what_if=evidence.what_if(sample, goal, starts, chosen, prevalence, looked.items_a_day),
        curve_review=curves[0],
        curve_flag=curves[1],
        calibrations=calibrations,
        caveats=tuple(caveats),
        command=asked.command,
        versions={"discern": discern.__version__, **{name: version(name) for name in _LIBRARIES}},
    )


def _unknown_calibrations(asked: Asked, manifest: Manifest, frozen: FrozenManifest) -> list[str]:
    """Return what cannot be known of calibrations that were fitted on the same data, frozen or split otherwise."""
    if asked.calibrate is not None:
        return []
    return [
        f"Stage {stage.name} was calibrated on another manifest of {frozen.name}: whether these items were among those "
        f"cannot be told."
        for stage in manifest.stages
        if stage.calibration.fitted_by.get("dataset") == frozen.name
        and stage.calibration.fitted_by.get("manifest_sha256") != frozen.sha256
    ]


def _spread(
    asked: Asked, goal: Goal, sample: Sample, starts: tuple[float, ...], chosen: Chosen
) -> tuple[tuple[BandThresholds, ...], tuple[Estimate, Estimate], tuple[tuple[CostPoint, ...], tuple[CostPoint, ...]]]:
    """Return the thresholds of bands and of the first one with their intervals, and the cost over each threshold."""
    if starts:
        bands = evidence.band_intervals(sample, goal, chosen.cuts, starts, asked.seed)
        return bands, (bands[0].review_from, bands[0].flag_from), ((), ())
    first = chosen.cuts[0]
    edges = evidence.threshold_intervals(sample, goal, first, asked.seed)
    return (), edges, evidence.cost_curves(sample, goal, first)


def _goal(asked: Asked, items_a_day: float | None, paying: float | None) -> Goal:
    reviews = None
    if asked.reviews_a_day is not None:
        if items_a_day is None:
            raise CallerError("The data have no days.", mend="Say with --items-a-day how many items come a day.")
        reviews = min(1.0, asked.reviews_a_day / items_a_day)
    costs = asked.costs
    if costs is None:
        # A limit alone: as few positives as can be are missed, and within a capacity as few errors as can be are made.
        costs = Costs(false_alarm=0.0 if asked.max_fpr is not None else 1.0)
        reviews = 0.0 if reviews is None and asked.cards_a_day is None else reviews
    share = None if asked.cards_a_day is None or paying is None else min(1.0, asked.cards_a_day / paying)
    return Goal(costs, reviews, asked.max_fpr, asked.upper_end, asked.exit_loss, asked.stage_costs, share)


def _items_a_day(examples: Examples) -> float | None:
    return None if examples.days is None else len(examples.days) / len(np.unique(examples.days))


def _paying(examples: Examples, items_a_day: float | None) -> float:
    """Return how many cards pay on a day where it runs: as the data have it, more where more items come."""
    if examples.cards is None or examples.days is None or items_a_day is None:
        raise CallerError(
            "The data do not say which card and which day an item is of.",
            mend="Freeze the table with -O card=COLUMN and -O at=COLUMN.",
        )
    pairs = int(numbered(examples.cards, examples.days).max()) + 1
    return pairs / len(examples.days) * items_a_day


def _cards_reviewed(asked: Asked, looked: Looked, chosen: Chosen, sample: Sample) -> CardsReviewed | None:
    if asked.cards_a_day is None or looked.paying is None:
        return None
    return evidence.cards_reviewed(chosen, sample, asked.cards_a_day, looked.paying)


def _plain(manifest: Manifest) -> Manifest:
    """Return the manifest with one pair of thresholds: every stage's scores are asked for, not decisions."""
    return manifest.model_copy(update={"decision": manifest.decision.model_copy(update={"bands": None})})


def _fixed(manifest: Manifest) -> set[str]:
    """Return the stages whose score a later stage takes: another calibration would change what that one says."""
    sources = {source for stage in manifest.stages for source in (stage.takes or {}).values()}
    return {stage.name for stage in manifest.stages if f"{stage.name}.score" in sources}


def _uncalibrated(manifest: Manifest) -> Manifest:
    """Return the manifest whose stages give raw probabilities, but for those whose score a later stage takes."""
    fixed = _fixed(manifest)
    stages = tuple(
        stage if stage.name in fixed else stage.model_copy(update={"calibration": Calibration()})
        for stage in manifest.stages
    )
    return _plain(manifest).model_copy(update={"stages": stages})


def _calibrations(
    asked: Asked, looked: Looked, raw: Manifest, parts: Parts, out: Path, watch: Watcher, caveats: list[str]
) -> tuple[StageCalibration, ...]:
    manifest = looked.bundle.manifest
    if any(item.frames is not None for item in looked.frozen.items) or looked.frozen.kind == "video":
        raise DatasetRefused("Stages are calibrated on images, not on clips.", mend="Name a dataset of images.")
    side = side_of(looked.frozen, asked.root, asked.calibrate, manifest, parts.limits)
    scored = _scored(raw, side, looked, parts, out, watch)
    there = ~np.isnan(scored.stage_scores).any(axis=1)
    labels, groups = scored.examples.labels[there] == 1, scored.examples.groups[there]
    fixed = _fixed(manifest)
    caveats.extend(f"Stage {name} keeps its calibration: a later stage takes its score." for name in sorted(fixed))
    return tuple(
        choose_calibration(stage.name, scored.stage_scores[there, place], labels, groups, asked.seed)
        for place, stage in enumerate(manifest.stages)
        if stage.name not in fixed
    )


def _calibrated(
    scores: NDArray[np.float64], manifest: Manifest, calibrations: tuple[StageCalibration, ...]
) -> NDArray[np.float64]:
    found, places = scores.copy(), {stage.name: place for place, stage in enumerate(manifest.stages)}
    for one in calibrations:
        place = places[one.stage]
        found[:, place] = calibrator(Calibration.model_validate(one.calibration))(scores[:, place])
    return found


def _scored(
    manifest: Manifest, source: FrozenSource, looked: Looked, parts: Parts, out: Path, watch: Watcher
) -> Scored:
    bundle = replace(looked.bundle, manifest=manifest)
    detector = load_detector(bundle, threads=1)
    # Stages whose score a later one takes keep their calibration: it is not all or none.
    calibrations = [stage.calibration.model_dump(mode="json") for stage in manifest.stages]
    what = (source.manifest_sha256, source.split, parts.limits, bundle.variant, "one pair of thresholds", calibrations)
    with Journal(out).sheet(bundle.digest, *what) as sheet:
        return score_source(source, Scoring(detector, parts.limits, parts.locator, parts.threads), sheet, watch)[0]


def _sample(scored: Scored, amounts: NDArray[np.float64] | None, asked: Asked, caveats: list[str]) -> Sample:
    there = ~np.isnan(scored.stage_scores).any(axis=1)
    if amounts is not None:
        there &= ~np.isnan(amounts)
        amounts = amounts[there]
        if (amounts < 0).any():
            raise CallerError("An amount is below zero.", mend="See the field.")
    labels = scored.examples.labels[there] == 1
    left = int(np.count_nonzero(~there))
    if left:
        lost = int(np.count_nonzero(scored.examples.labels[~there]))
        caveats.append(f"{left:,} items, {lost:,} of them positive, have no score of every stage and are left out.")
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if min(positives, negatives) < LEAST:
        raise CallerError(
            f"{positives} positive and {negatives} negative items with scores are too few to choose by; it takes "
            f"{LEAST} of each.",
            mend="Give more labelled items.",
        )
    groups = np.unique(scored.examples.groups[there], return_inverse=True)[1].astype(np.int64)
    weights = evidence.weights_at(labels, asked.prevalence)
    sample = Sample(labels, scored.stage_scores[there], groups, weights, amounts)
    if asked.cards_a_day is None or scored.examples.cards is None or scored.examples.days is None:
        return sample
    days = scored.examples.days[there]
    return replace(sample, days=days, card_days=numbered(scored.examples.cards[there], days))


def _starts(sample: Sample, bands: int, caveats: list[str]) -> tuple[float, ...]:
    """Return where bands begin: at quantiles of the positives' amounts, two digits each, none with too few items."""
    if bands < 2 or sample.amounts is None:
        return ()
    wanted = np.quantile(sample.amounts[sample.labels], np.arange(1, bands) / bands)
    edges = sorted({float(f"{edge:.2g}") for edge in wanted.tolist()})
    kept: list[float] = []
    for edge in edges:
        inside = (sample.amounts >= (kept[-1] if kept else -np.inf)) & (sample.amounts < edge)
        above = sample.amounts >= edge
        least = min(
            np.count_nonzero(rows & (sample.labels == label)) for rows in (inside, above) for label in (True, False)
        )
        if least >= LEAST_OF_A_BAND:
            kept.append(edge)
    if len(kept) + 1 < bands:
        caveats.append(f"{len(kept) + 1} bands instead of {bands}: each takes {LEAST_OF_A_BAND} items of each class.")
    return tuple(kept)


def _cost_of_shipped(asked: Asked, manifest: Manifest, sample: Sample, goal: Goal) -> Estimate:
    """Return what an item costs as the bundle is, or why that is not known of these scores."""
    rule = manifest.decision
    if asked.calibrate is not None:
        return Estimate(None, caveat="its thresholds are of scores by another calibration")
    if rule.bands is not None and rule.bands.field != asked.amount_field:
        return Estimate(None, caveat=f"its thresholds are by {rule.bands.field}: name it with --amount-field")
    steps = () if rule.bands is None else rule.bands.steps
    exits = tuple(
        StageExits(place, stage.exits.clear_below, stage.exits.flag_above)
        for place, stage in enumerate(manifest.stages)
        if stage.exits is not None
    )
    cuts = (Cuts(one.review_from, one.flag_from, one.from_) for one in steps)
    shipped = Chosen((Cuts(rule.review_from, rule.flag_from), *cuts), exits)
    return evidence.mean_cost(cost_of(decisions(shipped, sample)[0], sample, goal), sample)
