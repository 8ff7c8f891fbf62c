"""Collects the figures of a run and writes the card from them.

Invariants:

- The card holds what was computed in the same run, and every figure in it is printed with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.detectors.calibration import calibrate
from recipes.driver_drowsiness import data
from recipes.driver_drowsiness.manifest import FLAG_FROM, REVIEW_FROM, STREAM, VERSION
from recipes.driver_drowsiness.measure import Estimate, area_clustered, clustered, share
from recipes.synthetic_face.card import table
from recipes.synthetic_face.measure import calibration_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from recipes.driver_drowsiness.data import Sample

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

DETAILS = (32, 24, 16, 12)
"""Pixels that an eye window is brought to, and back, to see what little detail costs."""

_CUT = 0.5
_TEMPLATE = Path(__file__).with_name("card_template.md")
_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")


@dataclass
class Figures:
    """Figures by the placeholder they stand for."""

    seed: int
    texts: dict[str, str] = field(default_factory=dict)
    _eye_rows: list[list[object]] = field(default_factory=list)
    _detail_rows: list[list[object]] = field(default_factory=list)
    _digests: dict[str, str] = field(default_factory=dict)
    _known: list[Sample] = field(default_factory=list)

    def eyes_learned(self, train: list[Sample], valid: list[Sample]) -> None:
        """Note what the eye stage learned from."""
        self._digests["eyes"] = data.manifest_digest([*train, *valid])
        self.texts["eyes_train"], self.texts["eyes_valid"] = str(len(train)), str(len(valid))

    def eyes(self, side: str, samples: list[Sample], plain: Floats, framed: Floats) -> None:
        """Note the scores of eyes as they are, [n], and framed otherwise, [n, draws]."""
        positive = _positive(samples)
        clusters = np.arange(len(samples))
        right = (framed >= _CUT) == positive[:, np.newaxis]
        rows = [("as they are", plain[:, np.newaxis]), ("shifted and scaled by up to 25 %", framed)]
        for name, score in rows:
            found = (score >= _CUT) == positive[:, np.newaxis]
            accuracy = (
                share(int(found.sum()), len(samples))
                if score.shape[1] == 1
                else clustered(lambda at, found=found: float(found[at].mean()), clusters, seed=self.seed)
            )
            repeated = np.repeat(positive, score.shape[1])
            names = [str(at) for at in np.repeat(clusters, score.shape[1])]
            auc = area_clustered(score.ravel(), repeated, names, seed=self.seed)
            missed = float((score[positive] < _CUT).mean())
            false = float((score[~positive] >= _CUT).mean())
            self._eye_rows.append([side, name, len(samples), accuracy, auc, f"{missed:.3f}", f"{false:.3f}"])
        self.texts[f"eyes_{side}_worst"] = f"{right.mean(0).min():.3f}"
        self.texts[f"eyes_{side}_calibration"] = f"{calibration_error(framed.ravel(), _repeated(positive, framed)):.3f}"

    def detail(self, side: int, samples: list[Sample], score: Floats) -> None:
        """Note the scores of eyes of so many pixels."""
        positive = _positive(samples)
        right = int(((score >= _CUT) == positive).sum())
        false = share(int((score[~positive] >= _CUT).sum()), int((~positive).sum()))
        self._detail_rows.append([side, share(right, len(samples)), false])

    def mouths(
        self, frames: list[Sample], known: list[Sample], mouths: list[Sample], far: Floats, near: Floats
    ) -> None:
        """Note the mouth stage's scores out of fold: of frames with a face, and of mouths close up."""
        self._known = known
        self._digests["mouths"] = data.manifest_digest([*mouths, *frames])
        rows = []
        for name, samples, score in (("frames of drivers", known, far), ("mouths close up", mouths, near)):
            positive = _positive(samples)
            groups = [one.group for one in samples]
            right = (score >= _CUT) == positive
            rows.append(
                [
                    name,
                    len(samples),
                    len(set(groups)),
                    area_clustered(score, positive, groups, seed=self.seed),
                    clustered(lambda at, right=right: float(right[at].mean()), groups, seed=self.seed),
                    f"{(score[positive] < _CUT).mean():.3f}",
                    f"{(score[~positive] >= _CUT).mean():.3f}",
                ]
            )
        header = ["set", "pictures", "groups", "AUC", "accuracy at 0.5", "open missed", "closed taken for open"]
        folds = {one.fold for one in known}
        by_fold = [
            area_clustered(
                far[_of(known, fold)],
                _positive(known)[_of(known, fold)],
                [one.group for one in known if one.fold == fold],
                seed=self.seed,
            )
            for fold in sorted(folds)
        ]
        self.texts |= {
            "mouth_table": table(header, rows),
            "mouth_folds": ", ".join(f"{one.value:.3f}" for one in by_fold),
            "mouth_calibration": f"{calibration_error(far, _positive(known)):.3f}",
            "mouths": str(len(mouths)),
            "frames": str(len(frames)),
            "groups": str(len({one.group for one in frames})),
            "found_table": self._found(frames, known),
        }

    def frame(self, eyes: Floats, score: Floats) -> None:
        """Note the eye and frame scores of the frames with a face."""
        yawning = _positive(self._known)
        rows = []
        for name, chosen in (("yawning", yawning), ("not yawning", ~yawning)):
            groups = [one.group for one, taken in zip(self._known, chosen, strict=True) if taken]

            def told(flags: Flags, groups: list[str] = groups) -> Estimate:
                return clustered(lambda at: float(flags[at].mean()), groups, seed=self.seed)

            rows.append(
                [
                    name,
                    int(chosen.sum()),
                    told(eyes[chosen] >= _CUT),
                    told(score[chosen] >= REVIEW_FROM),
                    told(score[chosen] >= FLAG_FROM),
                ]
            )
        header = ["frames", "pictures", "eyes held for closed", "review or flag", "flag"]
        self.texts["frame_table"] = table(header, rows)

    def evidence(self) -> dict[str, Any]:
        """What the manifest says of its thresholds and data."""
        return {
            "rule": "fixed: half, and nine in ten, of the calibrated probability",
            "eyes_sha256": self._digests["eyes"],
            "mouths_sha256": self._digests["mouths"],
            "seed": self.seed,
        }

    def card(
        self, temperatures: dict[str, float], steps: dict[str, float], window: float, sizes: dict[str, int]
    ) -> str:
        """The whole card. Raises KeyError for a placeholder without a figure, or the reverse."""
        names = {"decode": "decode JPEG", "find": "find face, eyes, mouth", "cut": "cut", "stages": "three stages"}
        speeds = [[label, f"{steps[name]:.2f}"] for name, label in names.items()]
        speeds.append(["**a frame, all together**", f"**{steps['frame']:.2f}**"])
        events = [
            [
                one["name"],
                one["of"],
                f"{one['shortest_seconds']:g}",
                f"{one['longest_seconds']:g}" if "longest_seconds" in one else "-",
                f"{one['least_per_second']:g}",
            ]
            for one in STREAM["events"]
        ]
        figures = self.texts | {
            "version": VERSION,
            "seed": str(self.seed),
            "side": str(data.SIDE),
            "folds": str(data.FOLDS),
            "eyes_table": table(
                ["split", "framing", "eyes", "accuracy at 0.5", "AUC", "closed missed", "open taken for closed"],
                self._eye_rows,
            ),
            "detail_table": table(
                ["pixels of the window", "accuracy at 0.5", "open taken for closed"], self._detail_rows
            ),
            "event_table": table(["event", "stage", "at least, s", "at most, s", "least frames a second"], events),
            "eyes_temperature": f"{temperatures['eyes']:g}",
            "mouth_temperature": f"{temperatures['mouth']:g}",
            "speed_table": table(["step", "milliseconds"], speeds),
            "frames_a_second": f"{1000 / steps['frame']:.0f}",
            "window_milliseconds": f"{window:.1f}",
            "windows_a_second": f"{1000 / window:.0f}",
            "sizes": ", ".join(f"{name} {size / 1000:.0f} kB" for name, size in sizes.items()),
            "eyes_digest": self._digests["eyes"],
            "mouths_digest": self._digests["mouths"],
            "review_from": f"{REVIEW_FROM:g}",
            "flag_from": f"{FLAG_FROM:g}",
        }
        template = _TEMPLATE.read_text(encoding="utf-8")
        wanted = set(_PLACEHOLDER.findall(template))
        if wanted != set(figures):
            raise KeyError(f"card placeholders without figure or the reverse: {sorted(wanted ^ set(figures))}")
        return _PLACEHOLDER.sub(lambda match: figures[match.group(1)], template)

    def _found(self, frames: list[Sample], known: list[Sample]) -> str:
        names = {one.path for one in known}
        rows = []
        for label, positive in (("yawning", True), ("not yawning", False)):
            chosen = [one for one in frames if one.positive == positive]
            flags = np.array([one.path in names for one in chosen])
            groups = [one.group for one in chosen]
            found = clustered(lambda at, flags=flags: float(flags[at].mean()), groups, seed=self.seed)
            by_group = {
                group: float(np.mean([flag for flag, one in zip(flags, groups, strict=True) if one == group]))
                for group in set(groups)
            }
            half = sum(value < 0.5 for value in by_group.values())
            rows.append([label, len(chosen), found, f"{half} of {len(by_group)}"])
        return table(["frames", "pictures", "face found", "persons found in less than half of theirs"], rows)


def calibrated(temperature: float, *scores: Floats) -> tuple[Floats, ...]:
    """Raw probabilities at a temperature."""
    return tuple(calibrate(score, temperature) for score in scores)


def _positive(samples: Sequence[Sample]) -> Flags:
    return np.array([sample.positive for sample in samples])


def _repeated(positive: Flags, framed: Floats) -> Flags:
    return np.repeat(positive, framed.shape[1])


def _of(samples: Sequence[Sample], fold: int) -> Flags:
    return np.array([sample.fold == fold for sample in samples])
