"""What a picture is like, in four numbers that cameras, light and compression change."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Of a larger picture every second pixel, or third, tells as much of light and colour.
_PIXELS = 128


class PictureStatistics(NamedTuple):
    """What a picture is like; all but `sharpness` lie in [0, 1].

    `brightness` is the mean of the grey picture, `contrast` its standard deviation, times two; `saturation` the mean of
    (largest - smallest) / largest of red, green and blue. `sharpness` is the standard deviation of the Laplacian of the
    grey picture, in levels of 255: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR
    2000.
    """

    brightness: float
    contrast: float
    sharpness: float
    saturation: float


def picture_statistics(rgb: NDArray[np.uint8]) -> PictureStatistics:
    """Return what a picture, uint8 [height, width, 3], is like."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    step = max(1, min(rgb.shape[:2]) // _PIXELS)
    # OpenCV's largest of three planes takes a tenth of NumPy's along an axis of three.
    red, green, blue = cv2.split(np.ascontiguousarray(rgb[::step, ::step]))
    largest, smallest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    saturation = float(((largest - smallest) / np.maximum(largest.astype(np.float32), 1)).mean())
    return PictureStatistics(float(mean[0, 0]) / 255, 2 * float(deviation[0, 0]) / 255, float(edges[0, 0]), saturation)
