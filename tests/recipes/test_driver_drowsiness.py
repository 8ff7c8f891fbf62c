"""How the drowsiness recipe splits its pictures, frames them, and measures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="the recipe needs scipy: pip install 'discern-detectors[train]'")

from discern.evaluation.platforms.service import AcceptedVariant, Outcome
from discern.evaluation.platforms.types import GateResult
from recipes.driver_drowsiness import data, measure
from tests.inputs.test_faces import drawn_face


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Drawn faces of six persons, and a few mouths of which one stands twice."""
    generator = np.random.default_rng(5)
    lines = ["class,file,approx_person_group"]
    for number in range(24):
        kind = "yawn" if number % 2 else "no-yawn"
        picture = np.full((240, 320, 3), 120, np.uint8)
        if number != 3:
            picture[:, 40:280] = drawn_face(240, (120, 120), 60 + number)
        target = tmp_path / "frames" / kind / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(target)
        lines.append(f"{kind},{number}.jpg,p{number % 6}")
    (tmp_path / "frames" / "groups.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in range(12):
        target = tmp_path / "mouths" / ("open" if number % 2 else "closed") / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 255, (9, 9, 3)).astype(np.uint8))
        coarse.resize((60, 80), Image.Resampling.BICUBIC).save(target)
        if number == 5:
            coarse.resize((60, 80), Image.Resampling.BICUBIC).save(target.with_name("5-again.jpg"), quality=80)
    return tmp_path


def test_nobody_stands_in_two_folds_and_copies_stay_together(folder: Path) -> None:
    frames = data.frames(folder)
    folds: dict[str, set[int]] = {}
    for one in frames:
        folds.setdefault(one.group, set()).add(one.fold)
    assert len(folds) == 6
    assert all(len(members) == 1 for members in folds.values())
    assert {one.fold for one in frames} == set(range(data.FOLDS))
    twice = [one for one in data.mouths(folder) if one.path.stem.startswith("5")]
    assert len({one.fold for one in twice}) == 1
    assert len({one.group for one in twice}) == 1


def test_frames_without_a_face_are_left_out_and_the_others_cut_as_production_cuts_them(folder: Path) -> None:
    frames = data.frames(folder)
    found = data.parts(frames)
    assert [frames[at].path.stem for at in range(len(frames)) if at not in found.known] == ["3"]
    assert found.tiles.shape == (23, data.SIDE, 3 * data.SIDE, 3)
    assert found.mouths.shape == found.right_eyes.shape == (23, data.WIDE, data.WIDE, 3)


def test_the_digest_names_the_data_whatever_their_order(folder: Path) -> None:
    frames = data.frames(folder)
    assert data.manifest_digest(frames) == data.manifest_digest(frames[::-1])
    assert data.manifest_digest(frames) != data.manifest_digest(frames[1:])


def test_an_empty_class_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "eyes" / "train" / "Open").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="train"):
        data.eyes(tmp_path, "train")


def test_a_share_has_wilson_s_interval() -> None:
    estimate = measure.share(234, 240)
    assert (estimate.value, round(estimate.low, 4), round(estimate.high, 4)) == (0.975, 0.9465, 0.9885)


def test_the_area_under_the_curve_counts_ties_by_half() -> None:
    score = np.array([0.1, 0.5, 0.5, 0.9])
    assert measure.area(score, np.array([False, True, False, True])) == 0.875


def test_an_interval_over_persons_is_wider_than_one_over_their_frames() -> None:
    generator = np.random.default_rng(1)
    persons = np.repeat(generator.random(20), 50)
    rows = (generator.random(1000) < persons).astype(float)
    by_person = measure.clustered(lambda at: float(rows[at].mean()), np.repeat(np.arange(20), 50), seed=1)
    by_frame = measure.clustered(lambda at: float(rows[at].mean()), np.arange(1000), seed=1)
    assert by_person.low < by_frame.low < by_frame.value < by_frame.high < by_person.high


def test_windows_are_where_they_are_said_to_be() -> None:
    torch = pytest.importorskip("torch", reason="the recipe needs torch")
    from recipes.driver_drowsiness import framing

    picture = torch.arange(96.0).view(1, 1, 1, 96).expand(1, 1, 96, 96)
    still = framing.Framing(0.5, 0.5, 0.0)
    window = framing.framed(picture, still, torch.Generator().manual_seed(1))
    assert window.shape == (1, 1, data.SIDE, data.SIDE)
    assert window[0, 0, 20].tolist() == pytest.approx([24 + at for at in range(data.SIDE)], abs=0.51)
    drawn = framing.drawn(picture.repeat(4, 1, 1, 1), framing.EYES, torch.Generator().manual_seed(1), glasses=1.0)
    again = framing.drawn(picture.repeat(4, 1, 1, 1), framing.EYES, torch.Generator().manual_seed(1), glasses=1.0)
    assert torch.equal(drawn, again)
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 255


@pytest.fixture
def gate() -> ModuleType:
    """The module, where there is what it needs."""
    pytest.importorskip("torch", reason="the recipe needs torch")
    from recipes.driver_drowsiness import gate

    return gate


def result(variant: str, stage: str, accepted: bool = True) -> GateResult:
    return GateResult(variant, stage, accepted, "")


def test_the_same_seed_gives_the_same_tiles_and_each_picture_stands_once_in_a_set(
    folder: Path, gate: ModuleType
) -> None:
    for number in range(40):
        target = folder / "eyes" / "valid" / ("Closed" if number % 2 else "Open") / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 60), 20 + 3 * number).save(target)
    sets = gate.tiles(folder, ["valid"], seed=3)
    again = gate.tiles(folder, ["valid"], seed=3)
    assert {part: np.bincount(found.labels).tolist() for part, found in sets.items()} == {
        "eyes": [6, 6],
        "mouth": [6, 7],
        "both": [6, 13],
    }
    for part, found in sets.items():
        assert found.rows.shape[1:] == (data.SIDE, 3 * data.SIDE, 3)
        assert np.array_equal(found.rows, again[part].rows)
        assert found.groups is not None
        assert len(found.groups) == len(found.rows)
        assert set(found.labels[: found.calibration].tolist()) == {0, 1}
        assert np.array_equal(found.rows[:, :, : data.SIDE], found.rows[:, :, data.SIDE : 2 * data.SIDE][:, :, ::-1])
    # The mouth that stands twice in nearly the same picture is one group.
    assert len(np.unique(sets["mouth"].groups)) == 12


def test_a_variant_is_kept_only_where_either_stage_passed_on_its_own_tiles(gate: ModuleType) -> None:
    whole = AcceptedVariant("int8", {"eyes": b"", "mouth": b""}, {}, 2.0)
    both = Outcome((result("int8", "together"),), (whole,), "int8")
    eyes, mouth = (Outcome((result("int8", part),), (), None) for part in ("eyes", "mouth"))
    assert gate.both_passed({"eyes": eyes, "mouth": mouth, "both": both}) == both
    failed = Outcome((result("int8", "mouth", accepted=False),), (), None)
    kept = gate.both_passed({"eyes": eyes, "mouth": failed, "both": both})
    assert (kept.accepted, kept.serves) == ((), None)
    alone = Outcome((), (AcceptedVariant("int8", {"eyes": b""}, {}, 2.0),), "int8")
    assert gate.both_passed({"eyes": eyes, "mouth": mouth, "both": alone}).accepted == ()
