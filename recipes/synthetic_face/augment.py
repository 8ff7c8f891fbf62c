"""Random framing and re-encoding, so that neither says anything of the label.

Invariants:

- The same picture, strength and seed give the same pixels in every run.
- A view has the size of its picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)


@dataclass(frozen=True)
class Strength:
    """How far a view may differ: smallest window side, lowest JPEG quality, shares of views that a step is done to."""

    smallest_window: float
    lowest_quality: int
    rescaled_share: float
    blurred_share: float
    reencoded_share: float = 1.0


@dataclass(frozen=True)
class View:
    """One random view of every picture."""

    strength: Strength
    seed: int

    def of(self, images: NDArray[np.uint8], digests: Sequence[str]) -> NDArray[np.uint8]:
        """The view of pictures [n, height, width, 3]."""
        views = [augmented(*pair, self.strength, self.seed) for pair in zip(images, digests, strict=True)]
        return np.stack(views)


STRONG = Strength(smallest_window=0.72, lowest_quality=70, rescaled_share=1.0, blurred_share=0.3)
TRAINING = Strength(
    smallest_window=0.72, lowest_quality=70, rescaled_share=0.5, blurred_share=0.15, reencoded_share=0.5
)


def augmented(image: NDArray[np.uint8], digest: str, strength: Strength, seed: int) -> NDArray[np.uint8]:
    """One random view of an RGB picture: a window of it, mirrored or not, rescaled, blurred, encoded once more.

    The draw depends on the picture's digest and the seed alone.
    """
    random = np.random.default_rng([int(digest[:8], 16), seed])
    height, width = image.shape[:2]
    share = random.uniform(strength.smallest_window, 1.0) if random.random() < strength.rescaled_share else 1.0
    side = round(share * min(height, width))
    left = int(random.integers(0, width - side + 1))
    top = int(random.integers(0, height - side + 1))
    window = image[top : top + side, left : left + side]
    view = np.ascontiguousarray(window[:, ::-1] if random.random() < 0.5 else window)
    interpolation = _INTERPOLATIONS[int(random.integers(len(_INTERPOLATIONS)))]
    if view.shape[:2] != (height, width):
        view = np.asarray(cv2.resize(view, (width, height), interpolation=interpolation), np.uint8)
    if random.random() < strength.blurred_share:
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), float(random.uniform(0.3, 0.8))), np.uint8)
    if random.random() < strength.reencoded_share:
        return reencoded(view, int(random.integers(strength.lowest_quality, 98)))
    return view


def reencoded(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The RGB picture after one more JPEG of the given quality."""
    written, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise ValueError("OpenCV could not encode the picture as JPEG")
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
