"""What a dataset cannot tell, said where it is frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from discern.evaluation.rules_leakage import contradictions
from discern.evaluation.types import Item

FEW_ITEMS = 30
FEW_GROUPS = 10


def caveats_of(labels: NDArray[np.int8], classes: tuple[str, str], groups: int) -> Iterator[str]:
    """Yield what so many items of each class, in so many groups, do not allow."""
    for label, name in enumerate(classes):
        count = int((labels == label).sum())
        if count == 0:
            yield f"There is no item of the class {name}: nothing that compares the classes can be told."
        elif count < FEW_ITEMS:
            yield f"There are only {count} items of the class {name}: intervals are wide, and rare errors are not seen."
    if groups < FEW_GROUPS:
        yield f"There are only {groups} groups: intervals over groups cannot be trusted."


def contradictory(items: Sequence[Item]) -> Iterator[str]:
    """Yield that files with the same content have both labels, where some do."""
    pairs = contradictions([i.sha256 for i in items], [i.id for i in items], [i.label for i in items])
    if pairs:
        first, second = min(pairs)
        yield f"{len(pairs):,} contents have both labels, such as {first} and {second}: one of the two is wrong."
