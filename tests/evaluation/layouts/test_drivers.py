"""The layouts of datasets of drowsy drivers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import freeze

Put = Callable[..., Path]


@pytest.mark.parametrize(
    ("low", "labels"),
    [
        ("left-out", {"0.mov": 0, "10_1.MOV": 1}),
        ("drowsy", {"0.mov": 0, "5.mp4": 1, "10_1.MOV": 1}),
        ("alert", {"0.mov": 0, "5.mp4": 0, "10_1.MOV": 1}),
    ],
)
def test_uta_rldd_is_labelled_by_its_states(put: Put, root: Path, low: str, labels: dict[str, int]) -> None:
    for name in ("0.mov", "5.mp4", "10_1.MOV"):
        put(f"Fold3_part2/33/{name}")
    manifest = freeze(root, "uta-rldd", {"low-vigilance": low})
    assert {Path(item.id).name: item.label for item in manifest.items} == labels
    assert {(item.group, item.split) for item in manifest.items} == {("participant 33", "fold3")}


def test_nthu_ddd_is_labelled_by_the_share_of_drowsy_frames(put: Put, root: Path) -> None:
    put("Training/001/glasses/sleepyCombination.avi")
    put("Training/001/glasses/001_sleepyCombination_drowsiness.txt", "0011")
    put("Training/001/glasses/nonsleepyCombination.avi")
    put("Training/001/glasses/001_nonsleepyCombination_drowsiness.txt", "0001\n")
    put("Training/001/glasses/yawning.avi")
    put("Evaluation/003_nightnoglasses_mix.mp4")
    put("Evaluation/labels/003_night_noglasses_mixing_drowsiness.txt", "1111")
    manifest = freeze(root, "nthu-ddd")
    assert {item.id: (item.label, item.group, item.split) for item in manifest.items} == {
        "Evaluation/003_nightnoglasses_mix.mp4": (1, "subject 003", "evaluation"),
        "Training/001/glasses/nonsleepyCombination.avi": (0, "subject 001", "train"),
        "Training/001/glasses/sleepyCombination.avi": (1, "subject 001", "train"),
    }
    assert any("1 videos have no labels" in caveat for caveat in manifest.caveats)
    assert len(manifest.files) == 3
    stricter = freeze(root, "nthu-ddd", {"drowsy-share": "0.75"})
    assert [item.label for item in stricter.items] == [1, 0, 0]


def test_nthu_ddd_refuses_labels_that_are_none(put: Put, root: Path) -> None:
    put("001/glasses/yawning.avi")
    put("001/glasses/001_yawning_drowsiness.txt", "01x")
    with pytest.raises(DatasetRefused, match="0 or 1 for each frame"):
        freeze(root, "nthu-ddd")


def test_yawdd_takes_the_mirror_camera(put: Put, root: Path) -> None:
    for name in (
        "Mirror/Male_mirror Avi Videos/1-MaleNoGlasses-Normal.avi",
        "Mirror/Male_mirror Avi Videos/1-MaleNoGlasses-Talking&Yawning.avi",
        "Mirror/Female_mirror/1-FemaleSunGlasses-Yawning.avi",
        "Dash/Male/13-MaleGlasses .avi",
        "Dash/Female/9-FemaleGlasses.avi.avi",
    ):
        put(name)
    manifest = freeze(root, "yawdd")
    assert [(item.label, item.group) for item in manifest.items] == [(1, "female 1"), (0, "male 1"), (1, "male 1")]
    assert manifest.items[0].subgroups == {"sex": "female", "glasses": "sunglasses", "action": "yawning"}
    assert any(caveat.startswith("2 videos of the dash camera") for caveat in manifest.caveats)
