"""Collects what a training run measured and writes it as the card and the manifest.

Invariants:

- Figures are added by the run and never edited here; the card holds all of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.synthetic_face import augment, backbone, cascade, data, finetune, studies
from recipes.synthetic_face.card import render, table
from recipes.synthetic_face.measure import Auc, auc, share_from

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from recipes.synthetic_face.cascade import OperatingPoint
    from recipes.synthetic_face.data import Crops, Picture
    from recipes.synthetic_face.made import Stage

    Floats = NDArray[np.float64]

_LARGE = 0.75
_CARRY_OVER_HEADER = ("against stable-diffusion/authentic", "against stylegan/authentic")
_RESULTS_HEADER = ("set", "synthetic + authentic", "cascade", "expert alone", "screen alone")
_OPERATING_HEADER = ("set", "kind", "pictures", "cleared", "reviewed", "flagged", "decided by the screen")


class Figures:
    """Rows of the card's tables, in the order they were measured."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.costs: dict[str, str] = {}
        self.reference: dict[str, object] = {}
        self._results: list[list[object]] = []
        self._robust: list[list[object]] = []
        self._operating: list[list[object]] = []
        self._found: list[list[object]] = []
        self._framing_note = ""

    def mirrored(self, rows: list[list[object]], kind: NDArray[np.str_]) -> None:
        """Single backbones out of fold, with and without the mirror image."""
        names = [_pair_name(pair) for pair in studies.pairs_of(kind.tolist())]
        self.tables["mirror_table"] = table(["score of", *names], rows)
        print(self.tables["mirror_table"], flush=True)

    def carry_over(self, rows: list[list[object]]) -> None:
        """AUC on generators that were left out."""
        self.tables["transfer_table"] = table(["generator left out", *_CARRY_OVER_HEADER], rows)
        print(self.tables["transfer_table"], flush=True)

    def framing(self, pictures: list[Picture], crops: Crops, margin: float) -> None:
        """What the framing alone tells, on the development side."""
        members = [index for index, picture in enumerate(pictures) if picture.fold >= 0]
        framing = studies.framing_table([pictures[i] for i in members], crops.boxes[members], margin)
        self.tables["framing_table"] = table(["pair", "in the picture", "in the crop"], framing)
        telling = [name for name, _, after in framing if after > _LARGE]
        self._framing_note = (
            "Framing still tells much after the crop for " + "; ".join(telling) + ": one side is all "
            "close-ups, and a crop cannot add what a close-up does not show. Those in-source figures are optimistic, "
            "though random views and windows vary scale and position."
            if telling
            else "After the crop the framing tells little."
        )

    def held_out(self, side: str, members: list[Picture], scores: Floats, point: OperatingPoint) -> None:
        """AUC of screen, expert and cascade for each pair of the members; `scores` [n, 3] in that order."""
        kind = np.array([member.kind for member in members])
        for pair in studies.pairs_of(kind.tolist()):
            values = [auc(scores[kind == pair[0], i], scores[kind == pair[1], i]) for i in range(3)]
            self.add_result(side, pair, values)
        name = side if side == "held-out" else f"test/{members[0].source}"
        self.operating(name, kind, scores[:, 0], scores[:, 2], point)

    def add_result(self, side: str, pair: tuple[str, str], values: Sequence[Auc]) -> None:
        """One row of the results table and a printed line."""
        screen, expert, both = values
        row = [
            f"{side}: {_pair_name(pair)}",
            f"{both.positives} + {both.negatives}",
            f"**{both}**",
            str(expert),
            str(screen),
        ]
        print("AUC", *row, flush=True)
        self._results.append(list(row))

    def robust(self, members: list[Picture], scores: Floats) -> None:
        """AUC on re-framed and re-encoded views."""
        kind = np.array([member.kind for member in members])
        for pair in studies.pairs_of(kind.tolist()):
            value = auc(scores[kind == pair[0], 2], scores[kind == pair[1], 2])
            self._robust.append([_pair_name(pair), str(value)])

    def operating(
        self, side: str, kind: NDArray[np.str_], screen: Floats, score: Floats, point: OperatingPoint
    ) -> None:
        """Shares of each kind that are cleared, reviewed, flagged, and decided by the screen."""
        for name in sorted(set(kind.tolist())):
            chosen = score[kind == name]
            flagged, seen = share_from(chosen, point.flag_from), share_from(chosen, point.review_from)
            alone = float(point.decided_by_screen(screen[kind == name]).mean())
            self._operating.append([side, name, len(chosen), 1 - seen, seen - flagged, flagged, alone])

    def found(self, side: str, members: list[Picture], boxes: NDArray[np.float32]) -> None:
        """Share of pictures in which the locator found a face, for each kind."""
        kind = np.array([member.kind for member in members])
        for name in sorted(set(kind.tolist())):
            self._found.append([side, name, float(boxes[kind == name, 0].mean())])

    def card(
        self,
        version: str,
        seed: int,
        pictures: list[Picture],
        stages: list[Stage],
        point: OperatingPoint,
        error: float,
    ) -> str:
        """The whole card."""
        screen, expert = stages
        groups = Counter(data.near_duplicate_groups(pictures))
        counts = Counter((picture.kind, picture.fold < 0) for picture in pictures)
        kinds = sorted({picture.kind for picture in pictures})
        strength = augment.TRAINING
        return render(
            self.tables
            | self.costs
            | {
                "version": version,
                "seed": str(seed),
                "data_table": table(
                    ["kind", "development", "held out"], [[k, counts[k, False], counts[k, True]] for k in kinds]
                ),
                "held_out_percent": str(data.HELD_OUT_PERCENT),
                "duplicate_groups": str(sum(size > 1 for size in groups.values())),
                "folds": str(data.FOLDS),
                "manifest": data.manifest_digest(pictures),
                "margin": f"{data.FACE_MARGIN:g}",
                "side": str(data.SIDE),
                "start_package": backbone.START_PACKAGE,
                "start_digest": backbone.START_DIGEST,
                "epochs": str(finetune.EPOCHS),
                "short_epochs": str(finetune.SHORT_EPOCHS),
                "batch": str(finetune.BATCH),
                "learning_rate": f"{finetune.LEARNING_RATE:g}",
                "window": str(finetune.WINDOW),
                "smallest_window": f"{strength.smallest_window * 100:.0f}",
                "rescaled": f"{strength.rescaled_share * 100:.0f}",
                "blurred": f"{strength.blurred_share * 100:.0f}",
                "reencoded": f"{strength.reencoded_share * 100:.0f}",
                "lowest_quality": str(strength.lowest_quality),
                "lost_synthetic": f"{cascade.LOST_SYNTHETIC * 100:g}",
                "lost_authentic": f"{cascade.LOST_AUTHENTIC * 100:g}",
                "lost_auc": f"{cascade.LOST_AUC:g}",
                "results_table": table(_RESULTS_HEADER, self._results),
                "robust_table": table(["pair", "AUC of the cascade"], self._robust),
                "flag_rate": f"{cascade.FLAG_FALSE_POSITIVE_RATE * 100:g}",
                "review_rate": f"{cascade.REVIEW_FALSE_POSITIVE_RATE * 100:g}",
                "review_from": f"{point.review_from:g}",
                "flag_from": f"{point.flag_from:g}",
                "clear_below": f"{point.clear_below:g}",
                "flag_above": f"{point.flag_above:g}",
                "screen_temperature": f"{screen.temperature:g}",
                "expert_temperature": f"{expert.temperature:g}",
                "operating_table": table(
                    _OPERATING_HEADER, self._operating
                ),
                "calibration_error": f"{error:.3f}",
                "framing_note": self._framing_note,
                "found_table": table(["set", "kind", "faces found"], self._found),
            }
        )  # fmt: skip


