"""The networks: gray windows of a part in, a probability out; and the graphs that take all three parts of a frame.

Invariants:

- Graph contract: input `image` uint8 [n, 48, 144, 3] RGB (right eye, left eye, mouth) with free n, output `probability`
  float32 [n], between 0.0001 and 0.9999.
- A window's brightness and contrast do not matter: each is brought to mean 0 and deviation 1, inside the graph.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from recipes.driver_drowsiness.data import SIDE

_LEAST = 1e-4
_WIDTHS = (16, 32, 64, 96)
# ITU-R BT.601
_LUMA = (0.299, 0.587, 0.114)


class PartNetwork(nn.Module):
    """Log odds [n] of gray windows float32 [n, 1, 48, 48] in 0..255."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 1
        for position, width in enumerate(_WIDTHS):
            blocks += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks.append(nn.MaxPool2d(2) if position < len(_WIDTHS) - 1 else nn.Identity())
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * before, 1))

    def forward(self, windows: Tensor) -> Tensor:
        """Log odds of the positive class."""
        centred = windows - windows.mean((2, 3), keepdim=True)
        deviation = torch.sqrt((centred * centred).mean((2, 3), keepdim=True) + 4.0)
        found = self.blocks(centred / deviation)
        pooled = torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1)
        return self.head(pooled).squeeze(1)


def gray(image: Tensor) -> Tensor:
    """Luma float32 [n, 1, height, width] of RGB uint8 [n, height, width, 3]."""
    return (image.float() @ torch.tensor(_LUMA, dtype=torch.float32)).unsqueeze(1)


class EyesGraph(nn.Module):
    """The mean of both eyes' probabilities of being closed."""

    def __init__(self, network: PartNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Probability float32 [n] of uint8 [n, 48, 144, 3]."""
        pixels = gray(image)
        right = torch.sigmoid(self.network(pixels[..., :SIDE]))
        left = torch.sigmoid(self.network(pixels[..., SIDE : 2 * SIDE]))
        return ((right + left) / 2).clamp(_LEAST, 1 - _LEAST)


class MouthGraph(nn.Module):
    """The probability that the mouth is open."""

    def __init__(self, network: PartNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Probability float32 [n] of uint8 [n, 48, 144, 3]."""
        pixels = gray(image)
        return torch.sigmoid(self.network(pixels[..., 2 * SIDE :])).clamp(_LEAST, 1 - _LEAST)


class FrameGraph(nn.Module):
    """The probability that the eyes are closed or the mouth is open, as if one said nothing of the other."""

    def forward(self, eyes: Tensor, mouth: Tensor) -> Tensor:
        """Probability float32 [n] of two scores float32 [n]."""
        return 1 - (1 - eyes) * (1 - mouth)


Part = Literal["eyes", "mouth"]


def graph_of(part: Part, network: PartNetwork) -> nn.Module:
    """The graph of a stage."""
    return EyesGraph(network) if part == "eyes" else MouthGraph(network)
