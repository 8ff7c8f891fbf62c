"""The nouns of this layer: what comes in, the limits it meets, what goes on to a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from discern.core.verdict import InputFacts


@dataclass(frozen=True, slots=True)
class Held:
    """Content of `size` bytes that lies somewhere else.

    `open` gives it as a binary file that is read in pieces, with `seek`.
    """

    open: Callable[[], BinaryIO]
    size: int


MediaContent = bytes | Path | Held
"""Image or video content: the bytes themselves, or a local file or another that is read in pieces."""

Scalar = str | int | float | bool | None
Record = dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class InputLimits:
    """Bounds checked before anything is decoded. Bytes as sent, pixels as width x height, seconds of play time."""

    image_bytes: int = 25_000_000
    image_pixels: int = 50_000_000
    video_bytes: int = 200_000_000
    video_pixels: int = 8_847_360  # one 4096 x 2160 frame
    video_seconds: float = 600.0
    record_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input as the first stage takes it, and what is kept of it.

    `tensor` is uint8 [rows, height, width, 3] RGB, or float32 [1, fields]. `seconds` holds each row's time in a clip
    and is empty for images and records; `unknown_seconds` those of a clip's frames without a face, which have no row.
    `sketch` tells an image that is nearly the same: see `inputs.sketches`.
    """

    tensor: NDArray[np.uint8] | NDArray[np.float32]
    facts: InputFacts
    seconds: tuple[float, ...] = ()
    sketch: int | None = None
    unknown_seconds: tuple[float, ...] = ()
