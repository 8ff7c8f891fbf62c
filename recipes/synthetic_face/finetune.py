"""Fine-tunes one backbone a fold, each on the pictures of the other folds.

Every backbone learns to name the kind of a picture (source and class) and, through the sums over the kinds of each
class, to tell synthetic from authentic. It sees random windows of random views, so framing and format say little.

Invariants:

- A backbone never sees a picture of its own fold, nor one that is held out.
- The same pictures and seed give the same weights on the same machine and library versions: one thread a backbone.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional

from recipes.synthetic_face.augment import TRAINING, augmented
from recipes.synthetic_face.backbone import Backbone, installed_weights, pretrained
from recipes.synthetic_face.measure import balanced

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from recipes.synthetic_face.data import Picture

EPOCHS = 8
SHORT_EPOCHS = 3
WINDOW = 160
BATCH = 32
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
SMOOTHING = 0.02
_WARM_UP = 0.15


@dataclass(frozen=True)
class Lesson:
    """What one backbone is trained on: pictures, their kinds as indices, labels, weights, digests."""

    images: NDArray[np.uint8]
    kind: NDArray[np.int64]
    synthetic: NDArray[np.bool_]
    weight: NDArray[np.float64]
    digests: tuple[str, ...]
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """Twelve letters that another lesson does not have: pictures, kinds, seed or schedule differ."""
        settings = (self.seed, self.epochs, WINDOW, BATCH, LEARNING_RATE, WEIGHT_DECAY, SMOOTHING, TRAINING)
        told = repr((settings, self.digests, self.kind.tolist(), self.synthetic.tolist()))
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def fold_lessons(images: NDArray[np.uint8], pictures: list[Picture], kinds: list[str], seed: int) -> list[Lesson]:
    """For each fold the pictures of the others."""
    fold = np.array([picture.fold for picture in pictures])
    return [
        _lesson(images, pictures, kinds, np.flatnonzero((fold >= 0) & (fold != number)), seed + number, EPOCHS)
        for number in range(fold.max() + 1)
    ]


def generator_lessons(images: NDArray[np.uint8], pictures: list[Picture], seed: int) -> dict[str, Lesson]:
    """For each generator all folds but the first, without a picture of it; for `SHORT_EPOCHS`."""
    fold = np.array([picture.fold for picture in pictures])
    kind = np.array([picture.kind for picture in pictures])
    kinds = sorted(set(kind.tolist()))
    lessons = {}
    for generator in (one for one in kinds if one.endswith("/synthetic")):
        inside = np.flatnonzero((fold > 0) & (kind != generator))
        kept = [one for one in kinds if one != generator]
        lessons[generator] = _lesson(images, pictures, kept, inside, seed, SHORT_EPOCHS)
    return lessons


def train(lessons: list[Lesson], folder: Path) -> list[Path]:
    """A file of weights for each lesson, named by it. One that is there already is taken as it is: training resumes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{lesson.name}.pt" for lesson in lessons]
    with ProcessPoolExecutor(len(lessons), mp_context=get_context("spawn")) as pool:
        missing = [(lesson, path) for lesson, path in zip(lessons, paths, strict=True) if not path.exists()]
        for one in [pool.submit(_train, *pair) for pair in missing]:
            one.result()
    return paths


def loaded(weights: Path, kinds: int) -> Backbone:
    """A trained backbone."""
    backbone = Backbone(kinds)
    backbone.load_state_dict(torch.load(weights, weights_only=True))
    return backbone


def class_odds(scores: Tensor, synthetic: Tensor) -> Tensor:
    """Log odds [n] of synthetic: log of the summed exponentials over the kinds of either class."""
    return torch.logsumexp(scores[:, synthetic], 1) - torch.logsumexp(scores[:, ~synthetic], 1)


def _lesson(
    images: NDArray[np.uint8],
    pictures: list[Picture],
    kinds: list[str],
    inside: NDArray[np.int64],
    seed: int,
    epochs: int,
) -> Lesson:
    names = np.array([pictures[index].kind for index in inside])
    label = np.array([pictures[index].label for index in inside])
    return Lesson(
        images=images[inside],
        kind=np.array([kinds.index(name) for name in names.tolist()]),
        synthetic=np.array([kind.endswith("/synthetic") for kind in kinds]),
        weight=balanced(names, label),
        digests=tuple(pictures[index].digest for index in inside),
        seed=seed,
        epochs=epochs,
    )


def _train(lesson: Lesson, path: Path) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(lesson.seed)
    random = np.random.default_rng(lesson.seed)
    backbone = pretrained(len(lesson.synthetic), installed_weights()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone.train()
    optimizer = torch.optim.AdamW(backbone.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(lesson.kind) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, lesson.epochs * steps, pct_start=_WARM_UP)
    synthetic = torch.from_numpy(lesson.synthetic)
    for epoch in range(lesson.epochs):
        order = random.permutation(len(lesson.kind))
        total = 0.0
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            with torch.autocast("cpu", torch.bfloat16):
                scores = backbone(_windows(lesson, rows, epoch, random))
            loss = _loss(scores.float(), lesson, rows, synthetic)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"{path.stem}: epoch {epoch + 1} of {lesson.epochs}, loss {total / steps:.4f}", flush=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save(backbone.state_dict(), unfinished)
    unfinished.rename(path)


def _loss(scores: Tensor, lesson: Lesson, rows: NDArray[np.int64], synthetic: Tensor) -> Tensor:
    kind = torch.from_numpy(lesson.kind[rows])
    label = synthetic[kind].float()
    naming = functional.cross_entropy(scores, kind, reduction="none", label_smoothing=SMOOTHING)
    telling = functional.binary_cross_entropy_with_logits(class_odds(scores, synthetic), label, reduction="none")
    weight = torch.from_numpy(lesson.weight[rows]).float()
    return (weight * (naming + telling)).mean()


def _windows(lesson: Lesson, rows: NDArray[np.int64], epoch: int, random: np.random.Generator) -> Tensor:
    """A random window of a random view of each picture."""
    windows = []
    for row in rows:
        view = augmented(lesson.images[row], lesson.digests[row], TRAINING, lesson.seed * 1000 + epoch)
        left, top = random.integers(0, view.shape[1] - WINDOW + 1), random.integers(0, view.shape[0] - WINDOW + 1)
        windows.append(view[top : top + WINDOW, left : left + WINDOW])
    return _pixels(np.stack(windows))


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return pixels.contiguous(memory_format=torch.channels_last)
