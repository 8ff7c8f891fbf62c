"""Windows of a picture: where an eye finder might have put its frame, and what a camera makes of what is in it.

Invariants:

- Windows are drawn from a generator that is handed in; the same generator state gives the same windows.
- Where a window reaches beyond the picture, the picture's edge is repeated.
- A measured framing (`framed`) changes place and size alone; training windows (`drawn`) also light, detail and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from recipes.driver_drowsiness.data import CONTEXT, SIDE

_LEAST_DETAIL = 10


@dataclass(frozen=True, slots=True)
class Framing:
    """How far windows stray: their side in sides of the picture, their centre off it in sides of the window."""

    smallest: float
    largest: float
    shift: float
    turn_degrees: float = 0.0


EYES = Framing(0.7, 1.5, 0.28, 15)
MOUTHS = Framing(0.85, 1.7, 0.2, 15)
FRAME_EYES = Framing(0.7 / CONTEXT, 1.3 / CONTEXT, 0.2, 10)
FRAMES = Framing(0.75 / CONTEXT, 1.3 / CONTEXT, 0.15, 10)
AS_OTHERS_FRAME = Framing(0.75, 1.25, 0.25)
"""Shifted and scaled by up to a quarter: what figures are given for."""


def framed(pictures: Tensor, framing: Framing, generator: Generator, side: int = SIDE) -> Tensor:
    """A random window of each picture: float32 [n, c, side, side] in 0..255 of float32 [n, c, height, width]."""
    count = len(pictures)
    low, high = math.log(framing.smallest), math.log(framing.largest)
    size = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    across, down = (framing.shift * size * (4 * torch.rand(count, generator=generator) - 2) for _ in range(2))
    turn = math.radians(framing.turn_degrees) * (2 * torch.rand(count, generator=generator) - 1)
    cosine, sine = torch.cos(turn) * size, torch.sin(turn) * size
    where = torch.stack([cosine, -sine, across, sine, cosine, down], dim=1).view(count, 2, 3)
    # Twice the side first, then averaged, so that a large window is not sampled in points.
    grid = functional.affine_grid(where, [count, 3, 2 * side, 2 * side], align_corners=False)
    fine = functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return functional.avg_pool2d(fine, 2)


def drawn(pictures: Tensor, framing: Framing, generator: Generator, *, glasses: float = 0.0) -> Tensor:
    """Training windows: framed, mirrored at random, in another light, with less detail, and noisy.

    A share of `glasses` looks through drawn spectacles.
    """
    windows = framed(pictures, framing, generator)
    if glasses:
        windows = torch.where(
            torch.rand(len(windows), 1, 1, 1, generator=generator) < glasses, _through(windows, generator), windows
        )
    count = len(windows)

    def draw(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).view(count, 1, 1, 1)

    windows = torch.where(draw(0, 1) < 0.5, windows.flip(3), windows)
    detail = int(torch.randint(_LEAST_DETAIL, 2 * SIDE, (1,), generator=generator))
    if detail < SIDE:
        small = functional.interpolate(windows, (detail, detail), mode="bilinear", antialias=True)
        windows = functional.interpolate(small, (SIDE, SIDE), mode="bilinear")
    slope = torch.linspace(-1, 1, SIDE)
    shade = 1 + draw(-0.3, 0.3) * slope.view(1, 1, 1, -1) + draw(-0.3, 0.3) * slope.view(1, 1, -1, 1)
    windows = 255 * (windows.clamp(0, 255) / 255) ** torch.exp(draw(-0.5, 0.5)) * shade * draw(0.4, 1.15)
    noise = torch.randn(windows.shape, generator=generator) * draw(0, 10)
    return (windows + noise).clamp(0, 255)


def _through(windows: Tensor, generator: Generator) -> Tensor:
    """The windows through spectacles: a rim, round or square, dark or light, and a reflection on the lens."""
    count = len(windows)

    def draw(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=generator)).view(count, 1, 1, 1)

    steps = torch.linspace(-1, 1, SIDE)
    across = (steps.view(1, 1, 1, -1) - draw(-0.4, 0.4)) / draw(0.6, 1.2)
    down = (steps.view(1, 1, -1, 1) - draw(-0.3, 0.3)) / draw(0.4, 0.9)
    roundness = draw(2, 6)
    radius = across.abs() ** roundness + down.abs() ** roundness
    rim = ((radius ** (1 / roundness) - 1).abs() < draw(0.03, 0.14)).float() * draw(0.6, 1.0)
    lens = (radius < 1).float()
    tint = lens * draw(0, 0.35)
    glare = lens * draw(0, 0.8) * torch.exp(-(((across * draw(-1, 1) + down - draw(-0.8, 0.8)) / draw(0.1, 0.5)) ** 2))
    windows = windows * (1 - tint)
    windows = windows * (1 - glare) + 235 * glare
    return windows * (1 - rim) + draw(5, 200) * rim
