"""What happens to the pixels of a picture on its way: one function a condition.

- A function takes uint8 [height, width, 3] RGB and its parameters, and returns pixels of the same size; what it was
  given stays as it was. What is drawn comes from the generator it is given.
- Sums are over whole numbers where a library would round otherwise on another processor.
- Lengths are shares of the shorter side, so that a strength means the same for small and large pictures.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

_MOIRE_DEGREES = (20.0, 70.0)
_FULL_WELL = 4000.0


def blur(rgb: Pixels, _: np.random.Generator, *, sigma: float) -> Pixels:
    """Return the picture out of focus: a Gaussian of `sigma`, a share of the shorter side."""
    pixels = sigma * _shorter(rgb)
    return cast("Pixels", cv2.GaussianBlur(rgb, (0, 0), sigmaX=max(pixels, 0.1), borderType=cv2.BORDER_REPLICATE))


def motion_blur(rgb: Pixels, generator: np.random.Generator, *, length: float) -> Pixels:
    """Return the mean of the picture along a line of `length`, a share of the shorter side, in a drawn direction."""
    angle = float(generator.uniform(0.0, math.pi))
    reach = length * _shorter(rgb) / 2
    steps = max(3, 2 * math.ceil(reach) + 1)
    offsets = {
        (round(along * math.sin(angle)), round(along * math.cos(angle))) for along in np.linspace(-reach, reach, steps)
    }
    height, width = rgb.shape[:2]
    margin = math.ceil(reach)
    wide = cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    total = np.zeros(rgb.shape, np.uint32)
    for down, right in sorted(offsets):
        total += wide[margin + down : margin + down + height, margin + right : margin + right + width].astype(np.uint32)
    return ((total + len(offsets) // 2) // len(offsets)).astype(np.uint8)


def noise(rgb: Pixels, generator: np.random.Generator, *, deviation: float) -> Pixels:
    """Return the picture with Gaussian noise of a standard deviation, in levels of 255, in every channel."""
    return _levels(rgb + deviation * generator.standard_normal(rgb.shape, np.float32))


def low_light(rgb: Pixels, generator: np.random.Generator, *, exposure: float) -> Pixels:
    """Return the picture taken with a share `exposure` of the light, and the noise that goes with it.

    In linear light (IEC 61966-2-1), with shot noise of a full well of 4,000 electrons and read noise of 8 of them
    (Foi et al., IEEE Transactions on Image Processing 17, 2008: variance linear in the signal), then made brighter
    again by half of what was lost, as a camera's gain does.
    """
    light = _LINEAR[rgb] * np.float32(exposure)
    electrons = light * np.float32(_FULL_WELL)
    spread = np.sqrt(electrons + np.float32(64.0))
    seen = (electrons + spread * generator.standard_normal(rgb.shape, np.float32)) / np.float32(_FULL_WELL)
    gained = np.clip(seen / np.float32(math.sqrt(exposure)), 0.0, 1.0)
    return _encode(gained)


def contrast(rgb: Pixels, _: np.random.Generator, *, factor: float) -> Pixels:
    """Return the picture with its distances from the mean level shrunk to `factor` of what they were."""
    mean = np.float32(rgb.mean(dtype=np.float64))
    return _levels(mean + np.float32(factor) * (rgb.astype(np.float32) - mean))


def occlusion(rgb: Pixels, generator: np.random.Generator, *, share: float) -> Pixels:
    """Return the picture with a grey box over a `share` of its area, at a drawn place."""
    height, width = rgb.shape[:2]
    tall, broad = max(1, round(height * math.sqrt(share))), max(1, round(width * math.sqrt(share)))
    top, left = int(generator.integers(0, height - tall + 1)), int(generator.integers(0, width - broad + 1))
    covered = rgb.copy()
    covered[top : top + tall, left : left + broad] = 127
    return covered


def resolution(rgb: Pixels, _: np.random.Generator, *, scale: float) -> Pixels:
    """Return the picture made smaller to `scale` of its sides, and as large as before again."""
    height, width = rgb.shape[:2]
    return resized(resized(rgb, max(1, round(width * scale)), max(1, round(height * scale))), width, height)


def photographed_screen(
    rgb: Pixels, generator: np.random.Generator, *, scale: float, gamma: float, moire: float
) -> Pixels:
    """Return what a screen shows of the picture: resampled, with another gamma, and a grid of `moire` levels.

    The grid stands for the beat between the pixels of the screen and those of what takes the picture.
    """
    height, width = rgb.shape[:2]
    shown = resolution(rgb, generator, scale=scale)
    curve = np.array([round(255 * math.pow(level / 255, gamma)) for level in range(256)], np.uint8)
    angle = math.radians(float(generator.uniform(*_MOIRE_DEGREES)))
    period = max(3.0, 0.03 * _shorter(rgb))
    down, right = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (right * np.float32(math.cos(angle)) + down * np.float32(math.sin(angle))) * np.float32(
        2 * math.pi / period
    )
    return _levels(curve[shown] + np.float32(moire) * np.sin(along)[..., None])


def bordered(rgb: Pixels, share: float) -> tuple[Pixels, int]:
    """Return the picture in the frame of a window: bars above and below, margins beside; and how wide they are."""
    margin = max(1, round(share * _shorter(rgb)))
    framed = cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(32, 33, 36))
    return cast("Pixels", framed), margin


def resized(rgb: Pixels, width: int, height: int) -> Pixels:
    """Return the picture in another size: by areas where it shrinks, cubic where it grows."""
    if rgb.shape[:2] == (height, width):
        return rgb
    shrinks = width * height < rgb.shape[0] * rgb.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cast("Pixels", cv2.resize(rgb, (width, height), interpolation=how))


def peak_signal_to_noise(rgb: Pixels, other: Pixels) -> float:
    """Return how near two pictures of one size are, in dB; infinite where they are the same."""
    error = float(np.mean((rgb.astype(np.float64) - other.astype(np.float64)) ** 2))
    return math.inf if not error else 10 * math.log10(255**2 / error)


def _shorter(rgb: Pixels) -> int:
    height, width = rgb.shape[:2]
    return int(min(height, width))


def _levels(values: NDArray[np.floating]) -> Pixels:
    whole: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole


def _linear(level: int) -> float:
    value = level / 255
    return value / 12.92 if value <= 0.04045 else math.pow((value + 0.055) / 1.055, 2.4)


_LINEAR = np.array([_linear(level) for level in range(256)], np.float32)
_BETWEEN = ((_LINEAR[1:] + _LINEAR[:-1]) / 2).astype(np.float32)


def _encode(light: NDArray[np.float32]) -> Pixels:
    """Return linear light as the nearest levels."""
    return np.searchsorted(_BETWEEN, light).astype(np.uint8)
