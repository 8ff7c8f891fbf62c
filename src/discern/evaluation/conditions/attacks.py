"""Searches for small changes that make a positive item pass as clear, by the detector's answers alone.

- Only the score and the decision are seen, as a caller sees them; every answer asked for counts as a query.
- What is tried stays within the norm, and within what the door takes: levels of 0 to 255, declared ranges.
- A search for one item draws from a generator of its own, and does not depend on the other items.
- Pictures are changed as the detector's preparation leaves them, after decoding and cropping. Whoever changes the file
  has those in the way too, so that the share found here is rather above theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from discern.detectors.scoring import DECISIONS
from discern.evaluation.conditions import records
from discern.evaluation.statistics import proportion
from discern.evaluation.types_conditions import AttackPoint, AttackResult
from discern.inputs.spec import BooleanField, CategoryField, IntegerField

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from discern.inputs.spec import RecordField, RecordSpec

    Pixels = NDArray[np.uint8]
    Matrix = NDArray[np.float32]
    Levels = NDArray[np.int16]

LEVELS = 8
"""L-infinity norm of what pictures may be changed by, of 255 levels."""
MOST_FIELDS = 3
"""L0 norm of what records may be changed by."""
_FIRST_SHARE = 0.8
_ROWS_TOGETHER = 32
_CLEAR = DECISIONS.index("clear")
_CHECKPOINTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)

Ask = Callable[["NDArray[Any]"], "tuple[NDArray[np.float64], NDArray[np.int8]]"]
"""Scores and decisions of rows: one query for each row."""


class Search(Protocol):
    """The search for one item: what to try next, told what came of it."""

    def propose(self, query: int) -> NDArray[Any]:
        """Return the row for query number `query`, counted from 0."""
        ...

    def learn(self, lower: bool) -> None:
        """Hear whether the score of the last proposal is the lowest so far."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of n searches: int64 [n] the number of the query that first passed as clear, 0 where none did.

    `queries` int64 [n] is how many were asked.
    """

    passed_at: NDArray[np.int64]
    queries: NDArray[np.int64]


class SquareSearch:
    """Square Attack under L-infinity (Andriushchenko et al., ECCV 2020, arXiv:1912.00049), for one picture.

    It begins with vertical stripes; then each query changes one square, at a drawn place, to plus or minus the norm in
    every channel. The squares' area falls over the budget by the paper's schedule, from 0.8 of the picture as in
    AutoAttack (Croce and Hein, ICML 2020), which suits short budgets.
    """

    def __init__(self, picture: Pixels, generator: np.random.Generator, *, levels: int, budget: int) -> None:
        self._original = picture.astype(np.int16)
        self._generator = generator
        self._levels = levels
        self._budget = budget
        self._best: Levels = self._original
        self._last: Levels = self._original

    def propose(self, query: int) -> NDArray[Any]:
        """Return the picture to try."""
        height, width, channels = self._original.shape
        if query == 0:
            signs = self._generator.integers(0, 2, (1, width, channels)) * 2 - 1
            self._last = self._within(self._original + np.broadcast_to(signs * self._levels, self._original.shape))
            return self._last.astype(np.uint8)
        side = min(max(1, round(math.sqrt(square_share(query, self._budget) * height * width))), height, width)
        top = int(self._generator.integers(0, height - side + 1))
        left = int(self._generator.integers(0, width - side + 1))
        signs = self._generator.integers(0, 2, (1, 1, channels)) * 2 - 1
        square = np.s_[top : top + side, left : left + side]
        self._last = self._best.copy()
        self._last[square] = self._within(self._original[square] + signs * self._levels)
        return self._last.astype(np.uint8)

    def learn(self, lower: bool) -> None:
        """Keep what scored lower."""
        if lower:
            self._best = self._last

    def _within(self, values: NDArray[Any]) -> Levels:
        within: Levels = np.clip(values, 0, 255).astype(np.int16)
        return within


class FieldSearch:
    """Random search along coordinates within declared ranges, for one record, after SimBA.

    SimBA (Guo et al., ICML 2019, arXiv:1905.07121) takes directions in a drawn order, tries a step each way and keeps
    what lowers the score. Here a direction is a field, and a step a value drawn from its range; once `most` fields
    differ, only these are changed further.
    """

    def __init__(self, row: Matrix, ranges: Sequence[Range], generator: np.random.Generator, *, most: int) -> None:
        self._original = row
        self._best = row
        self._last = row
        self._ranges = ranges
        self._generator = generator
        self._most = most
        self._order: list[int] = []

    def propose(self, query: int) -> NDArray[Any]:  # noqa: ARG002 - the search for a picture needs it
        """Return the record to try."""
        changed = np.flatnonzero(~_same(self._best, self._original))
        if not self._order:
            open_to = changed if len(changed) >= self._most else np.arange(len(self._ranges))
            self._order = self._generator.permutation(open_to).tolist()
        field = self._order.pop()
        self._last = self._best.copy()
        self._last[field] = self._ranges[field].draw(self._generator)
        return self._last

    def learn(self, lower: bool) -> None:
        """Keep what scored lower."""
        if lower:
            self._best = self._last
            self._order = []


@dataclass(frozen=True, slots=True)
class Range:
    """What a field may be set to, both ends included."""

    low: float
    high: float
    whole: bool

    def draw(self, generator: np.random.Generator) -> np.float32:
        """Return a value from it."""
        if self.whole:
            return np.float32(generator.integers(math.ceil(self.low), math.floor(self.high) + 1))
        return np.float32(generator.uniform(self.low, self.high))


def ranges_of(spec: RecordSpec, rows: Matrix) -> tuple[Range, ...]:
    """Return for each field what an attacker may write: values that occur, within the declared range.

    Of numbers, what lies between the smallest and the largest of `rows`: a value that nobody has ever sent would be
    conspicuous. A field that always misses may be set to what is nearest to 0 in its range.
    """
    return tuple(_range(field, rows[:, position]) for position, field in enumerate(spec.fields))


def square_share(query: int, budget: int) -> float:
    """Return the area of the square of a query: halved at fixed shares of the budget, as the paper does of 10,000."""
    steps = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    at = query / budget * 10_000
    return float(_FIRST_SHARE / 2 ** sum(at > step for step in steps))


def search(searches: Sequence[Search], scores: NDArray[np.float64], ask: Ask, budget: int) -> Outcome:
    """Run the searches, each until its item passes as clear or the budget is spent.

    `scores` [n] are those of the items as they are. A proposal without an answer (NaN) is a query, and teaches nothing.
    """
    best = scores.astype(np.float64).copy()
    passed_at = np.zeros(len(searches), np.int64)
    queries = np.zeros(len(searches), np.int64)
    for query in range(budget):
        going = np.flatnonzero(passed_at == 0)
        if not len(going):
            break
        for first in range(0, len(going), _ROWS_TOGETHER):
            some = going[first : first + _ROWS_TOGETHER].tolist()
            found, decisions = ask(np.stack([searches[place].propose(query) for place in some]))
            for place, score, decision in zip(some, found.tolist(), decisions.tolist(), strict=True):
                queries[place] += 1
                lower = not math.isnan(score) and score < best[place]
                searches[place].learn(lower)
                best[place] = score if lower else best[place]
                if decision == _CLEAR:
                    passed_at[place] = query + 1
    return Outcome(passed_at, queries)


def result_of(
    outcome: Outcome, groups: NDArray[np.int64], budget: int, kind: Literal["image", "record"], caveat: str | None
) -> AttackResult:
    """Return the share of successes against the budget, with intervals that know groups."""
    method, norm = _METHODS[kind]
    passed = outcome.passed_at[outcome.passed_at > 0]
    checkpoints = [*(point for point in _CHECKPOINTS if point < budget), budget]
    points = tuple(
        AttackPoint(most, proportion((outcome.passed_at > 0) & (outcome.passed_at <= most), groups))
        for most in checkpoints
    )
    return AttackResult(
        method=method,
        norm=norm,
        budget=budget,
        attacked=len(outcome.passed_at),
        queries=int(outcome.queries.sum()),
        points=points if len(outcome.passed_at) else (),
        median_queries=float(np.median(passed)) if len(passed) else None,
        caveat=caveat,
    )


_METHODS = {
    "image": ("Square Attack on the prepared picture", f"at most {LEVELS} of 255 levels a pixel and channel"),
    "record": ("random search along fields, after SimBA", f"at most {MOST_FIELDS} fields"),
}


def _range(field: RecordField, values: Matrix) -> Range:
    low, high = records.bounds(field)
    whole = isinstance(field, IntegerField | CategoryField | BooleanField)
    if isinstance(field, CategoryField | BooleanField):
        return Range(low, high, whole)
    present = values[np.isfinite(values)].astype(np.float64)
    if not len(present):
        present = np.array([min(max(0.0, low), high)])
    return Range(max(low, float(present.min())), min(high, float(present.max())), whole)


def _same(row: Matrix, other: Matrix) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (row == other) | (np.isnan(row) & np.isnan(other))
    return same
