"""Trains and measures `driver-drowsiness`: from pictures to a bundle folder.

    python -m recipes.driver_drowsiness.train --data DIR --out DIR [--seed 7] [--workers 2]

DIR holds eyes/{train,valid,test}/{Closed,Open}, mouths/{open,closed} and frames/{yawn,no-yawn} with frames/groups.csv.
Writes eyes.onnx, mouth.onnx, frame.onnx, detector.yaml, CARD.md and reference.json.

Invariants:

- The same data and seed give the same bundle on the same machine and library versions.
- The eye test split is read after every setting is fixed.
- Frames are scored by networks that saw nobody of their person group; the shipped ones saw all.
- Shipped stages are measured as exported files; those that leave a fold out only score it.
- Each network is fitted by one process on one thread: how many run at once changes nothing.
- Every figure of the card is printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import yaml

from discern.detectors.calibration import fit_temperature
from recipes.driver_drowsiness import data, fit, framing, report, speed
from recipes.driver_drowsiness.export import Served, export_frame, export_part, tiled
from recipes.driver_drowsiness.manifest import manifest, reference
from recipes.driver_drowsiness.network import graph_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from recipes.driver_drowsiness.network import Part

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

EPOCHS = {"eyes": 20, "mouth": 25}
WINDOWS = 1024
GLASSES = 0.4
"""Share of the eyes that are shown through drawn spectacles."""

DRAWS = 10
"""Framings of each eye that its accuracy is measured on."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train and measure the driver-drowsiness detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder with eyes/, mouths/ and frames/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the bundle's files to")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="processes that fit networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    started = time.perf_counter()

    def log(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    material = _Material(options.data)
    log(f"faces found in {len(material.known)} of {len(material.frames)} frames")
    figures = report.Figures(options.seed)
    scores = _fit_all(material, options.out, options.seed, options.workers, log)
    eyes, mouth, temperatures = _measure_out_of_fold(material, scores, options.out, figures)
    export_frame(options.out / "frame.onnx")
    _measure_eyes(material, options.out / "eyes.onnx", temperatures["eyes"], figures)
    score = 1 - (1 - eyes) * (1 - mouth)
    figures.frame(eyes, score)
    log("measured")
    _write(options.out, "reference.json", json.dumps(reference(score, material.yawning), indent=1) + "\n")
    _write(options.out, "detector.yaml", _yaml(manifest(temperatures, figures.evidence())))
    _write(options.out, "CARD.md", "draft\n")
    with tempfile.TemporaryDirectory() as scratch:
        detector = speed.detector_of(options.out, Path(scratch) / "bundle")
        steps = speed.milliseconds([sample.path.read_bytes() for sample in material.frames[::4]], detector)
        window = speed.window_milliseconds(detector, seed=options.seed)
    sizes = {path.name: path.stat().st_size for path in sorted(options.out.glob("*.onnx"))}
    card = figures.card(temperatures, steps, window, sizes)
    _write(options.out, "CARD.md", card)
    log(f"wrote {', '.join(sorted(path.name for path in options.out.iterdir()))}")
    print(card)


class _Material:
    """What is learned from and measured on, cut once."""

    def __init__(self, root: Path) -> None:
        self.eyes = {side: data.eyes(root, side) for side in ("train", "valid", "test")}
        self.mouths, self.frames = data.mouths(root), data.frames(root)
        self.parts = data.parts(self.frames)
        self.known = [self.frames[at] for at in self.parts.known]
        self.yawning = _positive(self.known)
        self.close = data.whole(self.mouths)
        self.frame_fold, self.mouth_fold = (np.array([one.fold for one in part]) for part in (self.known, self.mouths))

    def eye_sources(self, kept: Flags) -> list[fit.Source]:
        """The eyes of the training split, and those of drivers who do not yawn, which are taken for open."""
        awake = kept & ~self.yawning
        drivers = np.concatenate([self.parts.right_eyes[awake], self.parts.left_eyes[awake]])
        train = self.eyes["train"]
        return [
            fit.Source(data.whole(train), _positive(train), framing.EYES, GLASSES),
            fit.Source(drivers, np.zeros(len(drivers), np.bool_), framing.FRAME_EYES),
        ]

    def mouth_sources(self, frames: Flags, mouths: Flags) -> list[fit.Source]:
        """Mouths close up, and those of drivers."""
        return [
            fit.Source(self.close[mouths], _positive(self.mouths)[mouths], framing.MOUTHS),
            fit.Source(self.parts.mouths[frames], self.yawning[frames], framing.FRAMES),
        ]

    def fold_of_eyes(self, fold: int) -> Flags:
        """Frames that a fold of the eye stage leaves out: there are two, for frames are few of what it learns from."""
        return self.frame_fold % 2 == fold


@dataclass(frozen=True, slots=True)
class _Task:
    """A network to fit: to be written to `path`, or else to score `unseen` tiles."""

    part: Part
    sources: list[fit.Source]
    seed: int
    path: Path | None
    unseen: NDArray[np.uint8]


def _fit_all(
    material: _Material, out: Path, seed: int, workers: int, log: Callable[[str], None]
) -> dict[Part, list[Floats]]:
    """Fit and export both stages on everything, and return for each fold the raw scores without it.

    Those of the mouth are of the fold's frames, then of its mouths close up.
    """
    tiles, close = material.parts.tiles, tiled(_shrunk(material.close))
    everything, every_mouth = np.ones(len(material.known), np.bool_), np.ones(len(material.mouths), np.bool_)
    tasks = [
        _Task("eyes", material.eye_sources(everything), seed, out / "eyes.onnx", tiles[:0]),
        _Task("mouth", material.mouth_sources(everything, every_mouth), seed, out / "mouth.onnx", tiles[:0]),
    ]
    for fold in range(2):
        left_out = material.fold_of_eyes(fold)
        tasks.append(_Task("eyes", material.eye_sources(~left_out), seed, None, tiles[left_out]))
    for fold in range(data.FOLDS):
        frames, mouths = material.frame_fold == fold, material.mouth_fold == fold
        unseen = np.concatenate([tiles[frames], close[mouths]])
        tasks.append(_Task("mouth", material.mouth_sources(~frames, ~mouths), seed, None, unseen))
    scores: dict[Part, list[Floats]] = {"eyes": [], "mouth": []}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for number, (task, found) in enumerate(zip(tasks, pool.map(_fit, tasks), strict=True), 1):
            log(f"{task.part}: {number} of {len(tasks)} networks")
            if task.path is None:
                scores[task.part].append(found)
    return scores


def _fit(task: _Task) -> Floats:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    network = fit.fitted(task.sources, windows=WINDOWS, epochs=EPOCHS[task.part], seed=task.seed)
    graph = graph_of(task.part, network)
    if task.path is not None:
        export_part(graph, task.path)
    with torch.inference_mode():
        parts = [graph(part) for part in torch.from_numpy(task.unseen).split(256)]
    return torch.cat(parts).double().numpy()


def _measure_out_of_fold(
    material: _Material, scores: dict[Part, list[Floats]], out: Path, figures: report.Figures
) -> tuple[Floats, Floats, dict[str, float]]:
    """Scores of the eyes and the mouths of frames whose people the network had not seen, and the temperatures."""
    eyes, mouth, near = np.zeros(len(material.known)), np.zeros(len(material.known)), np.zeros(len(material.mouths))
    for fold, found in enumerate(scores["eyes"]):
        eyes[material.fold_of_eyes(fold)] = found
    for fold, found in enumerate(scores["mouth"]):
        frames = material.frame_fold == fold
        mouth[frames], near[material.mouth_fold == fold] = np.split(found, [int(frames.sum())])
    valid, positive = _framings(material.eyes["valid"], figures.seed), _positive(material.eyes["valid"])
    temperatures = {
        "eyes": _temperature(Served(out / "eyes.onnx").scores(valid), np.tile(positive, DRAWS)),
        "mouth": _temperature(
            np.concatenate([mouth, near]), np.concatenate([material.yawning, _positive(material.mouths)])
        ),
    }
    (eyes,) = report.calibrated(temperatures["eyes"], eyes)
    mouth, near = report.calibrated(temperatures["mouth"], mouth, near)
    figures.mouths(material.frames, material.known, material.mouths, mouth, near)
    return eyes, mouth, temperatures


def _measure_eyes(material: _Material, path: Path, temperature: float, figures: report.Figures) -> None:
    """The eye stage on the splits it did not learn from."""
    figures.eyes_learned(material.eyes["train"], material.eyes["valid"])
    served = Served(path, temperature)
    for side in ("valid", "test"):
        samples = material.eyes[side]
        plain = served.scores(tiled(_shrunk(data.whole(samples))))
        otherwise = served.scores(_framings(samples, figures.seed + 1)).reshape(DRAWS, len(samples)).T
        figures.eyes(side, samples, plain, otherwise)
    test = material.eyes["test"]
    for detail in report.DETAILS:
        small = [cv2.resize(one, (detail, detail), interpolation=cv2.INTER_AREA) for one in data.whole(test)]
        grown = [cv2.resize(one, (data.SIDE, data.SIDE), interpolation=cv2.INTER_LINEAR) for one in small]
        figures.detail(detail, test, served.scores(tiled(np.stack(grown).astype(np.uint8))))


def _positive(samples: list[data.Sample]) -> Flags:
    return np.array([sample.positive for sample in samples])


def _temperature(probability: Floats, positive: Flags) -> float:
    return round(min(10.0, max(0.3, fit_temperature(probability, positive))), 4)


def _framings(samples: list[data.Sample], seed: int) -> NDArray[np.uint8]:
    """Eyes framed as others would frame them: all of them, `DRAWS` times over."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.from_numpy(data.whole(samples).transpose(0, 3, 1, 2).copy()).float()
    drawn = [framing.framed(pictures, framing.AS_OTHERS_FRAME, generator) for _ in range(DRAWS)]
    windows = torch.cat(drawn).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return tiled(windows)


def _shrunk(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (data.SIDE, data.SIDE)
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in pictures]).astype(np.uint8)


def _yaml(content: object) -> str:
    return str(yaml.safe_dump(content, sort_keys=False, width=110))


def _write(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
