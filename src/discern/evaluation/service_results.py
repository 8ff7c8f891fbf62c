"""From scores to the result: every table of one dataset, what holds across datasets, and the sentence on top.

- Every figure is one of `metrics`, `cascades` and `comparisons`; here they are only asked for.
- Nothing is given of a score that is NaN: what could not be judged is counted beside the figures.

Needs the extra `evaluate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from discern.core.errors import CallerError
from discern.detectors.scoring import DECISIONS
from discern.evaluation import metrics
from discern.evaluation.cascades import cascade_flow
from discern.evaluation.comparisons import compare_areas, compare_by_bootstrap, compare_decisions, with_verdicts
from discern.evaluation.events import event_tables
from discern.evaluation.metrics_calibration import calibration
from discern.evaluation.metrics_cards import CARDS_A_DAY, card_precision
from discern.evaluation.metrics_curves import histogram, precision_recall, roc
from discern.evaluation.metrics_videos import video_result
from discern.evaluation.report_words import figure, interval, percent
from discern.evaluation.results import (
    BandFacts,
    BandsFacts,
    Compared,
    CrossCell,
    DatasetResult,
    DetectorFacts,
    Mistake,
    SubgroupTable,
)
from discern.evaluation.statistics import rows_of
from discern.evaluation.statistics_bootstrap import DRAWS
from discern.evaluation.types import Estimate, ItemKind, Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Manifest
    from discern.evaluation.types_datasets import Leakage

_WORST = 12
_SUBGROUPS = 40
_OTHERS = "(other values)"
_BY_WINDOWS = (
    "The detector judges a clip by its worst window of time, and the score is that of the measure which decided, in a "
    "scale of its own. What is decided and the events are what to look at; areas and calibration compare unlike scores."
)
_FEWEST_DRAWS = 200
_DRAWN_ROWS = 40_000_000
_FALSE_POSITIVE_RATES = {"tpr_at_fpr_1_percent": 0.01, "tpr_at_fpr_0_1_percent": 0.001}
_CLEAR, _FLAG = DECISIONS.index("clear"), DECISIONS.index("flag")

Picture = Callable[[int], str | None]
"""Gives the thumbnail of a row, as a data URI."""


def facts_of(bundle: Bundle) -> DetectorFacts:
    """Return what the report says of the bundle."""
    manifest = bundle.manifest
    bands = manifest.decision.bands
    steps = () if bands is None else tuple(BandFacts(one.from_, one.review_from, one.flag_from) for one in bands.steps)
    return DetectorFacts(
        name=manifest.name,
        version=manifest.version,
        bundle_sha256=bundle.digest,
        task=manifest.task,
        negative=manifest.classes.negative,
        positive=manifest.classes.positive,
        stages=tuple(stage.name for stage in manifest.stages),
        review_from=manifest.decision.review_from,
        flag_from=manifest.decision.flag_from,
        signed_by=bundle.signer,
        variant=bundle.variant,
        bands=None if bands is None else BandsFacts(bands.field, steps),
    )


def dataset_result(
    scored: Scored,
    manifest: Manifest,
    *,
    kind: ItemKind,
    split: str | None,
    caveats: Sequence[str],
    leakage: tuple[Leakage, ...],
    seed: int,
    picture: Picture,
) -> DatasetResult:
    """Return everything that is said of one dataset."""
    examples = scored.examples
    labels, groups = examples.labels, examples.groups
    rows = rows_of(labels, scored.score, groups)
    draws = draws_for(len(labels))
    by_windows = kind == "video" and manifest.video is not None and manifest.video.pool == "windows"
    told = () if manifest.stream is None else tuple(one.name for one in manifest.stream.events)
    tables, unsaid = event_tables(scored, told, seed=seed, draws=draws) if examples.events else (None, ())
    more = [*([_BY_WINDOWS] if by_windows else []), *unsaid]
    return DatasetResult(
        name=examples.dataset,
        kind=kind,
        split=split,
        manifest_sha256=examples.manifest_sha256,
        items=len(labels),
        positives=int(labels.sum()),
        negatives=int((labels == 0).sum()),
        groups=len(np.unique(groups)),
        not_scored=_counted(scored.errors),
        degraded=_degraded(scored),
        caveats=(
            *caveats,
            *_leaks(examples.dataset, leakage),
            *_caveats(scored),
            *(f"{examples.dataset}: {caveat}" for caveat in more),
        ),
        metrics=_metrics(scored, seed, draws),
        operating=metrics.operating_point(labels, scored.decision, groups),
        roc=roc(rows),
        precision_recall=precision_recall(rows),
        calibration=calibration(labels, scored.score, groups, seed=seed, draws=draws),
        histogram=histogram(rows),
        cascade=cascade_flow(scored) if len(scored.stages) > 1 and not by_windows else None,
        videos=video_result(scored, manifest.video, manifest.decision.thresholds, seed=seed, draws=draws),
        events=tables,
        subgroups=_subgroups(scored),
        mistakes=_mistakes(scored, picture),
        leakage=leakage,
    )


def draws_for(rows: int) -> int:
    """Return how many resamples are drawn of so many rows: fewer of many, for which intervals are narrow."""
    return int(min(DRAWS, max(_FEWEST_DRAWS, _DRAWN_ROWS // max(rows, 1))))


def crossed(scored: Sequence[Scored]) -> tuple[CrossCell, ...]:
    """Return the AUC of every dataset's negatives against every dataset's positives, where there are several.

    A detector that has learned what it should does as well between datasets as within one. One that is much better
    between them tells the datasets apart, not the classes.
    """
    if len(scored) < 2:
        return ()
    cells = []
    for one, other in product(scored, repeat=2):
        low, high = one.examples.labels == 0, other.examples.labels == 1
        # Groups of two datasets are different ones; those of one are the same on both sides.
        apart = 0 if one is other else 1 + int(one.examples.groups.max(initial=0))
        area = metrics.area_under_roc(
            np.repeat([0, 1], [low.sum(), high.sum()]),
            np.concatenate([one.score[low], other.score[high]]),
            np.concatenate([one.examples.groups[low], other.examples.groups[high] + apart]),
        )
        cells.append(CrossCell(one.examples.dataset, other.examples.dataset, area))
    return tuple(cells)


def compared(ours: Sequence[Scored], theirs: Sequence[Scored], seed: int) -> tuple[Compared, ...]:
    """Return how two detectors differ on the same items, corrected for one another over all of it.

    What either could not judge is left out for both.
    """
    names, found = [], []
    for one, other in zip(ours, theirs, strict=True):
        both = ~np.isnan(one.score) & ~np.isnan(other.score)
        labels, groups = one.examples.labels[both], one.examples.groups[both]
        baseline, candidate = other.score[both], one.score[both]
        without, flagged = (each.decision[both] == _FLAG for each in (other, one))
        draws = draws_for(len(labels))
        found += [
            compare_areas(labels, baseline, candidate, groups),
            compare_by_bootstrap("average_precision", labels, baseline, candidate, groups, seed=seed, draws=draws),
            compare_decisions(labels, without, flagged, groups, measure="accuracy of flagging"),
        ]
        names += [one.examples.dataset] * 3
    return tuple(Compared(name, one) for name, one in zip(names, with_verdicts(found), strict=True))


def verdict(detector: DetectorFacts, datasets: Sequence[DatasetResult], found: Sequence[Compared]) -> str:
    """Return the whole in a few sentences, the worst dataset first."""
    known = [one for one in datasets if one.metrics["auc"].value is not None]
    name = f"{detector.name} {detector.version}"
    if not known:
        return f"What {name} is worth cannot be told: {datasets[0].metrics['auc'].caveat}."
    worst = min(known, key=lambda one: one.metrics["auc"].value or 0.0)
    negative, positive = worst.operating.negative, worst.operating.positive
    untold = [one.name for one in datasets if one.metrics["auc"].value is None]
    among = f"the worst of {len(known)} datasets{' with both classes' if untold else ''},"
    where = f"on {worst.name}" if len(datasets) == 1 else f"on {worst.name}, {among}"
    first = (
        f"{name} has an AUC of {_said(worst.metrics['auc'])} {where} and flags {percent(positive.flag.value)} of "
        f"{detector.positive} and {percent(negative.flag.value)} of {detector.negative} there; it clears "
        f"{percent(positive.clear.value)} of {detector.positive}."
    )
    sentences = [first]
    if untold:
        sentences.append(f"Of {', '.join(untold)} it cannot be told.")
    unjudged = sum(sum(one.not_scored.values()) for one in datasets)
    if unjudged:
        sentences.append(f"{unjudged:,} of {sum(one.items for one in datasets):,} items could not be judged.")
    leaking = [one.name for one in datasets if any(leak.leaks for leak in one.leakage)]
    if leaking:
        sentences.append(f"Not to be relied on: {', '.join(leaking)} shares what it must not (see the leakage checks).")
    if found:
        areas = [one for one in found if one.comparison.measure == "area_under_roc"]
        told = [one for one in areas if one.comparison.verdict in {"better", "worse"}]
        words = "; ".join(f"{one.comparison.verdict} on {one.dataset}" for one in told)
        sentences.append(f"By AUC, beside the other detector: {words or 'not distinguishable'}.")
    return " ".join(sentences)


def _metrics(scored: Scored, seed: int, draws: int) -> dict[str, Estimate]:
    examples, scores = scored.examples, scored.score
    labels, groups = examples.labels, examples.groups
    found = {
        "auc": metrics.area_under_roc(labels, scores, groups),
        "average_precision": metrics.average_precision(labels, scores, groups),
    }
    rates = tuple(_FALSE_POSITIVE_RATES.values())
    shared = metrics.error_rates(labels, scores, groups, at=rates, seed=seed, draws=draws)
    found |= zip(("eer", *_FALSE_POSITIVE_RATES), shared, strict=True)
    if examples.cards is not None and examples.days is not None:
        found[f"card_precision_at_{CARDS_A_DAY}"] = card_precision(
            labels, scores, examples.cards, examples.days, seed=seed, draws=draws
        )
    return found


def _counted(errors: dict[int, str]) -> dict[str, int]:
    return dict(sorted(Counter(reason.partition(":")[0] for reason in errors.values()).items()))


def _degraded(scored: Scored) -> int:
    """Return how many rows a later stage failed on: the one after the last that answered has no score."""
    last = len(scored.stages) - 1
    rows = np.flatnonzero(~np.isnan(scored.score) & (scored.decided_by < last))
    following = scored.stage_scores[rows, scored.decided_by[rows] + 1]
    return int((np.isnan(following) & (scored.decision[rows] == DECISIONS.index("review"))).sum())


def _leaks(name: str, found: Sequence[Leakage]) -> list[str]:
    return [
        f"{name}: it leaks. {one.says} {one.count:,} between {' and '.join(filter(None, one.sides)) or 'items'}."
        for leakage in found
        for one in leakage.findings
        if one.leak
    ]


def _caveats(scored: Scored) -> list[str]:
    labels, name = scored.examples.labels, scored.examples.dataset
    unjudged = np.isnan(scored.score)
    if not unjudged.any():
        return []
    shares = [float(unjudged[labels == label].mean()) if (labels == label).any() else 0.0 for label in (0, 1)]
    first = min(scored.errors, default=None)
    why = "" if first is None else f" The first is {scored.examples.ids[first]}: {scored.errors[first]}"
    said = (
        f"{name}: {int(unjudged.sum()):,} of {len(labels):,} items could not be judged ({shares[0]:.1%} of the "
        f"negatives, {shares[1]:.1%} of the positives) and are in no figure.{why}"
    )
    return [said]


def _subgroups(scored: Scored) -> tuple[SubgroupTable, ...]:
    examples = scored.examples
    found = []
    for of, values in sorted(examples.subgroups.items()):
        names = np.array([str(value) for value in values], np.object_)
        most = {value for value, _ in sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))[:_SUBGROUPS]}
        shown = np.array([name if name in most else _OTHERS for name in names], np.object_)
        lines = metrics.subgroup_table(examples.labels, scored.score, scored.decision, shown, examples.groups)
        found.append(SubgroupTable(of, lines))
    return tuple(found)


def _mistakes(scored: Scored, picture: Picture) -> tuple[Mistake, ...]:
    """Return the positives that were cleared with the lowest scores and the negatives flagged with the highest."""
    examples = scored.examples
    found = []
    for label, wrong, sign in ((1, _CLEAR, 1.0), (0, _FLAG, -1.0)):
        rows: NDArray[np.intp] = np.flatnonzero((examples.labels == label) & (scored.decision == wrong))
        worst = sorted(rows.tolist(), key=lambda row: (sign * float(scored.score[row]), examples.ids[row]))[:_WORST]
        for row in worst:
            try:
                shown = picture(row)
            except CallerError:  # a picture that has gone since it was judged
                shown = None
            found.append(
                Mistake(
                    id=examples.ids[row],
                    label=1 if label else 0,
                    score=float(scored.score[row]),
                    decision=DECISIONS[wrong],
                    decided_by=scored.stages[scored.decided_by[row]],
                    thumbnail=shown,
                )
            )
    return tuple(found)


def _said(estimate: Estimate) -> str:
    span = interval(estimate)
    return f"{figure(estimate.value)} ({span})" if span else figure(estimate.value)
