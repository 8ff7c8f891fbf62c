"""Measures taken in turns, because a machine's speed drifts: A B B A, and the median of the rounds' ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """What each measure gave, round by round."""

    results: Mapping[str, list[T]]

    def median(self, name: str, of: Callable[[T], float]) -> float:
        """Return the median of a measure."""
        return statistics.median(of(result) for result in self.results[name])

    def ratio(self, ours: str, theirs: str, of: Callable[[T], float]) -> float:
        """Return the median of the rounds' ratios."""
        pairs = zip(self.results[ours], self.results[theirs], strict=True)
        return statistics.median(of(one) / of(other) for one, other in pairs)

    def spread(self, ours: str, theirs: str, of: Callable[[T], float]) -> tuple[float, float]:
        """Return the smallest and the largest of the rounds' ratios."""
        pairs = zip(self.results[ours], self.results[theirs], strict=True)
        ratios = [of(one) / of(other) for one, other in pairs]
        return min(ratios), max(ratios)


def in_turns(measures: Mapping[str, Callable[[], T]], rounds: int) -> Rounds[T]:
    """Take each measure once a round, in an order that turns round from round to round."""
    results: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            results[name].append(measures[name]())
    return Rounds(results)
