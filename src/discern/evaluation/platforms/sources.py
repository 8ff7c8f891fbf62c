"""Labelled inputs as a detector takes them, from a frozen dataset.

- The same dataset, seed and limits give the same rows in the same order, and none that is for calibration is measured.
- An item is there once: of equal files in one class the first is taken, and equal files in both classes are refused.
- What cannot be judged is left out, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.errors import CallerError
from discern.evaluation.datasets import changed
from discern.evaluation.platforms.types import LabelledRows
from discern.evaluation.ports import RowsPiece
from discern.evaluation.sources import locator_for
from discern.evaluation.types_datasets import Change
from discern.inputs.prepare import prepare_media
from discern.inputs.spec import ImageSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.manifest import Manifest
    from discern.evaluation.sources import FrozenSource
    from discern.inputs.faces import FaceLocator
    from discern.inputs.types import InputLimits

SEED = 0
MEASURED = 100
"""So many items a table of platforms is measured on."""

CALIBRATION_SHARE = 5
CALIBRATION_MOST = 64
_SPARE = 2

Drawn = tuple[int, "NDArray[Any]"]


def labelled_rows(
    source: FrozenSource, manifest: Manifest, limits: InputLimits, locator: FaceLocator, *, most: int, seed: int = SEED
) -> LabelledRows:
    """Return at most `most` items of each class; a fifth of them, but at most 64, are for calibration.

    Raises CallerError where a class has fewer than two items that can be judged, or labels contradict each other.
    """
    left_out: Counter[str] = Counter()
    labels = source.examples.labels
    chooser = np.random.Generator(np.random.PCG64(seed))
    orders = [chooser.permutation(np.flatnonzero(labels == label)).tolist() for label in (0, 1)]
    if isinstance(manifest.input, ImageSpec):
        _refuse_contradictions(source)
        found = [_first(_pictures(source, order, manifest.input, limits, locator, left_out), most) for order in orders]
    else:
        found = _records(source, orders, most, left_out)
    for name, drawn in zip((manifest.classes.negative, manifest.classes.positive), found, strict=True):
        if len(drawn) < 2:
            raise CallerError(
                f"{source.name}: {len(drawn)} items of the class {name} can be judged, and two are needed.",
                mend="Give items of both classes.",
            )
    held = [calibrating(len(drawn)) for drawn in found]
    negative, positive = found
    taken = [*negative[: held[0]], *positive[: held[1]], *negative[held[0] :], *positive[held[1] :]]
    places = np.array([row for row, _ in taken])
    return LabelledRows(
        source.name,
        source.manifest_sha256,
        seed,
        np.stack([content for _, content in taken]),
        labels[places],
        sum(held),
        tuple(f"{count} items {why} and were left out" for why, count in sorted(left_out.items())),
        source.examples.groups[places],
    )


def calibrating(items: int) -> int:
    """Return how many of the items of a class are for calibration: a fifth, at least one and at most 64."""
    return min(CALIBRATION_MOST, max(1, items // CALIBRATION_SHARE))


def _first(drawn: Iterator[Drawn], most: int) -> list[Drawn]:
    return [one for one, _ in zip(drawn, range(most), strict=False)]


def _refuse_contradictions(source: FrozenSource) -> None:
    label_of: dict[str, int] = {}
    for item in source.items:
        if label_of.setdefault(item.sha256, item.label) != item.label:
            raise CallerError(
                f"{item.id} stands in both classes, so the labels contradict each other.",
                mend="Remove one of the two, and freeze the dataset anew.",
            )


def _pictures(
    source: FrozenSource,
    order: list[int],
    spec: ImageSpec,
    limits: InputLimits,
    locator: FaceLocator,
    left_out: Counter[str],
) -> Iterator[Drawn]:
    seen: set[str] = set()
    for row in order:
        item = source.items[row]
        if item.sha256 in seen:
            left_out["are there twice"] += 1
            continue
        seen.add(item.sha256)
        try:
            prepared = prepare_media(source.content(row), spec, None, limits, locator_for(item, locator))
        except CallerError as error:
            left_out[f"cannot be judged ({error.code})"] += 1
            continue
        if prepared.facts.sha256 != item.sha256:
            raise changed([Change(item.id, "changed")])
        yield row, prepared.tensor[0]


def _records(source: FrozenSource, orders: list[list[int]], most: int, left_out: Counter[str]) -> list[list[Drawn]]:
    """Return the first records of each order that can be judged, out of twice as many as are wanted."""
    wanted = np.sort(np.array([row for order in orders for row in order[: _SPARE * most]], np.int64))
    held: dict[int, NDArray[Any]] = {}
    for piece in source.pieces(0):
        if not isinstance(piece, RowsPiece):
            continue
        for row in wanted[(wanted >= piece.start) & (wanted < piece.start + piece.rows)].tolist():
            if row - piece.start in piece.refused:
                left_out["cannot be judged (invalid_record)"] += 1
            else:
                held[row] = piece.matrix[row - piece.start]
    return [[(row, held[row]) for row in order if row in held][:most] for order in orders]
