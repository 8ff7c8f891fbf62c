"""From an ONNX file and held-out answers to a bundle: the steps that every example ends with.

Invariants:
- Held-out rows are scored by the very ONNX bytes that go into the bundle, run as the server runs them.
- Temperature and thresholds come from held-out rows, never from rows that the model was trained on.
- Nothing is overwritten: the bundle's folder must not exist.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.detectors.bundle import Bundle
from discern.detectors.calibration import calibrate, fit_temperature
from discern.detectors.manifest_file import dump_manifest
from discern.detectors.packing import pack
from discern.detectors.runtime import StageModel

MODEL_FILE = "model.onnx"
MAX_FALSE_POSITIVE_RATE = 0.01
REVIEW_RECALL = 0.9


@dataclass(frozen=True)
class Description:
    """What the bundle says of itself: its name, task, classes, and the `input` section of its manifest."""

    name: str
    task: str
    classes: Mapping[str, str]
    input: Mapping[str, Any]
    trained_with: str


@dataclass(frozen=True)
class HeldOut:
    """Rows the model was not trained on: inputs [N, ...] as the graph takes them, labels int64 [N], 1 the positive."""

    rows: NDArray[Any]
    label: NDArray[np.int64]


def score_rows(model: bytes, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Probability [N] of the positive class that the ONNX file `model`, of one input, gives for `rows`."""
    stage = StageModel("model", model)
    (tensor,) = stage.inputs
    return stage.run({tensor.name: rows})[stage.probability].astype(np.float64)


def area_under_curve(score: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """Chance that a random positive scores above a random negative, ties counting half."""
    positive, negative = score[label == 1], score[label == 0]
    above = (positive[:, None] > negative[None, :]).mean()
    return float(above + (positive[:, None] == negative[None, :]).mean() / 2)


def choose_thresholds(score: NDArray[np.float64], label: NDArray[np.int64]) -> tuple[float, float]:
    """(`review_from`, `flag_from`) on calibrated scores.

    `flag_from` keeps false positives within MAX_FALSE_POSITIVE_RATE; `review_from` lets REVIEW_RECALL of the positives
    reach a person, unless they are flagged.
    """
    negative = np.sort(score[label == 0])[::-1]
    flag_from = float(np.nextafter(negative[int(MAX_FALSE_POSITIVE_RATE * len(negative))], 1.0))
    positive = np.sort(score[label == 1])[::-1]
    review_from = float(positive[int(np.ceil(REVIEW_RECALL * len(positive))) - 1])
    return min(review_from, flag_from), flag_from


def _card(about: Description, figures: Mapping[str, float]) -> str:
    lines = [
        f"# {about.name}",
        "",
        about.task,
        "",
        f"Trained with {about.trained_with} on made-up data: an example only.",
    ]
    lines += ["", "| held-out figure | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def make_bundle(out: Path, about: Description, model: bytes, held_out: HeldOut) -> Bundle:
    """Calibrate, choose thresholds, write manifest, card and reference, and pack all of it into the folder `out`.

    Raises BundleRefused when the model or the manifest is not fit for a bundle, OperatorError when `out` exists.
    """
    if out.exists():
        sys.exit(f"{out} is there already; name another folder with --out.")
    raw = score_rows(model, held_out.rows)
    temperature = round(fit_temperature(raw, held_out.label), 4)
    score = calibrate(raw, temperature)
    review_from, flag_from = choose_thresholds(score, held_out.label)
    flagged, seen = score >= flag_from, score >= review_from
    figures = {
        "area under the ROC curve": area_under_curve(score, held_out.label),
        "positives flagged": float(flagged[held_out.label == 1].mean()),
        "negatives flagged": float(flagged[held_out.label == 0].mean()),
        "positives flagged or in review": float(seen[held_out.label == 1].mean()),
        "negatives in review": float((seen & ~flagged)[held_out.label == 0].mean()),
    }
    manifest = {
        "format": 1,
        "name": about.name,
        "version": "1.0.0",
        "task": about.task,
        "input": dict(about.input),
        "classes": dict(about.classes),
        "stages": [{"name": "model", "model": MODEL_FILE, "calibration": {"temperature": temperature}}],
        "decision": {
            "review_from": review_from,
            "flag_from": flag_from,
            "chosen_by": {"max_false_positive_rate": MAX_FALSE_POSITIVE_RATE, "review_recall": REVIEW_RECALL},
        },
        "reference": "reference.json",
        "card": "CARD.md",
    }
    reference = {
        "count": len(score),
        "positive_rate": float(held_out.label.mean()),
        "scores": {"quantiles": np.quantile(score, np.linspace(0, 1, 101)).tolist()},
    }
    with tempfile.TemporaryDirectory(prefix="discern-example-") as folder:
        working = Path(folder)
        (working / MODEL_FILE).write_bytes(model)
        (working / "detector.yaml").write_bytes(dump_manifest(manifest))
        (working / "reference.json").write_text(json.dumps(reference), encoding="utf-8")
        (working / "CARD.md").write_text(_card(about, figures), encoding="utf-8")
        bundle = pack(working, out)
    for name, value in figures.items():
        print(f"{name}: {value:.4f}")
    print(f"bundle, packed and not yet signed: {bundle.manifest.name} {bundle.manifest.version} in {out}")
    print(f"next: discern detector check {out} && discern detector sign {out} && discern detector add {out}")
    return bundle


def out_folder(description: str | None) -> Path:
    """The folder named on the command line by `--out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make the bundle in; it must not exist")
    folder: Path = parser.parse_args().out
    return folder
