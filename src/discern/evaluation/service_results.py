"""From scores to the result: every table of one dataset, what holds across datasets, and the sentence on top.

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
from discern.evaluation import measures
from discern.evaluation.measures import Marked
from discern.evaluation.report_words import figure, interval, percent
from discern.evaluation.types import Estimate, Scored
from discern.evaluation.types_result import (
    Compared,
    CrossCell,
    DatasetResult,
    Decided,
    DetectorFacts,
    Mistake,
    StageFlow,
    Subgroup,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.evaluation.ports import ItemSource

_WORST = 12
_SUBGROUPS = 40
_CLEAR, _FLAG = DECISIONS.index("clear"), DECISIONS.index("flag")

Picture = Callable[[int], str | None]
"""Gives the thumbnail of a row, as a data URI."""


def facts_of(bundle: Bundle) -> DetectorFacts:
    """Return what the report says of the bundle."""
    manifest = bundle.manifest
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
    )


def dataset_result(
    scored: Scored, source: ItemSource, detector: DetectorFacts, seed: int, picture: Picture
) -> DatasetResult:
    """Return everything that is said of one dataset."""
    examples = scored.examples
    good = ~np.isnan(scored.score)
    marked = _marked(scored)
    labels = examples.labels
    return DatasetResult(
        name=examples.dataset,
        manifest_sha256=examples.manifest_sha256,
        items=len(labels),
        positives=int(labels.sum()),
        negatives=int((labels == 0).sum()),
        groups=len(np.unique(examples.groups)),
        not_scored=_counted(scored.errors),
        degraded=_degraded(scored),
        caveats=(*source.caveats, *_caveats(scored, marked)),
        metrics=measures.metrics(marked, seed),
        decided=tuple(_decided(scored, name, labels == label) for label, name in enumerate(_classes(detector))),
        roc=measures.roc(marked),
        precision_recall=measures.precision_recall(marked),
        reliability=measures.reliability(marked),
        histogram=measures.histogram(marked),
        stages=tuple(_flow(scored, position) for position in range(len(scored.stages))),
        subgroups=_subgroups(scored, good),
        mistakes=_mistakes(scored, picture),
        leakage=source.leakage,
    )


def crossed(scored: Sequence[Scored]) -> tuple[CrossCell, ...]:
    """Return the AUC of every dataset's negatives against every dataset's positives, where there are several.

    A detector that has learned what it should does as well between datasets as within one. One that is much better
    between them tells the datasets apart, not the classes.
    """
    if len(scored) < 2:
        return ()
    cells = []
    for one, other in product(scored, repeat=2):
        negatives, positives = _marked(one), _marked(other)
        apart = 1 + (int(negatives.groups.max()) if len(negatives.groups) else 0)
        low, high = negatives.where(negatives.labels == 0), positives.where(positives.labels == 1)
        both = Marked(
            np.concatenate([low.labels, high.labels]),
            np.concatenate([low.scores, high.scores]),
            # Groups of two datasets are different ones; those of one are the same on both sides.
            np.concatenate([low.groups, high.groups if one is other else high.groups + apart]),
        )
        cells.append(CrossCell(one.examples.dataset, other.examples.dataset, measures.auc(both)))
    return tuple(cells)


def compared(ours: Sequence[Scored], theirs: Sequence[Scored]) -> tuple[Compared, ...]:
    """Return how two detectors differ on the same items; what either could not judge is left out for both."""
    found: list[Compared] = []
    for one, other in zip(ours, theirs, strict=True):
        both = ~np.isnan(one.score) & ~np.isnan(other.score)
        examples = one.examples
        mine, others = (Marked(examples.labels[both], each.score[both], examples.groups[both]) for each in (one, other))
        flagged = [each.decision[both] == _FLAG for each in (one, other)]
        found += measures.compared(examples.dataset, mine, others, flagged)
    return measures.corrected(found)


def verdict(detector: DetectorFacts, datasets: Sequence[DatasetResult], found: Sequence[Compared]) -> str:
    """Return the whole in a few sentences, the worst dataset first."""
    known = [one for one in datasets if one.metrics["auc"].value is not None]
    name = f"{detector.name} {detector.version}"
    if not known:
        return f"What {name} is worth cannot be told: {datasets[0].metrics['auc'].caveat}"
    worst = min(known, key=lambda one: one.metrics["auc"].value or 0.0)
    negatives, positives = worst.decided
    where = f"on {worst.name}" if len(datasets) == 1 else f"on {worst.name}, the worst of {len(datasets)} datasets,"
    found_there = f"flags {percent(positives.shares['flag'].value)} of {detector.positive} and "
    found_there += f"{percent(negatives.shares['flag'].value)} of {detector.negative} there"
    cleared = f"it clears {percent(positives.shares['clear'].value)} of {detector.positive}"
    sentences = [f"{name} has an AUC of {_said(worst.metrics['auc'])} {where} and {found_there}; {cleared}."]
    unjudged = sum(sum(one.not_scored.values()) for one in datasets)
    if unjudged:
        sentences.append(f"{unjudged:,} of {sum(one.items for one in datasets):,} items could not be judged.")
    told = [one for one in found if one.figure == "auc" and one.finding != "not distinguishable"]
    if found:
        words = "; ".join(f"{one.finding} on {one.dataset}" for one in told)
        sentences.append(f"By AUC, beside the other detector: {words or 'not distinguishable'}.")
    return " ".join(sentences)


def _classes(detector: DetectorFacts) -> tuple[str, str]:
    return detector.negative, detector.positive


def _marked(scored: Scored) -> Marked:
    good = ~np.isnan(scored.score)
    return Marked(scored.examples.labels[good], scored.score[good], scored.examples.groups[good])


def _counted(errors: dict[int, str]) -> dict[str, int]:
    return dict(sorted(Counter(reason.partition(":")[0] for reason in errors.values()).items()))


def _degraded(scored: Scored) -> int:
    """Return how many rows a later stage failed on: the one after the last that answered has no score."""
    last = len(scored.stages) - 1
    rows = np.flatnonzero(~np.isnan(scored.score) & (scored.decided_by < last))
    following = scored.stage_scores[rows, scored.decided_by[rows] + 1]
    return int((np.isnan(following) & (scored.decision[rows] == DECISIONS.index("review"))).sum())


def _caveats(scored: Scored, marked: Marked) -> list[str]:
    labels, name = scored.examples.labels, scored.examples.dataset
    found = []
    if marked.lacks is not None:
        found.append(f"{name}: {marked.lacks} Nothing that needs both classes is given.")
    unjudged = np.isnan(scored.score)
    if unjudged.any():
        shares = [float(unjudged[labels == label].mean()) if (labels == label).any() else 0.0 for label in (0, 1)]
        found.append(
            f"{name}: {int(unjudged.sum()):,} of {len(labels):,} items could not be judged ({shares[0]:.1%} of the "
            f"negatives, {shares[1]:.1%} of the positives) and are in no figure."
        )
    return found


def _decided(scored: Scored, name: str, rows: NDArray[np.bool_]) -> Decided:
    judged = rows & ~np.isnan(scored.score)
    decision, groups = scored.decision[judged], scored.examples.groups[judged]
    hits = {word: decision == code for code, word in enumerate(DECISIONS)}
    return Decided(
        name=name,
        items=int(judged.sum()),
        counts={word: int(one.sum()) for word, one in hits.items()},
        shares={word: measures.share(one, groups) for word, one in hits.items()},
    )


def _flow(scored: Scored, position: int) -> StageFlow:
    examples = scored.examples
    judged = ~np.isnan(scored.score)
    reached, decided = judged & (scored.decided_by >= position), judged & (scored.decided_by == position)
    positive = judged & (examples.labels == 1)
    column = scored.stage_scores[:, position]
    answered = ~np.isnan(column)

    def area(rows: NDArray[np.bool_]) -> Estimate:
        rows = rows & answered
        return measures.auc(Marked(examples.labels[rows], column[rows], examples.groups[rows]))

    cleared = (decided & (scored.decision == _CLEAR))[positive]
    return StageFlow(
        name=scored.stages[position],
        reached=int(reached.sum()),
        decided=int(decided.sum()),
        share_decided=float(decided.sum() / max(1, judged.sum())),
        cleared_positives=measures.share(cleared, examples.groups[positive]),
        auc_alone=area(judged),
        auc_of_reached=area(reached),
    )


def _subgroups(scored: Scored, good: NDArray[np.bool_]) -> tuple[Subgroup, ...]:
    examples = scored.examples
    found = []
    for of, values in sorted(examples.subgroups.items()):
        for value in sorted({str(one) for one in values if one is not None})[:_SUBGROUPS]:
            rows = (values.astype(str) == value) & good
            labels, flagged, groups = examples.labels[rows], scored.decision[rows] == _FLAG, examples.groups[rows]
            found.append(
                Subgroup(
                    of=of,
                    value=value,
                    items=int(rows.sum()),
                    positives=int(labels.sum()),
                    auc=measures.auc(Marked(labels, scored.score[rows], groups)),
                    flagged_positives=measures.share(flagged[labels == 1], groups[labels == 1]),
                    flagged_negatives=measures.share(flagged[labels == 0], groups[labels == 0]),
                )
            )
    return tuple(found)


def _mistakes(scored: Scored, picture: Picture) -> tuple[Mistake, ...]:
    """Return the positives that were cleared with the lowest scores and the negatives flagged with the highest."""
    examples = scored.examples
    found = []
    for label, wrong, sign in ((1, _CLEAR, 1.0), (0, _FLAG, -1.0)):
        rows = np.flatnonzero((examples.labels == label) & (scored.decision == wrong))
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
