"""Labelled inputs, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.core.errors import CallerError, DatasetRefused
from discern.detectors.bundle import Bundle
from discern.detectors.packing import pack
from discern.evaluation.datasets import freeze, write_manifest
from discern.evaluation.platforms.sources import labelled_rows
from discern.evaluation.sources import Asked, source_of
from discern.inputs.faces import face_locator
from discern.inputs.types import InputLimits
from tests.detectors import models, networks
from tests.evaluation.platforms.conftest import ITEMS, manifest, rows_of, table, write_pictures


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("records")
    return pack(
        models.write_source(folder / "source", models.record_manifest(), models.RECORD_FILES), folder / "bundle"
    )


def test_the_same_folder_gives_the_same_rows_and_none_is_for_calibration_and_measuring(
    pictures: Path, bundle: Bundle, tmp_path: Path
) -> None:
    first = rows_of(pictures, bundle)
    elsewhere = tmp_path / pictures.name
    # Copied the other way round, so that the file system lists them otherwise.
    for path in sorted(pictures.rglob("*.png"), reverse=True):
        target = elsewhere / path.relative_to(pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    second = rows_of(elsewhere, bundle)
    assert first.sha256 == second.sha256
    assert np.array_equal(first.rows, second.rows)
    assert np.array_equal(first.labels, second.labels)
    assert len(first.rows) == ITEMS
    assert first.calibration == 2 * (ITEMS // 2 // 5)
    assert set(first.labels[: first.calibration].tolist()) == {0, 1}


def test_no_more_of_a_class_than_was_asked_for(pictures: Path, bundle: Bundle) -> None:
    assert np.bincount(rows_of(pictures, bundle, most=30).labels).tolist() == [30, 30]


def test_what_cannot_be_read_or_is_there_twice_is_left_out_and_said(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data", 20)
    (folder / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "dark" / "empty.png").write_bytes(b"")
    shutil.copy(folder / "dark" / "0000.png", folder / "dark" / "again.png")
    found = rows_of(folder, bundle)
    assert np.bincount(found.labels).tolist() == [10, 10]
    assert found.caveats == (
        "1 items are there twice and were left out",
        "1 items cannot be judged (unreadable_input) and were left out",
    )


def test_a_picture_in_both_classes_is_a_contradiction(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data", 20)
    shutil.copy(folder / "dark" / "0000.png", folder / "bright" / "0000.png")
    with pytest.raises(CallerError, match="both classes, so the labels contradict each other"):
        rows_of(folder, bundle)


def test_one_class_or_one_item_is_not_enough(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data", 4)
    for path in (folder / "dark").iterdir():
        path.unlink()
    with pytest.raises(CallerError, match="0 items of the class dark"):
        rows_of(folder, bundle)
    shutil.rmtree(folder / "bright")
    with pytest.raises(CallerError, match="has no folders dark and bright"):
        rows_of(folder, bundle)


def test_records_come_from_parquet_with_labels_in_numbers_or_words(records: Bundle, tmp_path: Path) -> None:
    positive, negative = records.manifest.classes.positive, records.manifest.classes.negative
    numbers = rows_of(table(tmp_path / "numbers.parquet"), records)
    words = rows_of(table(tmp_path / "words.parquet", label=[negative, positive] * 20), records)
    assert numbers.rows.dtype == np.float32
    assert numbers.rows.shape == (40, 3)
    assert np.array_equal(numbers.rows, words.rows)
    assert np.array_equal(numbers.labels, words.labels)


def test_records_that_cannot_be_judged_are_left_out_and_said(records: Bundle, tmp_path: Path) -> None:
    values = [float(place) for place in range(40)]
    values[3] = 1e9
    found = rows_of(table(tmp_path / "t.parquet", a=values), records)
    assert len(found.rows) == 39
    assert found.caveats == ("1 items cannot be judged (invalid_record) and were left out",)


def test_a_table_that_does_not_fit_is_refused(records: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DatasetRefused, match=r"other labels than .*maybe"):
        rows_of(table(tmp_path / "a.parquet", label=["maybe"] * 40), records)
    broken = tmp_path / "b.parquet"
    broken.write_bytes(b"no table")
    with pytest.raises(DatasetRefused, match=r"b\.parquet cannot be read"):
        rows_of(broken, records)
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(table(tmp_path / "c.parquet")).drop(["b"]), tmp_path / "c.parquet")
    with pytest.raises(DatasetRefused, match="no column b"):
        rows_of(tmp_path / "c.parquet", records)


def test_the_wrong_kind_of_data_is_refused(records: Bundle, bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CallerError):
        rows_of(pictures, records)
    with pytest.raises(CallerError):
        rows_of(table(tmp_path / "t.parquet"), bundle)


def test_a_face_is_cut_where_the_dataset_says_it_is(tmp_path: Path) -> None:
    """As in an evaluation: what stands in the manifest, and not what a finder of faces makes of the picture."""
    spec = {"kind": "image", "width": 32, "height": 32, "crop": "face", "face_margin": 0.0}
    files = {"only.onnx": networks.network(), "CARD.md": models.CARD.encode()}
    detector = pack(models.write_source(tmp_path / "source", manifest(input=spec), files), tmp_path / "bundle")
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["path,label,box"]
    for place in range(8):
        picture = np.full((100, 100, 3), 30 + place, np.uint8)
        picture[60:92, 50:82] = 220
        Image.fromarray(picture).save(folder / f"{place}.png")
        lines.append(f"{place}.png,{place % 2},50 60 32 32")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    frozen = freeze(folder, "table", {"path": "path", "crop": "box"})
    write_manifest(tmp_path / "frozen.json", frozen)
    asked = Asked(roots=(str(folder),))
    source = source_of(str(tmp_path / "frozen.json"), detector.manifest, asked, InputLimits())
    found = labelled_rows(source, detector.manifest, InputLimits(), face_locator(None), most=8)
    assert (found.rows == 220).all()
