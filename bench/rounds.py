"""Measures taken in turns, because a machine's speed drifts: A B B A, and the median of the rounds' ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_TAIL = 0.025


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

    def interval(self, ours: str, theirs: str, of: Callable[[T], float]) -> tuple[float, float]:
        """Return a 95 % interval of the median ratio: the order statistics that the sign test leaves.

        Fewer than six rounds give the smallest and the largest, which is less than 95 %.
        """
        pairs = zip(self.results[ours], self.results[theirs], strict=True)
        ratios = sorted(of(one) / of(other) for one, other in pairs)
        count, left, tail = len(ratios), 0, 0.5 ** len(ratios)
        while tail + math.comb(count, left + 1) * 0.5**count <= _TAIL:
            left += 1
            tail += math.comb(count, left) * 0.5**count
        return ratios[left], ratios[-1 - left]


def in_turns(measures: Mapping[str, Callable[[], T]], rounds: int) -> Rounds[T]:
    """Take each measure once a round, in an order that turns round from round to round."""
    results: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            results[name].append(measures[name]())
    return Rounds(results)
