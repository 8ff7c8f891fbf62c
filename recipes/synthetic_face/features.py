"""What the detector measures in a picture: a rich model of noise residuals, as a network that exports to ONNX.

Invariants:

- Every residual and its quantisation is integer arithmetic inside float32, so counts are exact: a batch gives what
  single rows give, and torch gives what ONNX Runtime gives.
- No parameter is learned here. Training and serving run this same module.
- Histograms are ScatterElements with reduction `add`.

Sources: co-occurrences of quantised residuals and their symmetrisation, Fridrich and Kodovsky, "Rich Models for
Steganalysis of Digital Images" (IEEE TIFS 7, 2012); their use against generated faces, Nataraj et al. (2019),
arXiv:1903.06836, and across colour bands, Barni et al. (2020), arXiv:2007.12909; spectra, Durall et al. (CVPR 2020),
arXiv:2003.01826; local binary patterns, Ojala et al. (PAMI 24, 2002).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Kernel = tuple[tuple[int, ...], ...]

_RESIDUALS: dict[str, tuple[Kernel, int]] = {
    "d1": (((-1, 1),), 1),
    "d2": (((1, -2, 1),), 2),
    "d3": (((1, -3, 3, -1),), 3),
    "s3": (((-1, 2, -1), (2, -4, 2), (-1, 2, -1)), 4),
    "s5": (((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)), 12),
}
_DIRECTED = ("d1", "d2", "d3")
_ISOTROPIC = ("s3", "s5")
_CHAIN: Kernel = ((1, 5, 25, 125),)
_PAIR: Kernel = ((1, 25),)
_NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
_SPECTRUM_POOL = 8
_RADIAL_BINS = 110
_RADIAL_WIDTH = 3


def symmetry(levels: int, order: int, *, reverse: bool) -> NDArray[np.float32]:
    """0/1 matrix [levels**order, classes] that adds up co-occurrence bins which sign change or reversal swaps."""
    classes: dict[tuple[int, ...], int] = {}
    member = np.zeros(levels**order, np.int64)
    for index in range(levels**order):
        code = tuple((index // levels**position) % levels for position in range(order))
        mirrored = tuple(levels - 1 - level for level in code)
        variants = [code, mirrored] + ([code[::-1], mirrored[::-1]] if reverse else [])
        member[index] = classes.setdefault(min(variants), len(classes))
    matrix = np.zeros((levels**order, len(classes)), np.float32)
    matrix[np.arange(levels**order), member] = 1
    return matrix


def cosine_basis(side: int) -> NDArray[np.float32]:
    """Orthonormal DCT-II matrix [side, side]."""
    frequency, position = np.arange(side)[:, None], np.arange(side)[None]
    basis = np.sqrt(2 / side) * np.cos(np.pi * (position + 0.5) * frequency / side)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def filtered(plane: Tensor, kernel: Kernel) -> Tensor:
    """Valid correlation of [n, height, width] with a small integer kernel.

    Exported it is one Conv; in torch a sum of shifted slices, which is faster there. Both are exact on integers.
    """
    if torch.compiler.is_exporting():
        weight = torch.tensor(kernel, dtype=torch.float32)[None, None]
        return functional.conv2d(plane.unsqueeze(1), weight).squeeze(1)
    rows, columns = len(kernel), len(kernel[0])
    height, width = plane.shape[1] - rows + 1, plane.shape[2] - columns + 1
    total = torch.zeros(plane.shape[0], height, width)
    for row, column in itertools.product(range(rows), range(columns)):
        if kernel[row][column] != 0:
            total.add_(plane[:, row : row + height, column : column + width], alpha=kernel[row][column])
    return total


def transposed(kernel: Kernel) -> Kernel:
    """The kernel for the other direction."""
    return tuple(zip(*kernel, strict=True))


def root_frequencies(codes: Sequence[Tensor], merge: Tensor) -> Tensor:
    """Square roots of the relative frequencies [n, classes] of integer codes given as several [n, ...] tensors.

    `merge` [bins, classes] adds up the bins of a class before the division, so that the sums are exact.
    """
    flat = torch.cat([code.flatten(1) for code in codes], 1).long()
    empty = torch.zeros(flat.shape[0], merge.shape[0])
    counts = empty.scatter_add(1, flat, torch.ones_like(flat, dtype=torch.float32))
    return torch.sqrt((counts @ merge) / flat.shape[1])


def chain(levels: Tensor, *, vertical: bool) -> Tensor:
    """Code of four neighbouring levels 0..4 along one direction, base 5."""
    return filtered(levels, transposed(_CHAIN) if vertical else _CHAIN)


def pair(levels: Tensor, *, vertical: bool) -> Tensor:
    """Code of two neighbouring joint levels 0..24 along one direction, base 25."""
    return filtered(levels, transposed(_PAIR) if vertical else _PAIR)


class Planes:
    """Colour planes of a batch and their quantised residuals, each computed once."""

    def __init__(self, named: dict[str, Tensor]) -> None:
        self._named = named
        self._levels: dict[tuple[str, str, bool, int, int], Tensor] = {}

    @classmethod
    def of(cls, rgb: Tensor) -> Planes:
        """Planes `r`, `g`, `b`, `y` (luma rounded to integers, BT.601 weights in 256ths), `u` = r - g, `v` = b - g."""
        red, green, blue = rgb[:, 0], rgb[:, 1], rgb[:, 2]
        luma = torch.floor((77 * red + 150 * green + 29 * blue) / 256 + 0.5)
        return cls({"r": red, "g": green, "b": blue, "y": luma, "u": red - green, "v": blue - green})

    def __getitem__(self, name: str) -> Tensor:
        return self._named[name]

    def halved(self, names: str) -> Planes:
        """Some planes averaged over 2 x 2 pixels and rounded."""
        return Planes({name: torch.round(functional.avg_pool2d(self[name], 2)) for name in names})

    def levels(self, plane: str, residual: str, *, vertical: bool = False, step: int = 1, top: int = 2) -> Tensor:
        """Levels 0..2 top of the residual over step times its order, rounded and clamped to +-top."""
        key = (plane, residual, vertical, step, top)
        if key not in self._levels:
            kernel, order = _RESIDUALS[residual]
            value = filtered(self[plane], transposed(kernel) if vertical else kernel)
            self._levels[key] = torch.clamp(torch.round(value / (step * order)), -top, top) + top
        return self._levels[key]


class ForensicFeatures(nn.Module):
    """uint8 [n, side, side, 3] RGB to float32 [n, features]; `families` picks what is measured.

    Families: `luma` and `chroma` (co-occurrences within a plane), `half` (the same at half size), `cross`
    (co-occurrences across planes), `spectrum`, `texture`, and `fast` (three luma chains at full and half size and one
    histogram across planes, for the screen). `blocks` names the slice of every part.
    """

    pairs: Tensor
    chains: Tensor
    triples: Tensor
    patterns: Tensor
    basis: Tensor
    ring: Tensor
    ring_counts: Tensor

    def __init__(self, side: int, families: Sequence[str]) -> None:
        super().__init__()
        self.side = side
        self._measures: dict[str, Callable[[Planes], dict[str, Tensor]]] = {
            "luma": self._luma,
            "chroma": self._chroma,
            "half": self._half,
            "cross": self._cross,
            "spectrum": self._spectrum,
            "texture": self._texture,
            "fast": self._fast,
        }
        self.families = tuple(families)
        self._constant("pairs", symmetry(5, 4, reverse=False))
        self._constant("chains", symmetry(5, 4, reverse=True))
        self._constant("triples", symmetry(7, 3, reverse=False))
        self._constant("patterns", np.eye(256, dtype=np.float32))
        if "spectrum" in families:
            self._constant("basis", cosine_basis(side))
            rows, columns = np.mgrid[:side, :side]
            ring = np.minimum(np.hypot(rows, columns) // _RADIAL_WIDTH, _RADIAL_BINS)
            self.register_buffer("ring", torch.from_numpy(ring.astype(np.int64).reshape(1, -1)), persistent=False)
            counts = np.bincount(ring.astype(np.int64).ravel(), minlength=_RADIAL_BINS + 1)
            self._constant("ring_counts", np.maximum(counts, 1).astype(np.float32))
        self.blocks: dict[str, slice] = {}
        start = 0
        with torch.inference_mode():
            for name, part in self.parts(torch.zeros(1, side, side, 3, dtype=torch.uint8)).items():
                self.blocks[name] = slice(start, start + part.shape[1])
                start += part.shape[1]
        self.count = start

    def forward(self, image: Tensor) -> Tensor:
        """All parts side by side."""
        return torch.cat(list(self.parts(image).values()), 1)

    def parts(self, image: Tensor) -> dict[str, Tensor]:
        """Each part of each family, named `family.part`."""
        whole = Planes.of(image.permute(0, 3, 1, 2).float())
        found: dict[str, Tensor] = {}
        for family in self.families:
            found.update({f"{family}.{name}": part for name, part in self._measures[family](whole).items()})
        return found

    def _constant(self, name: str, value: NDArray[np.float32]) -> None:
        self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def _luma(self, planes: Planes) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in _DIRECTED:
            found |= {f"{name}-{step}-along": self._directed(planes, "y", name, step) for step in (1, 2)}
            found[f"{name}-1-across"] = self._directed(planes, "y", name, across=True)
        return found | {f"{name}-1": self._isotropic(planes, "y", name) for name in _ISOTROPIC}

    def _chroma(self, planes: Planes) -> dict[str, Tensor]:
        return self._colour_planes(planes, across=True)

    def _half(self, planes: Planes) -> dict[str, Tensor]:
        halved = planes.halved("yuv")
        found = {f"y-{name}-along": self._directed(halved, "y", name) for name in _DIRECTED}
        found |= {f"y-{name}-across": self._directed(halved, "y", name, across=True) for name in _DIRECTED}
        found |= {f"y-{name}": self._isotropic(halved, "y", name) for name in _ISOTROPIC}
        return found | self._colour_planes(halved, across=False)

    def _colour_planes(self, planes: Planes, *, across: bool) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for plane in "uv":
            found |= {f"{plane}-{name}-along": self._directed(planes, plane, name) for name in _DIRECTED}
            found[f"{plane}-s3"] = self._isotropic(planes, plane, "s3")
            if across:
                found[f"{plane}-d2-across"] = self._directed(planes, plane, "d2", across=True)
        return found

    def _cross(self, planes: Planes) -> dict[str, Tensor]:
        found = {}
        for name in ("d1", "d2", "s3"):
            found[f"rgb-{name}"] = self._triples(planes, name)
            for first, second in ("yu", "yv", "uv"):
                found[f"{first}{second}-{name}"] = self._pairs(planes, first, second, name)
        return found

    def _spectrum(self, planes: Planes) -> dict[str, Tensor]:
        found = {}
        rows, columns = np.triu_indices(self.side // _SPECTRUM_POOL)
        upper = torch.from_numpy(rows * (self.side // _SPECTRUM_POOL) + columns)
        for name in "yuv":
            coefficients = self.basis @ planes[name] @ self.basis.T
            energy = torch.log(coefficients * coefficients + 0.1)
            pooled = functional.avg_pool2d(energy, _SPECTRUM_POOL)
            found[f"{name}-map"] = ((pooled + pooled.transpose(1, 2)) / 2).flatten(1)[:, upper]
            sums = torch.zeros(energy.shape[0], _RADIAL_BINS + 1)
            sums = sums.scatter_add(1, self.ring.expand(energy.shape[0], -1), energy.flatten(1))
            found[f"{name}-radial"] = (sums / self.ring_counts)[:, :_RADIAL_BINS]
        return found

    def _texture(self, planes: Planes) -> dict[str, Tensor]:
        luma = planes["y"]
        centre = luma[:, 1:-1, 1:-1]
        height, width = centre.shape[1], centre.shape[2]
        code = torch.zeros_like(centre)
        for bit, (row, column) in enumerate(_NEIGHBOURS):
            code = code + (luma[:, row : row + height, column : column + width] >= centre).float() * 2**bit
        return {"binary-patterns": root_frequencies([code], self.patterns)}

    def _fast(self, planes: Planes) -> dict[str, Tensor]:
        halved = planes.halved("y")
        found = {f"y-{name}-along": self._directed(planes, "y", name) for name in _DIRECTED}
        found |= {f"half-y-{name}-along": self._directed(halved, "y", name) for name in _DIRECTED}
        found["yu-d2"] = self._pairs(planes, "y", "u", "d2")
        return found

    def _directed(self, planes: Planes, plane: str, name: str, step: int = 1, *, across: bool = False) -> Tensor:
        horizontal = planes.levels(plane, name, step=step)
        vertical = planes.levels(plane, name, step=step, vertical=True)
        codes = [chain(horizontal, vertical=across), chain(vertical, vertical=not across)]
        return root_frequencies(codes, self.chains)

    def _isotropic(self, planes: Planes, plane: str, name: str) -> Tensor:
        levels = planes.levels(plane, name)
        return root_frequencies([chain(levels, vertical=False), chain(levels, vertical=True)], self.chains)

    def _pairs(self, planes: Planes, first: str, second: str, name: str) -> Tensor:
        codes = []
        for vertical in (False, True):
            upright = vertical and name in _DIRECTED
            joint = planes.levels(first, name, vertical=upright) + 5 * planes.levels(second, name, vertical=upright)
            codes.append(pair(joint, vertical=vertical))
        return root_frequencies(codes, self.pairs)

    def _triples(self, planes: Planes, name: str) -> Tensor:
        codes = []
        for vertical in (False, True) if name in _DIRECTED else (False,):
            red, green, blue = (planes.levels(plane, name, vertical=vertical, top=3) for plane in "rgb")
            codes.append(red + 7 * green + 49 * blue)
        return root_frequencies(codes, self.triples)
