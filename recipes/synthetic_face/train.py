"""Trains and measures `synthetic-face`: from raw pictures to a bundle folder.

    python -m recipes.synthetic_face.train --data DIR --out DIR [--seed 7] [--workers 2]

DIR/train/SOURCE/{authentic,synthetic} is learned from, DIR/test/* only measured. Writes screen.onnx, expert.onnx,
detector.yaml, CARD.md and reference.json.

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
import yaml

from recipes.synthetic_face import data, expert, report, screen, studies
from recipes.synthetic_face.augment import MILD, STRONG, View
from recipes.synthetic_face.cascade import choose
from recipes.synthetic_face.extract import Extractor
from recipes.synthetic_face.features import ForensicFeatures
from recipes.synthetic_face.made import Stage
from recipes.synthetic_face.measure import auc, calibration_error, fit_temperature, logit, quantiles, sigmoid
from recipes.synthetic_face.network import StageNetwork, export
from recipes.synthetic_face.served import ServedStages, largest_batch_difference, median_milliseconds
from recipes.synthetic_face.stack import Rows, StackSettings, balanced, cross_fitted, fit_stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recipes.synthetic_face.cascade import OperatingPoint
    from recipes.synthetic_face.data import Crops, Picture

    Floats = NDArray[np.float64]

VERSION = "1.0.0"
TRANSFER_PAIR = ("stylegan/synthetic", "stylegan/authentic")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train and measure the synthetic-face detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the bundle's files to")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="processes that measure pictures")
    options = parser.parse_args()
    started = time.perf_counter()

    def log(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    pictures = data.assign_sides(data.read_folder(options.data / "train"))
    log(f"{len(pictures)} pictures, {sum(p.fold < 0 for p in pictures)} held out, {data.manifest_digest(pictures)}")
    crops = data.cut(pictures, options.workers)
    log(f"cut; faces found in {crops.boxes[:, 0].mean():.3f}")
    development = [index for index, picture in enumerate(pictures) if picture.fold >= 0]
    matrices = _development_features(pictures, crops, development, options.seed, options.workers)
    log("development features")
    rows = [_rows([pictures[i] for i in development], *pair) for pair in zip(*matrices, strict=True)]

    stages = []
    for part, part_rows in zip((screen, expert), rows, strict=True):
        stages.append(_fit(part.NAME, part.FAMILIES, part.SETTINGS, part_rows, options.seed))
        log(f"{part.NAME}: fitted, temperature {stages[-1].temperature:.3f}")
    clean = rows[1].view == 0
    kind = rows[1].kind[clean]
    point = choose(stages[0].score, stages[1].score, kind, rows[1].label[clean], studies.pairs_of(kind.tolist()))
    log(f"operating point {point}")
    paths = [options.out / f"{stage.name}.onnx" for stage in stages]
    for stage, path in zip(stages, paths, strict=True):
        export(StageNetwork(stage.features, stage.fitted), path, data.SIDE)
    log("exported")

    figures = report.Figures()
    figures.development(
        pictures, crops, rows[1], stages[1].fitted, stages[1].features, stages[1].settings, data.FACE_MARGIN
    )
    log("studies")
    _measure(options, pictures, crops, stages, point, paths, figures)
    _operating_rows(figures, stages, point, rows[1])
    log("measured")
    _write(options, pictures, stages, point, paths, figures, rows[1], crops)
    log(f"wrote {', '.join(sorted(path.name for path in options.out.iterdir()))}")


def _development_features(
    pictures: list[Picture], crops: Crops, development: list[int], seed: int, workers: int
) -> list[list[NDArray[np.float32]]]:
    """For each view (clean, strong, mild) the feature matrices of the screen and of the expert."""
    views = (None, View(STRONG, seed), View(MILD, seed + 100))
    images, digests = crops.images[development], [pictures[index].digest for index in development]
    with Extractor(workers, data.SIDE, [screen.FAMILIES, expert.FAMILIES]) as extractor:
        return [extractor.features(images, digests, view) for view in views]


def _rows(pictures: list[Picture], *views: NDArray[np.float32]) -> Rows:
    kind = np.array([picture.kind for picture in pictures] * len(views))
    return Rows(
        features=np.concatenate(views),
        kind=kind,
        label=np.array([picture.label for picture in pictures] * len(views)),
        view=np.repeat(np.arange(len(views)), len(pictures)),
        fold=np.array([picture.fold for picture in pictures] * len(views)),
    )


def _fit(name: str, families: tuple[str, ...], settings: StackSettings, rows: Rows, seed: int) -> Stage:
    fitted = fit_stack(rows, settings, TRANSFER_PAIR, seed)
    clean = rows.view == 0
    stacked = cross_fitted(fitted.out_of_fold_columns, rows, settings)
    odds = fitted.with_transfer(stacked, fitted.out_of_fold_columns)[clean]
    weight = balanced(rows.kind[clean], rows.label[clean])
    temperature = fit_temperature(sigmoid(odds), rows.label[clean], weight)
    return Stage(name, settings, ForensicFeatures(data.SIDE, families), fitted, odds, round(temperature, 4))


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


def _operating_rows(figures: report.Figures, stages: list[Stage], point: OperatingPoint, rows: Rows) -> None:
    clean = rows.view == 0
    score = point.cascade(stages[0].score, stages[1].score)
    figures.operating("development, out of fold", rows.kind[clean], stages[0].score, score, point)
    for pair in studies.pairs_of(rows.kind.tolist()):
        kind = rows.kind[clean]
        values = [auc(s[kind == pair[0]], s[kind == pair[1]]) for s in (stages[0].score, stages[1].score, score)]
        figures.add_result("development, out of fold", pair, values)


def _write(
    options: argparse.Namespace,
    pictures: list[Picture],
    stages: list[Stage],
    point: OperatingPoint,
    paths: list[Path],
    figures: report.Figures,
    rows: Rows,
    crops: Crops,
) -> None:
    clean = rows.view == 0
    figures.found("train", pictures, crops.boxes)
    manifest = report.manifest(VERSION, options.seed, pictures, stages, point, paths)
    (options.out / "detector.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False, width=110), encoding="utf-8")
    (options.out / "reference.json").write_text(json.dumps(figures.reference, indent=1) + "\n", encoding="utf-8")
    error = calibration_error(stages[1].score, rows.label[clean])
    card = figures.card(VERSION, options.seed, pictures, stages, point, error)
    (options.out / "CARD.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()
