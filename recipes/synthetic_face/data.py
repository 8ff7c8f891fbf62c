"""Pictures of faces on disk become crops with a source, a label, and a side of the split.

Invariants:

- A picture's side depends on the digests of its near-duplicate group alone, never on the order of files or a seed.
- Near-duplicates (equal 64-bit difference hash, or at most `NEAR_BITS` bits apart within one source) share a side.
- Crops are cut by the code that production runs, so a score here is the score there.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

import cv2
import numpy as np

from discern.inputs.faces import CascadeFaceLocator, crop_square

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 256
FACE_MARGIN = 0.6
FOLDS = 3
HELD_OUT_PERCENT = 15
NEAR_BITS = 3
_CLASSES = {"authentic": 0, "synthetic": 1}


@dataclass(frozen=True)
class Picture:
    """One file: its source (a folder name), label (1 synthetic), SHA-256, and side of the split.

    `fold` is 0..2 on the development side and -1 for what is held out.
    """

    path: Path
    source: str
    label: int
    digest: str
    fold: int = -1

    @property
    def kind(self) -> str:
        """Source and class in one word, for example `stylegan/authentic`."""
        return f"{self.source}/{'synthetic' if self.label else 'authentic'}"


@dataclass(frozen=True)
class Crops:
    """Crops as uint8 [n, 256, 256, 3] RGB, and the face boxes they were cut round.

    `boxes` is float32 [n, 4]: found (0 or 1), box side over picture side, box centre x and y over picture side.
    """

    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]


def read_folder(root: Path) -> list[Picture]:
    """Pictures of `root/SOURCE/{authentic,synthetic}/*`, sorted by path, not split."""
    pictures = []
    for path in sorted(root.glob("*/*/*")):
        if path.is_file() and path.parent.name in _CLASSES:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            pictures.append(Picture(path, path.parent.parent.name, _CLASSES[path.parent.name], digest))
    if not pictures:
        raise FileNotFoundError(f"no pictures under {root}/SOURCE/{{authentic,synthetic}}")
    return pictures


def assign_sides(pictures: list[Picture]) -> list[Picture]:
    """The same pictures with `fold` set: 15 % held out (-1), the rest in three folds, by digest of their group."""
    groups = near_duplicate_groups(pictures)
    smallest: dict[int, str] = {}
    for picture, group in zip(pictures, groups, strict=True):
        smallest[group] = min(smallest.get(group, picture.digest), picture.digest)
    sided = []
    for picture, group in zip(pictures, groups, strict=True):
        draw = int(hashlib.sha256(f"side:{smallest[group]}".encode()).hexdigest(), 16)
        held_out = draw % 100 < HELD_OUT_PERCENT
        sided.append(replace(picture, fold=-1 if held_out else (draw // 100) % FOLDS))
    return sided


def near_duplicate_groups(pictures: list[Picture]) -> list[int]:
    """Group number of each picture; two pictures whose difference hashes are close share one (union-find)."""
    hashes = np.array([_difference_hash(picture.path) for picture in pictures], np.uint64)
    parent = list(range(len(pictures)))

    def root(member: int) -> int:
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    for index in range(len(pictures)):
        distance = np.bitwise_count(hashes[index + 1 :] ^ hashes[index])
        for other in np.flatnonzero(distance <= NEAR_BITS):
            parent[root(index + 1 + int(other))] = root(index)
    return [root(index) for index in range(len(pictures))]


def manifest_digest(pictures: list[Picture]) -> str:
    """SHA-256 over the sorted lines `digest side kind`: names the data and the split without holding either."""
    lines = sorted(f"{picture.digest} {picture.fold} {picture.kind}\n" for picture in pictures)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cut(pictures: list[Picture], workers: int) -> Crops:
    """Decode and crop every picture as production does: face, margin 0.6, 256 x 256."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_cut_one, [picture.path for picture in pictures], chunksize=32))
    return Crops(np.stack([image for image, _ in results]), np.array([box for _, box in results], np.float32))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The file as RGB uint8 [height, width, 3]."""
    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError(f"{path} is not a readable picture")
    return np.ascontiguousarray(np.asarray(decoded, np.uint8)[..., ::-1])


@cache
def _locator() -> CascadeFaceLocator:
    return CascadeFaceLocator()


def _cut_one(path: Path) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    cv2.setNumThreads(1)
    rgb = read_rgb(path)
    box = _locator().locate(rgb)
    crop = crop_square(rgb, box, margin=FACE_MARGIN, width=SIDE, height=SIDE)
    if box is None:
        return crop, (0.0, 0.0, 0.5, 0.5)
    side = min(rgb.shape[:2])
    centre = (box.left + box.width / 2) / side, (box.top + box.height / 2) / side
    return crop, (1.0, max(box.width, box.height) / side, *centre)


def _difference_hash(path: Path) -> int:
    gray = cv2.resize(cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.asarray(gray[:, 1:] > gray[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)
