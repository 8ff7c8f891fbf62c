"""Made worlds: scores and truths whose relation is known, and what the ledger and labels would say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.verdict import Decision
from discern.monitoring.quality.rules_drawing import DECISIONS, measures_of
from discern.monitoring.quality.types import Figure, Group, Measure
from discern.monitoring.types import TallyRow
from discern.review.types import Judged

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REVIEW_FROM, FLAG_FROM = 0.3, 0.8


def sigmoid(log_odds: Any) -> Floats:
    found: Floats = 1 / (1 + np.exp(-np.asarray(log_odds, np.float64)))
    return found


def decided(scores: Floats, review_from: float = REVIEW_FROM, flag_from: float = FLAG_FROM) -> list[Decision]:
    codes = (scores >= review_from).astype(int) + (scores >= flag_from)
    return [DECISIONS[code] for code in codes]


def groups_of(scores: Floats, decisions: Iterable[Decision]) -> dict[Decision, Group]:
    """The sums that the ledger keeps."""
    named = np.array(list(decisions))
    return {
        one: Group(
            int((named == one).sum()),
            float(scores[named == one].sum()),
            float((scores[named == one] * (1 - scores[named == one])).sum()),
        )
        for one in DECISIONS
    }


def truth_of(positive: Flags, decisions: Iterable[Decision]) -> dict[Measure, float]:
    """Every measure as it is when all labels are known."""
    named = np.array(list(decisions))
    verdicts = {one: int((named == one).sum()) for one in DECISIONS}
    counts = {one: np.array([float(positive[named == one].sum())]) for one in DECISIONS}
    return {measure: float(value[0]) for measure, value in measures_of(verdicts, counts).items()}


def measured_truth(named: Any, expected: Mapping[Decision, float]) -> dict[Measure, float]:
    """Every measure as it is expected on such inputs; `expected` has the positives of each decision."""
    verdicts = {one: int((named == one).sum()) for one in DECISIONS}
    counts = {which: np.array([many]) for which, many in expected.items()}
    return {one: float(value[0]) for one, value in measures_of(verdicts, counts).items()}


def recalibrated(random: np.random.Generator, items: int) -> tuple[float, float]:
    """By how much, intercept and slope, a logistic recalibration is off that was fitted on so many items."""
    log_odds = random.normal(-3, 2.5, items)
    positive = random.random(items) < sigmoid(log_odds)
    design = np.stack([np.ones(items), log_odds], axis=1)
    at = np.array([0.0, 1.0])
    for _ in range(12):  # Newton's method
        share = sigmoid(design @ at)
        information = (design * (share * (1 - share))[:, None]).T @ design
        at = at + np.linalg.solve(information, design.T @ (positive - share))
    # What is served is the inverse: scores by which the world is off.
    return float(-at[0] / at[1]), float(1 / at[1])


def covered(
    figures: Iterable[Figure], truth: Mapping[Measure, float], hits: Counter[Measure], all_: Counter[Measure]
) -> None:
    """Count for each measure whether the interval holds the truth."""
    for one in figures:
        if one.value is None or np.isnan(truth[one.measure]):
            continue
        assert one.low is not None
        assert one.high is not None
        all_[one.measure] += 1
        hits[one.measure] += one.low - 1e-12 <= truth[one.measure] <= one.high + 1e-12


def coverage(
    rounds: int, one_round: Callable[[], tuple[Iterable[Figure], Mapping[Measure, float]]]
) -> dict[Measure, float]:
    """How often the interval of each measure held the truth; measures with few occasions are left out."""
    hits: Counter[Measure] = Counter()
    all_: Counter[Measure] = Counter()
    for _ in range(rounds):
        figures, truth = one_round()
        covered(figures, truth, hits, all_)
    return {measure: hits[measure] / count for measure, count in all_.items() if count >= rounds / 2}


def judged(score: float, positive: bool | None, **changes: Any) -> Judged:
    """A labelled verdict of NOON, labelled an hour later, drawn with certainty unless the changes say otherwise."""
    at = changes.pop("verdict_at", NOON)
    made = Judged(
        verdict_id=UUID(int=least_id(at).int | (uuid7().int & ((1 << 74) - 1))),
        label_id=uuid7(),
        version="1.0.0",
        decision=decided(np.array([score]))[0],
        score=score,
        decided_by="only",
        cached=False,
        verdict_at=at,
        positive=positive,
        source="reviewer",
        selected_by="all",
        propensity=1.0,
        held_out=None,
        labelled_at=at + timedelta(hours=1),
    )
    return made._replace(**changes)


class TalliesInMemory:
    """A twin of what the ledger counts."""

    def __init__(self) -> None:
        self.rows: list[TallyRow] = []

    def since(self, hour: datetime, workspace: str | None = None) -> list[TallyRow]:
        return [row for row in self.rows if row.hour >= hour and workspace in {None, row.workspace}]

    def add(
        self, at: datetime, scores: Floats, decisions: Iterable[Decision], *, decided_by: str = "only",
        cached: bool = False, workspace: str = "default", detector: str = "toy", version: str = "1.0.0",
    ) -> None:  # fmt: skip
        """Count verdicts of one hour."""
        hour = at.replace(minute=0, second=0, microsecond=0)
        for decision, group in groups_of(scores, decisions).items():
            if group.verdicts:
                self.rows.append(
                    TallyRow(hour, workspace, detector, version, decision, decided_by, (decided_by,), cached, "",
                             group.verdicts, float(group.verdicts), group.scores, group.variances)
                )  # fmt: skip