def manifest(
    version: str, seed: int, pictures: list[Picture], stages: list[Stage], point: OperatingPoint, paths: list[Path]
) -> dict[str, Any]:
    """The bundle's manifest without its `files`, which packing fills in."""
    listed: list[dict[str, Any]] = []
    for position, (stage, path) in enumerate(zip(stages, paths, strict=True)):
        entry: dict[str, Any] = {
            "name": stage.name,
            "model": path.name,
            "calibration": {"temperature": stage.temperature},
        }
        if position < len(stages) - 1:
            entry["exits"] = {"clear_below": point.clear_below, "flag_above": point.flag_above}
        listed.append(entry)
    return {
        "format": 1,
        "name": "synthetic-face",
        "version": version,
        "task": "Tells photographs of people from faces made by a generator.",
        "input": {
            "kind": "image",
            "width": data.SIDE,
            "height": data.SIDE,
            "crop": "face",
            "face_margin": data.FACE_MARGIN,
            "no_face": "whole",
        },
        "classes": {"negative": "authentic", "positive": "synthetic"},
        "stages": listed,
        "decision": {
            "review_from": point.review_from,
            "flag_from": point.flag_from,
            "chosen_by": {
                "max_false_positive_rate": cascade.FLAG_FALSE_POSITIVE_RATE,
                "review_max_false_positive_rate": cascade.REVIEW_FALSE_POSITIVE_RATE,
                "dataset": "authentic faces of every source of the development side, out of fold",
                "manifest_sha256": data.manifest_digest(pictures),
                "seed": seed,
            },
        },
        "video": {"frames": 16, "pool": "top_mean", "top": 4},
        "reference": "reference.json",
        "card": "CARD.md",
    }


def _pair_name(pair: tuple[str, str]) -> str:
    made, photo = (kind.partition("/")[0] for kind in pair)
    return made if made == photo else f"{made} against {photo} photographs"
