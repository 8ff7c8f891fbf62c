"""Telling pictures that are nearly the same: 64 bits that noise, recompression and small changes leave as they are."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def sketch_of(rgb: NDArray[np.uint8]) -> int:
    """Return the difference hash of a picture, uint8 [height, width, 3]: a bit for each of 8 x 8 neighbouring pairs.

    Source: N. Krawetz, "Kind of Like That" (2013): the picture is shrunk to 9 x 8 grey pixels, and a bit tells whether
    a pixel is brighter than the one to its right.
    """
    small = cv2.resize(rgb, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int32).sum(axis=2)
    bits = small[:, :-1] > small[:, 1:]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
