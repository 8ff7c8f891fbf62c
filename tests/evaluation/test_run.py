"""A dataset through a detector: what every row comes to, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.core.errors import CallerError, DatasetRefused
from discern.detectors.cascade import Cascade
from discern.detectors.manifest import Manifest
from discern.detectors.packing import pack
from discern.detectors.runtime import StageModel
from discern.detectors.scoring import DECISIONS
from discern.evaluation.datasets import freeze, write_manifest
from discern.evaluation.journal import Journal
from discern.evaluation.ports import MediaPiece, Progress
from discern.evaluation.report import canonical
from discern.evaluation.results import Result
from discern.evaluation.rules_exits import with_exits
from discern.evaluation.service import Parts, look, run
from discern.evaluation.service_scoring import Scoring, score_source
from discern.evaluation.sources import Asked, source_of
from discern.evaluation.types import Scored
from discern.inputs.prepare import prepare_media
from tests.detectors import models
from tests.evaluation.conftest import asked, flat
from tests.inputs.media import clip as film
from tests.inputs.test_faces import drawn_face
from tests.media import clip


class Stop(Exception):
    """What ends a run in a test."""


def nothing(_: Progress) -> None:
    """Watch nothing."""


def scored(
    parts: Parts,
    folder: Path,
    out: Path,
    watch: Callable[[Progress], None] = nothing,
    detector: str = "toy-cascade",
) -> tuple[Scored, int]:
    from discern.detectors.assessment import load_detector

    bundle = parts.open_detector(detector)
    loaded = load_detector(bundle)
    source = source_of(str(folder), bundle.manifest, Asked(), parts.limits)
    with Journal(out).sheet(loaded.digest, source.manifest_sha256) as sheet:
        return score_source(source, Scoring(loaded, parts.limits, parts.locator, parts.threads), sheet, watch)


def result(parts: Parts, out: Path, *data: Path, watch: Callable[[Progress], None] = nothing) -> Result:
    question = asked(out, *data)
    return run(question, look(question, parts), parts, Journal(out), watch)[0]


def test_exits_that_are_told_from_the_scores_are_those_of_the_cascade_itself() -> None:
    """Stages fail on some rows, others leave early; `poisoned` fails for whole batches, so that rows run one by one."""
    fields = [{"name": name, "type": "number"} for name in "abc"]
    stages = [
        {"name": "first", "model": "first.onnx", "exits": {"clear_below": 0.2, "flag_above": 0.9}},
        {"name": "second", "model": "second.onnx", "exits": {"clear_below": 0.1, "flag_above": 0.95}},
        {"name": "third", "model": "third.onnx"},
    ]
    manifest = Manifest.model_validate(
        models.record_manifest(input={"kind": "record", "fields": fields}, stages=stages)
    )
    opened = {
        "first": StageModel("first", models.identity_model()),
        "second": StageModel("second", models.record_model((0.0, -2.0, 0.5))),
        "third": StageModel("third", models.poisoned_model()),
    }
    random = np.random.default_rng(3)
    rows = np.column_stack(
        [random.uniform(-0.2, 1.2, 3000), random.normal(0, 3, 3000), random.normal(0, 9, 3000)]
    ).astype(np.float32)
    rows[::50, 0] = np.nan
    rows[5::50, 1] = np.nan
    real = Cascade(manifest, opened).score(rows)
    every = Cascade(manifest, opened, early_exits=False).score(rows)
    told = with_exits(every.stage_scores, manifest)
    np.testing.assert_array_equal(told.score, real.score)
    np.testing.assert_array_equal(told.decided_by, real.decided_by)
    np.testing.assert_array_equal(told.decision, real.decision)
    np.testing.assert_array_equal(told.degraded, real.degraded)
    assert set(np.unique(real.decided_by)) == {0, 1, 2}
    assert len(np.unique(real.degraded)) > 1
    assert set(np.unique(real.decision)) == {-1, 0, 1, 2}


@pytest.mark.parametrize("kind", ["image", "video"])
def test_images_and_clips_get_what_a_detection_gives_them(
    kind: str, parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    if kind == "video":
        pictures = tmp_path / "clips"
        for number, name in enumerate(("dark", "bright", "bright")):
            (pictures / name).mkdir(parents=True, exist_ok=True)
            (pictures / name / f"{number}.mp4").write_bytes(clip(4 + number, comment=str(number)))
    else:
        (pictures / "dark" / "broken.png").write_bytes((pictures / "dark" / "0000.png").read_bytes()[:60])
    found, _ = scored(parts, pictures, tmp_path / "out")
    from discern.detectors.assessment import load_detector

    bundle = parts.open_detector("toy-cascade")
    detector = load_detector(bundle)
    spec = bundle.manifest.input
    for row, name in enumerate(found.examples.ids):
        if name == "dark/broken.png":
            assert np.isnan(found.score[row])
            assert found.decision[row] == -1
            assert found.errors[row].startswith("unreadable_input: ")
            continue
        prepared = prepare_media(pictures / name, spec, bundle.manifest.video, parts.limits, parts.locator)  # type: ignore[arg-type]
        expected = detector.assess(prepared)
        assert found.score[row] == pytest.approx(expected.score, abs=1e-6)
        assert found.stages[found.decided_by[row]] == expected.decided_by
        assert DECISIONS[found.decision[row]] == expected.decision
        assert not np.isnan(found.stage_scores[row]).any()
    if kind == "image":
        assert {DECISIONS[code] for code in found.decision if code >= 0} == set(DECISIONS)


def test_clips_that_are_judged_by_windows_get_what_a_detection_gives_them(parts: Parts, tmp_path: Path) -> None:
    """Of the first clip too little is known, so that it is for review whatever the rest shows."""
    from discern.detectors.assessment import load_detector

    nobody = np.full((240, 320, 3), 120, np.uint8)
    face = nobody.copy()
    face[:, 40:280] = drawn_face(240, (120, 120), 60)
    clips = tmp_path / "clips"
    for name, frames in (("alert", [face] * 8 + [nobody] * 12), ("drowsy", [face] * 20)):
        (clips / name).mkdir(parents=True)
        (clips / name / "1.mp4").write_bytes(film(frames=frames, rate=10))
    found, _ = scored(parts, clips, tmp_path / "out", detector="driver-drowsiness")
    bundle = parts.open_detector("driver-drowsiness")
    detector, manifest = load_detector(bundle), bundle.manifest
    degraded = []
    for row, name in enumerate(found.examples.ids):
        prepared = prepare_media(clips / name, manifest.input, manifest.video, parts.limits, parts.locator)  # type: ignore[arg-type]
        expected = detector.assess(prepared)
        assert found.score[row] == pytest.approx(expected.score, abs=1e-6)
        assert DECISIONS[found.decision[row]] == expected.decision
        assert found.stages[found.decided_by[row]] in {"eyes", "mouth"}
        assert found.events[row].seconds == pytest.approx(2.0, abs=0.11)
        degraded.append(expected.degraded)
    assert degraded[0] == "known"


def test_the_json_is_the_same_for_any_number_of_threads_and_after_an_interruption(
    parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    one = canonical(result(replace(parts, threads=1), tmp_path / "one", pictures))
    four = canonical(result(replace(parts, threads=4), tmp_path / "four", pictures))
    assert one == four

    def stop(far: Progress) -> None:
        if far.rows >= 32:
            raise Stop

    with pytest.raises(Stop):
        result(parts, tmp_path / "interrupted", pictures, watch=stop)
    seen: list[Progress] = []
    assert canonical(result(parts, tmp_path / "interrupted", pictures, watch=seen.append)) == one
    assert seen[0].resumed == seen[0].rows == 32
    assert seen[-1].rows == 80


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_what_a_loss_of_power_left_of_a_piece_is_scored_again(
    damage: str, parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    whole, _ = scored(parts, pictures, tmp_path / "out")
    (file,) = (tmp_path / "out" / ".unfinished").iterdir()
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[-40:]
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again, resumed = scored(parts, pictures, tmp_path / "out")
    assert resumed == (64 if damage == "cut" else 32)
    np.testing.assert_array_equal(again.score, whole.score)


@pytest.mark.system
def test_a_run_that_is_killed_goes_on(home: Path, tmp_path: Path) -> None:
    for number in range(300):
        flat(tmp_path / "data" / ("dark", "bright")[number % 2] / f"{number}.png", 80 + number % 90, number)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "discern.cli.main", "evaluate", "toy-cascade", "--data", str(tmp_path / "data")]
    environment = {**os.environ, "DISCERN_HOME": str(home), "DISCERN_DETECTION_THREADS": "1"}

    def size() -> int:
        return sum(path.stat().st_size for path in out.glob(".unfinished/*"))

    first = subprocess.Popen([*command, "-o", str(out)], env=environment, stdout=subprocess.DEVNULL)
    while not size():
        assert first.poll() is None
        time.sleep(0.001)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = size()
    ended = subprocess.run([*command, "-o", str(out)], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert kept
    subprocess.run([*command, "-o", str(tmp_path / "whole")], env=environment, capture_output=True, check=True)
    assert (out / "report.json").read_bytes() == (tmp_path / "whole" / "report.json").read_bytes()
    assert not (out / ".unfinished").exists()


def test_a_file_that_changes_while_it_is_measured_ends_the_run(parts: Parts, pictures: Path, tmp_path: Path) -> None:
    question = asked(tmp_path / "out", pictures)
    looked = look(question, parts)
    flat(pictures / "dark" / "0007.png", 250, 99)
    with pytest.raises(DatasetRefused, match=r"not what was frozen, 0 gone: dark/0007\.png"):
        run(question, looked, parts, Journal(tmp_path / "out"), nothing)
    (pictures / "dark" / "0007.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DatasetRefused, match=r"0 gone: dark/0007\.png"):
        run(question, looked, parts, Journal(tmp_path / "out"), nothing)
    (pictures / "dark" / "0007.png").unlink()
    with pytest.raises(DatasetRefused, match=r"1 gone: dark/0007\.png"):
        run(question, looked, parts, Journal(tmp_path / "out"), nothing)


def test_two_processes_never_write_one_run(tmp_path: Path) -> None:
    with (
        Journal(tmp_path).sheet("a", "b"),
        pytest.raises(CallerError, match="Another process"),
        Journal(tmp_path).sheet("a", "b"),
    ):
        pass


def test_a_dataset_of_one_class_has_caveats_and_no_figures_that_look_fine(
    parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    for path in (pictures / "dark").iterdir():
        path.unlink()
    found = result(parts, tmp_path / "out", pictures)
    (dataset,) = found.datasets
    assert all(estimate.value is None and estimate.caveat for estimate in dataset.metrics.values())
    assert dataset.calibration.error.value is None
    assert dataset.operating.negative.flag.value is None
    assert dataset.operating.positive.flag.value is not None
    assert dataset.roc == ()
    assert "cannot be told" in found.verdict


def test_ten_items_are_measured_with_a_caveat(parts: Parts, tmp_path: Path) -> None:
    for number, level in enumerate((90, 100, 140, 110, 150)):
        flat(tmp_path / "few" / "dark" / f"{number}.png", level, number)
        flat(tmp_path / "few" / "bright" / f"{number}.png", level + 15, 50 + number)
    (dataset,) = result(parts, tmp_path / "out", tmp_path / "few").datasets
    area = dataset.metrics["auc"]
    assert area.caveat is not None
    assert "only 5 positive items" in area.caveat
    assert dataset.metrics["tpr_at_fpr_1_percent"].value is None


def test_the_exact_digest_of_a_folder_follows_its_files_and_labels_alone(
    parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    detector = parts.open_detector("toy-cascade").manifest

    def digest(folder: Path) -> str:
        return source_of(f"mine={folder}", detector, Asked(), parts.limits).manifest_sha256

    before = digest(pictures)
    os.utime(pictures / "dark" / "0001.png", (1, 1))
    moved = pictures.rename(tmp_path / "elsewhere")
    assert digest(moved) == before
    (moved / "dark" / "0001.png").rename(moved / "bright" / "x.png")
    assert digest(moved) != before


def test_pictures_larger_than_the_limit_are_counted_as_not_judged(parts: Parts, pictures: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1100, 1000)).save(pictures / "dark" / "large.png")
    (dataset,) = result(parts, tmp_path / "out", pictures).datasets
    assert dataset.not_scored == {"input_too_large": 1}
    assert any("1 of 81 items could not be judged" in caveat for caveat in dataset.caveats)


def test_a_clip_is_judged_by_the_frames_that_its_manifest_names(parts: Parts, tmp_path: Path) -> None:
    for name in ("dark", "bright"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        (tmp_path / "clips" / name / "1.mp4").write_bytes(clip(12, comment=name))
    options = {"positive": "bright"}
    judged = {}
    for frames in (None, 1, 12):
        path = tmp_path / f"{frames}.json"
        write_manifest(path, freeze(tmp_path / "clips", "folder", options, frames=frames))
        question = asked(tmp_path / str(frames), path, asked=Asked(roots=(str(tmp_path / "clips"),)))
        scoring = look(question, parts).sources[0]
        (piece,) = scoring.pieces(0)
        assert isinstance(piece, MediaPiece)
        spec = parts.open_detector("toy-cascade").manifest
        taken = [
            prepare_media(content, spec.input, spec.video, parts.limits, parts.locator, item.frames)  # type: ignore[arg-type]
            for item, content in zip(piece.items, piece.contents, strict=True)
        ]
        judged[frames] = [len(one.seconds) for one in taken]
        made, _ = run(question, look(question, parts), parts, Journal(tmp_path / str(frames)), nothing)
        assert made.datasets[0].not_scored == {}
    assert judged[1] == [1, 1]
    assert judged[12] == [12, 12]
    assert judged[None] not in (judged[1], judged[12])


def test_what_one_variant_scored_is_not_taken_for_another_s(parts: Parts, pictures: Path, tmp_path: Path) -> None:
    variant = {"name": "flat", "models": {"only": "flat/only.onnx"}, "evidence": {"margin": 0.01}}
    manifest = models.image_manifest(variants=[variant], serves="flat")
    files = {**models.IMAGE_FILES, "flat/only.onnx": models.image_model(slope=0.01)}
    bundle = pack(models.write_source(tmp_path / "source", manifest, files), tmp_path / "bundle")
    question = asked(tmp_path / "out", pictures, detector=str(bundle.root))
    looked, journal = look(question, parts), Journal(tmp_path / "out")
    scores = []
    for one in (looked.bundle, looked.bundle.with_variant(None)):
        found, _ = run(question, replace(looked, bundle=one), parts, journal, lambda _: None)
        scores.append(found.datasets[0].operating.positive.flag.value)
        assert found.detector.variant == one.variant
    assert scores[0] != scores[1]
