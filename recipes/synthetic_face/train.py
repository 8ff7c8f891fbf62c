"""Trains and measures `synthetic-face`: from raw pictures to a bundle folder.

    python -m recipes.synthetic_face.train --data DIR --out DIR [--work DIR] [--seed 7] [--workers 2]

DIR/train/SOURCE/{authentic,synthetic} is learned from, DIR/test/* only measured. Writes screen.onnx, expert.onnx,
detector.yaml, CARD.md and reference.json. Weights of finished backbones stay in the work folder: a run that was
stopped goes on from them, and one with other pictures, settings or seed needs another folder.

Invariants:

- The same data and seed give the same bundle on the same machine and library versions.
- Test sets are read after thresholds, temperatures and exits are fixed.
- Every figure of the card is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml

from recipes.synthetic_face import data, finetune, report, scoring, studies
from recipes.synthetic_face.augment import STRONG, View
from recipes.synthetic_face.cascade import choose
from recipes.synthetic_face.made import Stage
from recipes.synthetic_face.measure import (
    auc,
    balanced,
    calibration_error,
    fit_temperature,
    logit,
    quantiles,
    sigmoid,
)
from recipes.synthetic_face.network import KindOdds, KindScores, StageNetwork, as_stored, export
from recipes.synthetic_face.served import ServedStages, largest_batch_difference, median_milliseconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recipes.synthetic_face.cascade import OperatingPoint
    from recipes.synthetic_face.data import Crops, Picture

    Floats = NDArray[np.float64]

VERSION = "1.1.0"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train and measure the synthetic-face detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the bundle's files to")
    parser.add_argument("--work", type=Path, help="folder for the weights of backbones; default: work beside --out")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="processes that cut and score pictures")
    options = parser.parse_args()
    options.work = options.work or options.out.with_name(f"{options.out.name}-work")
    started = time.perf_counter()

    def log(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.workers)
    pictures = data.assign_sides(data.read_folder(options.data / "train"))
    kinds = sorted({picture.kind for picture in pictures})
    log(f"{len(pictures)} pictures, {sum(p.fold < 0 for p in pictures)} held out, {data.manifest_digest(pictures)}")
    crops = data.cut(pictures, options.workers)
    log(f"cut; faces found in {crops.boxes[:, 0].mean():.3f}")
    weights = finetune.train(finetune.fold_lessons(crops.images, pictures, kinds, options.seed), options.work)
    log("backbones")
    figures = report.Figures()
    stages = _stages(weights, pictures, crops, kinds, figures)
    members = [picture for picture in pictures if picture.fold >= 0]
    kind = np.array([member.kind for member in members])
    label = np.array([member.label for member in members])
    point = choose(stages[0].score, stages[1].score, kind, label, studies.pairs_of(kind.tolist()))
    log(f"temperatures {stages[0].temperature:.3f}, {stages[1].temperature:.3f}, operating point {point}")
    paths = [options.out / f"{stage.name}.onnx" for stage in stages]
    for stage, path in zip(stages, paths, strict=True):
        export(stage.network, path, data.SIDE)
    log("exported")
    figures.carry_over(scoring.carry_over(crops.images, pictures, options.seed, options.work))
    figures.framing(pictures, crops, data.FACE_MARGIN)
    log("studies")

    _measure(options, pictures, crops, stages, point, paths, figures)
    _development_rows(figures, stages, point, kind)
    log("measured")
    _write(options, pictures, stages, point, paths, figures, label, crops)
    log(f"wrote {', '.join(sorted(path.name for path in options.out.iterdir()))}")


def _stages(
    weights: list[Path], pictures: list[Picture], crops: Crops, kinds: list[str], figures: report.Figures
) -> list[Stage]:
    """The screen is the first backbone; the expert all of them, each on the picture and on its mirror image.

    Out of fold there is one backbone a picture, so the expert that is served is better than the one measured there.
    """
    development = np.array([index for index, picture in enumerate(pictures) if picture.fold >= 0])
    fold = np.array([pictures[index].fold for index in development])
    kind = np.array([pictures[index].kind for index in development])
    label = np.array([pictures[index].label for index in development])
    images = crops.images[development]
    plain, mirrored = scoring.out_of_fold(weights, len(kinds), images, fold)
    figures.mirrored(studies.mirror_table(plain, mirrored, kind, kinds), kind)
    backbones = [as_stored(finetune.loaded(path, len(kinds))) for path in weights]
    odds = KindOdds(kinds)
    stages = []
    for name, scores, used in (("screen", plain, backbones[:1]), ("expert", mirrored, backbones)):
        values = studies.odds_of(scores, kinds)
        temperature = fit_temperature(sigmoid(values), label, balanced(kind, label))
        network = StageNetwork(KindScores(used, mirrored=name == "expert"), odds)
        stages.append(Stage(name, network, values, round(temperature, 4)))
    return stages


def _measure(
    options: argparse.Namespace,
    pictures: list[Picture],
    crops: Crops,
    stages: list[Stage],
    point: OperatingPoint,
    paths: list[Path],
    figures: report.Figures,
) -> None:
    """Scores of the exported files on the held-out side and on every test set."""
    held_out = [index for index, picture in enumerate(pictures) if picture.fold < 0]
    sides = [pictures[index] for index in held_out]
    temperatures = np.array([stage.temperature for stage in stages])
    with ServedStages(paths, options.workers) as served:

        def scores(images: NDArray[np.uint8], members: list[Picture], view: View | None = None) -> Floats:
            raw = served.probabilities(images, [member.digest for member in members], view)
            calibrated = sigmoid(logit(raw) / temperatures)
            return np.column_stack([calibrated, point.cascade(calibrated[:, 0], calibrated[:, 1])])

        held_scores = scores(crops.images[held_out], sides)
        figures.held_out("held-out", sides, held_scores, point)
        figures.robust(sides, scores(crops.images[held_out], sides, View(STRONG, options.seed + 1)))
        for folder in sorted((options.data / "test").iterdir()):
            members = [one for one in data.read_folder(options.data / "test") if one.source == folder.name]
            test_crops = data.cut(members, options.workers)
            figures.held_out("test", members, scores(test_crops.images, members), point)
            figures.found(f"test/{folder.name}", members, test_crops.boxes)
    figures.reference = _reference(held_scores[:, 2], np.array([side.label for side in sides]))
    sample = crops.images[held_out[:24]]
    figures.costs = {"batch_difference": f"{max(largest_batch_difference(path, sample[:5]) for path in paths):.1e}"}
    for stage, path in zip(stages, paths, strict=True):
        figures.costs[f"{stage.name}_milliseconds"] = f"{median_milliseconds(path, sample):.1f}"
        figures.costs[f"{stage.name}_megabytes"] = f"{path.stat().st_size / 1e6:.1f}"


def _reference(score: Floats, label: NDArray[np.int64]) -> dict[str, object]:
    classes = {"authentic": score[label == 0], "synthetic": score[label == 1]}
    return {
        "scores": {"quantiles": quantiles(score)},
        "count": len(score),
        "positive_rate": round(float(label.mean()), 6),
        "classes": {name: {"quantiles": quantiles(part), "count": len(part)} for name, part in classes.items()},
    }


def _development_rows(
    figures: report.Figures, stages: list[Stage], point: OperatingPoint, kind: NDArray[np.str_]
) -> None:
    score = point.cascade(stages[0].score, stages[1].score)
    figures.operating("development, out of fold", kind, stages[0].score, score, point)
    for pair in studies.pairs_of(kind.tolist()):
        values = [auc(s[kind == pair[0]], s[kind == pair[1]]) for s in (stages[0].score, stages[1].score, score)]
        figures.add_result("development, out of fold", pair, values)


def _write(
    options: argparse.Namespace,
    pictures: list[Picture],
    stages: list[Stage],
    point: OperatingPoint,
    paths: list[Path],
    figures: report.Figures,
    label: NDArray[np.int64],
    crops: Crops,
) -> None:
    figures.found("train", pictures, crops.boxes)
    manifest = report.manifest(VERSION, options.seed, pictures, stages, point, paths)
    (options.out / "detector.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False, width=110), encoding="utf-8")
    (options.out / "reference.json").write_text(json.dumps(figures.reference, indent=1) + "\n", encoding="utf-8")
    error = calibration_error(stages[1].score, label)
    card = figures.card(VERSION, options.seed, pictures, stages, point, error)
    (options.out / "CARD.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()
