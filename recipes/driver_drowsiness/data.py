"""The pictures: eyes by their given split, mouths and frames by groups of our own.

Invariants:

- No frame of a person group stands in two folds.
- Near-identical mouths share a fold: copies are found by difference hash, as in `synthetic_face`.
- Frames are cut by `discern.inputs`, as production cuts them, and a little wider for learning.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from discern.inputs.faces import Box, CascadeFaceLocator, FaceParts, cut_parts
from recipes.synthetic_face.data import Picture as FacePicture
from recipes.synthetic_face.data import near_duplicate_groups, read_rgb

SIDE = 48
"""Pixels of a part in the detector's input."""

WIDE = 96
"""Pixels of a picture that windows are drawn from in training."""

CONTEXT = 1.5
"""How much wider than in production a frame's mouth is cut for training."""

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a part. `positive` is closed for an eye, open for a mouth, a yawn for a frame.

    `fold` is 0 to 4, or -1 where the split is given. `group` holds together what may not be parted.
    """

    path: Path
    positive: bool
    group: str
    fold: int
    digest: str


def eyes(root: Path, side: str) -> list[Sample]:
    """The eyes of `train`, `valid` or `test`."""
    found = []
    for name, positive in (("Closed", True), ("Open", False)):
        found += [_sample(path, positive) for path in sorted((root / "eyes" / side / name).glob("*.jpg"))]
    return _any(found, root / "eyes" / side)


def mouths(root: Path) -> list[Sample]:
    """All mouths; copies of one picture share a fold."""
    found = []
    for name, positive in (("open", True), ("closed", False)):
        found += [_sample(path, positive) for path in sorted((root / "mouths" / name).glob("*.jpg"))]
    pictures = [FacePicture(one.path, "mouths", int(one.positive), one.digest) for one in found]
    groups = near_duplicate_groups(pictures)
    named: dict[int, str] = {}
    for one, group in zip(found, groups, strict=True):
        named[group] = min(named.get(group, one.digest), one.digest)
    sided = [
        replace(one, group=named[group], fold=_fold(named[group])) for one, group in zip(found, groups, strict=True)
    ]
    return _any(sided, root / "mouths")


def frames(root: Path) -> list[Sample]:
    """All frames with their person groups, the groups dealt to folds from the largest on."""
    with (root / "frames" / "groups.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["approx_person_group"]] = sizes.get(row["approx_person_group"], 0) + 1
    held = [0] * FOLDS
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fold_of[group] = held.index(min(held))
        held[fold_of[group]] += sizes[group]
    found = []
    for row in rows:
        path = root / "frames" / row["class"] / row["file"]
        group = row["approx_person_group"]
        found.append(replace(_sample(path, row["class"] == "yawn"), group=group, fold=fold_of[group]))
    return _any(found, root / "frames")


def whole(samples: Sequence[Sample]) -> NDArray[np.uint8]:
    """The pictures as squares of `WIDE` pixels; where one is not square, the edge of its shorter sides is repeated."""
    return np.stack([_square(read_rgb(sample.path)) for sample in samples])


@dataclass(frozen=True, slots=True)
class FrameParts:
    """Frames with a face: `known` are their positions, `tiles` what production cuts.

    `right_eyes`, `left_eyes` and `mouths` are cut wider, uint8 [n, 96, 96, 3].
    """

    known: NDArray[np.intp]
    tiles: NDArray[np.uint8]
    right_eyes: NDArray[np.uint8]
    left_eyes: NDArray[np.uint8]
    mouths: NDArray[np.uint8]


def parts(samples: Sequence[Sample]) -> FrameParts:
    """Eyes and mouths of the frames in which a face is found."""
    locator = CascadeFaceLocator()
    known, tiles, wide = [], [], []
    for position, sample in enumerate(samples):
        rgb = read_rgb(sample.path)
        found = locator.locate_parts(rgb)
        if found is None:
            continue
        known.append(position)
        tiles.append(cut_parts(rgb, found, side=SIDE))
        boxes = [_widened(box) for box in (found.right_eye, found.left_eye, found.mouth)]
        wide.append(cut_parts(rgb, FaceParts(found.face, *boxes), side=WIDE))
    right, left, mouths = np.split(np.stack(wide), 3, axis=2)
    return FrameParts(np.array(known, np.intp), np.stack(tiles), right, left, mouths)


def manifest_digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over the sorted lines `digest fold label`: names the data and the split without holding either."""
    lines = sorted(f"{one.digest} {one.fold} {int(one.positive)}\n" for one in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _widened(box: Box) -> Box:
    side = round(box.width * CONTEXT)
    return Box(box.left - (side - box.width) // 2, box.top - (side - box.height) // 2, side, side)


def _sample(path: Path, positive: bool) -> Sample:
    return Sample(path, positive, path.name, -1, hashlib.sha256(path.read_bytes()).hexdigest())


def _fold(group: str) -> int:
    return int(hashlib.sha256(f"fold:{group}".encode()).hexdigest(), 16) % FOLDS


def _square(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = rgb.shape[:2]
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    squared = cv2.copyMakeBorder(rgb, top, side - rows - top, left, side - columns - left, cv2.BORDER_REPLICATE)
    way = cv2.INTER_AREA if side > WIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(squared, (WIDE, WIDE), interpolation=way), np.uint8)


def _any(samples: list[Sample], folder: Path) -> list[Sample]:
    if not samples or len({sample.positive for sample in samples}) != 2:
        raise FileNotFoundError(f"{folder} holds no pictures of both classes")
    return samples
