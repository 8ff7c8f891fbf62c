"""Which side an item goes to: by the hash of its group, or by its day.

- A group is on one side, always.
- The same groups with the same seed go the same way on every machine, in whatever order they come.
- Sides by time keep the delay of labels between them, and say when they cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import DatasetRefused
from discern.evaluation.types_datasets import SplitByGroup, SplitByTime

_EPOCH = date(1970, 1, 1)
_LEAST_SHARE = 1e-6


def check_group_rule(rule: SplitByGroup) -> None:
    """Raise DatasetRefused for shares that are none."""
    total = sum(rule.shares.values())
    if len(rule.shares) < 2 or any(share <= 0 for share in rule.shares.values()) or abs(total - 1) > _LEAST_SHARE:
        raise DatasetRefused(
            f"The shares of the sides add up to {total:g}.", mend="Name two sides or more, adding up to 1."
        )


def check_time_rule(rule: SplitByTime) -> None:
    """Raise DatasetRefused for periods that overlap, or begin before the labels of the one before are known."""
    periods = sorted((_day(first), _day(last), name) for name, (first, last) in rule.periods.items())
    for first, last, name in periods:
        if last < first:
            raise DatasetRefused(f"The period {name} ends before it begins.", mend="Write FIRST..LAST.")
    for (_, ended, before), (begins, _, name) in pairwise(periods):
        if begins - ended <= rule.delay_days:
            raise DatasetRefused(
                f"{name} begins {begins - ended} days after {before} ends; labels are known {rule.delay_days} days on.",
                mend="Leave more days between them.",
            )


def sides_by_group(
    rule: SplitByGroup, groups: NDArray[np.int64], names: Sequence[str], labels: NDArray[np.int8]
) -> NDArray[np.object_]:
    """Return the side of each item; `groups` [n] are positions in `names`.

    Groups come in the order of SHA-256 of seed and name, and each goes to the side that lacks most of what it brings,
    so that the sides have their share of both classes as far as whole groups allow. Stratified grouped sampling of
    this greedy kind is what scikit-learn's StratifiedGroupKFold does, there in the order of sizes.
    """
    check_group_rule(rule)
    sides = sorted(rule.shares)
    counts = np.zeros((len(names), 2))
    np.add.at(counts, (groups, labels.astype(np.int64)), 1.0)
    totals = np.maximum(counts.sum(axis=0), 1.0)
    lacking = np.array([[rule.shares[side] for _ in (0, 1)] for side in sides])
    order = sorted(range(len(names)), key=lambda one: (_hash(rule.seed, names[one]), names[one]))
    side_of = np.zeros(len(names), np.int64)
    for one in order:
        brings = counts[one] / totals
        side = int(np.argmax(lacking @ brings))
        side_of[one] = side
        lacking[side] -= brings
    return np.array(sides, np.object_)[side_of[groups]]


def sides_by_time(rule: SplitByTime, days: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the side of each item by its day since 1970-01-01, None between the periods."""
    check_time_rule(rule)
    sides = np.full(len(days), None, np.object_)
    for name, (first, last) in rule.periods.items():
        sides[(days >= _day(first)) & (days <= _day(last))] = name
    return sides


def empty_sides(rule: SplitByGroup | SplitByTime, sides: NDArray[np.object_]) -> list[str]:
    """Return the sides that no item went to."""
    wanted: Mapping[str, object] = rule.shares if isinstance(rule, SplitByGroup) else rule.periods
    return sorted(set(wanted) - set(sides.tolist()))


def _day(text: str) -> int:
    try:
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError as error:
        raise DatasetRefused(f"{text[:100]!r} is no day.", mend="Write it like 2018-07-25.") from error


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
