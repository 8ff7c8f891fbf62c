"""The nouns of platforms.

- A variant's evidence in the manifest holds nothing that depends on the machine: times stay in `GateResult`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Point = Literal["flag_from", "review_from"]
POINTS: tuple[Point, ...] = ("review_from", "flag_from")
"""The thresholds, in the order of the decisions they part."""

Gain = Literal["size", "speed", "size and speed"]
Watch = Callable[[str], None]
"""Told in a few words what is being done."""

TOGETHER = "together"
"""What a result says in place of a stage's name when it is of all stages that a variant replaces."""


class Difference(msgspec.Struct, frozen=True):
    """What a variant changes at a threshold for the items of one class.

    `worse` of `items` were on the right side of the threshold and are not any more, `better` the other way round;
    `value` is (worse - better) / items and `upper` the end of its one-sided interval, all that the data rule out being
    above it. `holds` says whether that is below the margin.
    """

    point: Point
    label: str
    items: int
    worse: int
    better: int
    value: float
    upper: float
    holds: bool


class GateResult(msgspec.Struct, frozen=True):
    """What the gate made of a variant of one stage, or of all that it replaces (`stage` is then `together`).

    `reason` says in a sentence why it was accepted or refused, with the figure. `note` says what the conversion did.
    `size` and `size_before` are in bytes; `speed_up` is how many times faster one row is on this machine.
    """

    variant: str
    stage: str
    accepted: bool
    reason: str
    note: str = ""
    gain: Gain | None = None
    size: int | None = None
    size_before: int | None = None
    speed_up: float | None = None
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Labelled inputs as a detector takes them.

    `rows` is [n, ...] in the bundle's input type, `labels` int8 [n]. `calibration` is how many rows, the first ones,
    ranges are taken from; nothing is measured on them. `groups` int64 [n] says which rows are not independent, None
    where all are. `caveats` say what was left out.
    """

    name: str
    sha256: str
    seed: int
    rows: NDArray[Any]
    labels: NDArray[np.int8]
    calibration: int
    caveats: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None
