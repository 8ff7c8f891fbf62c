"""What a dataset cannot tell, said where it is frozen, and what no manifest may say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from discern.evaluation.rules_leakage import contradictions
from discern.evaluation.types import Item
from discern.evaluation.types_datasets import FrozenManifest

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


def numbered(names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of each name, int64 [n], and the names in the order of their numbers.

    Not `numpy.unique`, which gives every name the room of the longest and cuts off what is zero at its end.
    """
    known = sorted(set(names))
    numbers = {name: number for number, name in enumerate(known)}
    return np.fromiter((numbers[name] for name in names), np.int64, len(names)), known


def contradictions_of(manifest: FrozenManifest) -> Iterator[str]:
    """Yield what a manifest says that no freezing writes: whoever wrote it did so by hand."""
    if not manifest.name:
        yield "it has no name"
    if manifest.classes[0] == manifest.classes[1]:
        yield "the two classes have one name"
    if (manifest.table is None) != (manifest.kind != "record"):
        yield f"a dataset of {manifest.kind}s {'without' if manifest.table is None else 'with'} a table"
    if manifest.table is not None and not manifest.table.paths:
        yield "a table of no file"
    for item in manifest.items:
        yield from _contradictions_of_item(item)
    for left, right in pairwise(manifest.items):
        if left.id == right.id:
            yield f"two items are named twice: {left.id}"
        if left.id > right.id:
            yield "its items are not in the order of their names"


def _contradictions_of_item(item: Item) -> Iterator[str]:
    if not item.id:
        yield "an item has no name"
    if not item.group:
        yield f"{item.id} has no group"
    if item.crop is not None and min(item.crop[2:]) <= 0:
        yield f"{item.id} has a crop without an area"
    if min(item.frames or (), default=0) < 0:
        yield f"{item.id} names a frame before the first"


def contradictory(items: Sequence[Item]) -> Iterator[str]:
    """Yield that files with the same content have both labels, where some do."""
    pairs = contradictions([i.sha256 for i in items], [i.id for i in items], [i.label for i in items])
    if pairs:
        first, second = min(pairs)
        yield f"{len(pairs):,} contents have both labels, such as {first} and {second}: one of the two is wrong."
