"""How the face recipe splits pictures, measures and draws thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="the recipe needs scipy: pip install 'discern-detectors[train]'")
pytest.importorskip("sklearn", reason="the recipe needs scikit-learn: pip install 'discern-detectors[train]'")

from sklearn.metrics import roc_auc_score

from recipes.synthetic_face import data, measure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty patterns of two sources, every third of them a second time, slightly recompressed."""
    generator = np.random.default_rng(3)
    for number in range(60):
        kind = tmp_path / ("one" if number % 2 else "two") / ("synthetic" if number % 4 < 2 else "authentic")
        kind.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 255, (9, 9, 3)).astype(np.uint8))
        picture = coarse.resize((96, 96), Image.Resampling.BICUBIC)
        picture.save(kind / f"{number:02}.jpg", quality=90)
        if number % 3 == 0:
            picture.save(kind / f"{number:02}-again.jpg", quality=85)
    return tmp_path


def test_near_duplicates_stand_on_one_side(folder: Path) -> None:
    pictures = data.assign_sides(data.read_folder(folder))
    sides: dict[str, set[int]] = {}
    for picture in pictures:
        sides.setdefault(picture.path.stem.removesuffix("-again"), set()).add(picture.fold)
    assert len(pictures) == 80
    assert all(len(folds) == 1 for folds in sides.values())
    assert {picture.fold for picture in pictures} == {-1, 0, 1, 2}


def test_the_split_follows_the_content_and_not_the_names(folder: Path) -> None:
    before = {picture.digest: picture.fold for picture in data.assign_sides(data.read_folder(folder))}
    for path in list(folder.rglob("*.jpg")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    pictures = data.assign_sides(data.read_folder(folder))
    assert {picture.digest: picture.fold for picture in pictures} == before
    assert data.manifest_digest(pictures) == data.manifest_digest(pictures[::-1])


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no pictures under"):
        data.read_folder(tmp_path)


def test_the_area_under_the_curve_is_the_usual_one_ties_included() -> None:
    generator = np.random.default_rng(5)
    positives, negatives = generator.integers(2, 9, 80), generator.integers(0, 7, 120)
    found = measure.auc(positives, negatives)
    labels = np.r_[np.ones(80), np.zeros(120)]
    assert found.value == pytest.approx(roc_auc_score(labels, np.r_[positives, negatives]))
    assert found.low < found.value < found.high


def test_the_interval_covers_the_true_area_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    # Two normal distributions one standard deviation apart: the area is Phi(1 / sqrt(2)).
    true_area = 0.7602499
    covered = 0
    for _ in range(400):
        found = measure.auc(generator.normal(1, 1, 60), generator.normal(0, 1, 60))
        covered += found.low <= true_area <= found.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5])
def test_a_threshold_lets_at_most_the_asked_share_of_negatives_through(rate: float) -> None:
    negatives = np.random.default_rng(7).uniform(0, 0.99, 300)
    cut = measure.threshold_at_false_positive_rate(negatives, rate)
    assert measure.share_from(negatives, cut) <= rate
    assert measure.share_from(negatives, cut - 0.02) > rate
