"""The one place where conditions ask for figures: scores in, points of curves out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.evaluation.comparisons import Comparison, compare_areas, with_verdicts
from discern.evaluation.metrics import operating_point
from discern.evaluation.statistics import proportion
from discern.evaluation.types_conditions import FALL, ConditionCurve, ConditionPoint, Rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from discern.evaluation.conditions.registry import Condition
    from discern.evaluation.types import Scored

Compared = tuple[ConditionPoint, Comparison]


def compared(clean: Scored, hurt: Scored, condition: Condition, strength: int) -> Compared:
    """Return what one strength does to the items that were judged as they were, and its comparison before Holm's."""
    judged = ~np.isnan(clean.score)
    labels, groups = clean.examples.labels[judged], clean.examples.groups[judged]
    score, decision = hurt.score[judged], hurt.decision[judged]
    comparison = compare_areas(labels, clean.score[judged], score, groups)
    at = operating_point(labels, decision, groups)
    reasons = Counter(
        hurt.errors.get(int(row), "no score").split(":")[0] for row in np.flatnonzero(judged & np.isnan(hurt.score))
    )
    point = ConditionPoint(
        strength=strength,
        parameters=condition.written(strength),
        items=int(judged.sum()),
        auc=comparison.candidate,
        difference=comparison.difference,
        p=None,
        rates=Rates(at.positive.flag, at.positive.clear, at.negative.flag),
        lost=proportion(np.isnan(score), groups),
        lost_reasons=dict(sorted(reasons.items())),
    )
    return point, comparison


def curves(found: Mapping[str, Sequence[Compared]], conditions: Sequence[Condition]) -> tuple[ConditionCurve, ...]:
    """Return the curves, their p-values corrected for one another over all strengths of all conditions."""
    everything = [comparison for condition in conditions for _, comparison in found[condition.name]]
    corrected = iter(with_verdicts(everything))
    results = []
    for condition in conditions:
        points = tuple(
            msgspec.structs.replace(point, p=next(corrected).p_adjusted) for point, _ in found[condition.name]
        )
        results.append(
            ConditionCurve(condition.name, condition.what, points, falls_from(points), falls_from(points, surely=True))
        )
    return tuple(results)


def falls_from(points: Sequence[ConditionPoint], *, surely: bool = False) -> int | None:
    """Return the lowest strength at which the AUC is lower by more than `FALL`, or its whole interval is."""
    for point in points:
        fall = point.difference.high if surely else point.difference.value
        if fall is not None and fall < -FALL:
            return point.strength
    return None
