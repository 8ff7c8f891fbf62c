"""Frozen manifests: pinned by their digest, read back as they were, opened while their files hold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.core.errors import DatasetRefused, MissingExtra
from discern.evaluation.datasets import (
    check_files,
    examples_of,
    freeze,
    open_items,
    read_manifest,
    with_split,
    write_manifest,
)
from discern.evaluation.types_datasets import Change, FrozenManifest, SplitByGroup, SplitByTime
from tests.media import clip, jpeg

Put = Callable[..., Path]


@pytest.fixture
def faces(put: Put, root: Path) -> FrozenManifest:
    for person in range(12):
        for name in ("real", "fake"):
            put(f"{name}/p{person}_1.jpg")
    return freeze(root, "folder", {"positive": "fake", "group-pattern": "/(p[0-9]+)_"}, name="faces")


def test_the_same_files_make_the_same_manifest_wherever_they_lie(
    faces: FrozenManifest, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "elsewhere")
    again = freeze(tmp_path / "elsewhere", "folder", faces.options, name="faces")
    assert again.encoded == faces.encoded
    assert again.sha256 == faces.sha256
    assert str(tmp_path) not in faces.encoded.decode()


def test_a_manifest_is_read_back_and_only_as_it_was_written(faces: FrozenManifest, tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    write_manifest(path, faces)
    assert read_manifest(path, faces.sha256) == faces
    with pytest.raises(DatasetRefused, match="has the digest"):
        read_manifest(path, "0" * 64)
    with pytest.raises(DatasetRefused, match="there already"):
        write_manifest(path, faces)
    path.write_bytes(faces.encoded.replace(b'"label":1', b'"label":0', 1) + b" ")
    with pytest.raises(DatasetRefused, match="was changed"):
        read_manifest(path)
    path.write_text("{")
    with pytest.raises(DatasetRefused, match="no frozen manifest"):
        read_manifest(path)
    with pytest.raises(DatasetRefused, match="cannot be read"):
        read_manifest(tmp_path / "nowhere.json")


def test_a_manifest_that_was_edited_by_hand_has_another_digest(faces: FrozenManifest, tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    path.write_bytes(faces.encoded.replace(b'"label":1', b'"label":0', 1))
    assert read_manifest(path).sha256 != faces.sha256


def test_a_manifest_of_somebody_else_opens_nothing_outside_the_root(
    faces: FrozenManifest, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.jpg").write_bytes(jpeg(1))
    for path in ("../outside.jpg", str(tmp_path / "outside.jpg")):
        item = msgspec.structs.replace(faces.items[0], id=path, sha256=hashlib.sha256(jpeg(1)).hexdigest())
        odd = msgspec.structs.replace(faces, items=(item,))
        assert check_files(odd, root) == [Change(path, "missing")]
        with pytest.raises(DatasetRefused, match="not what was frozen"):
            list(open_items(odd, root))


def test_a_split_has_a_digest_of_its_own(faces: FrozenManifest) -> None:
    before = faces.sha256
    assert with_split(faces, SplitByGroup(1, {"train": 0.5, "test": 0.5})).sha256 != before == faces.sha256


def test_examples_and_items_come_in_the_same_order(faces: FrozenManifest, root: Path) -> None:
    split = with_split(faces, SplitByGroup(1, {"train": 0.5, "test": 0.5}))
    examples = examples_of(split, "test")
    opened = list(open_items(split, root, "test"))
    assert examples.ids == tuple(item.id for item, _ in opened)
    assert examples.labels.tolist() == [item.label for item, _ in opened]
    assert [content for _, content in opened] == [(root / item.id).read_bytes() for item, _ in opened]
    assert (examples.dataset, examples.manifest_sha256) == ("faces", split.sha256)
    with pytest.raises(DatasetRefused, match=r"no item on the side holdout\. The sides are: test, train"):
        examples_of(split, "holdout")


def test_files_that_changed_are_named(faces: FrozenManifest, root: Path) -> None:
    assert check_files(faces, root) == []
    (root / "fake/p3_1.jpg").write_bytes(jpeg(99))
    (root / "real/p5_1.jpg").unlink()
    assert check_files(faces, root) == [Change("fake/p3_1.jpg", "changed"), Change("real/p5_1.jpg", "missing")]
    with pytest.raises(DatasetRefused, match="not what was frozen") as refused:
        list(open_items(faces, root))
    assert refused.value.facts["files"] == ["fake/p3_1.jpg"]


def test_videos_are_opened_as_paths_and_their_frames_can_be_named(put: Put, root: Path) -> None:
    put("real/1.mp4", clip(12))
    put("fake/1.mp4", clip(13))
    manifest = freeze(root, "folder", {"positive": "fake"}, frames=4)
    assert [item.frames for item in manifest.items] == [(1, 4, 8, 11), (1, 4, 7, 10)]
    assert [content for _, content in open_items(manifest, root)] == [root / "fake/1.mp4", root / "real/1.mp4"]


def test_files_that_cannot_be_used_are_an_error_or_a_caveat(put: Put, root: Path) -> None:
    for path in ("real/1.jpg", "fake/1.jpg"):
        put(path)
    put("real/2.jpg", b"")
    put("fake/3.jpg", clip(2))
    put("fake/4.jpg", b"text")
    with pytest.raises(DatasetRefused, match="3 of 5 files cannot be used") as refused:
        freeze(root, "folder", {"positive": "fake"})
    assert refused.value.facts["files"] == ["fake/3.jpg", "fake/4.jpg", "real/2.jpg"]
    manifest = freeze(root, "folder", {"positive": "fake"}, leave_out_unreadable=True)
    assert [item.id for item in manifest.items] == ["fake/1.jpg", "real/1.jpg"]
    assert any(caveat.startswith("3 files could not be used") for caveat in manifest.caveats)


def test_what_the_data_do_not_allow_is_said_where_they_are_frozen(put: Put, root: Path) -> None:
    put("fake/1.jpg", jpeg(1))
    put("fake/2.jpg", jpeg(2))
    only_one = freeze(root, "folder", {"positive": "fake", "negative": "real"})
    assert any("no item of the class real" in caveat for caveat in only_one.caveats)
    assert any("only 2 items of the class fake" in caveat for caveat in only_one.caveats)
    assert any("only 2 groups" in caveat for caveat in only_one.caveats)
    put("real/1.jpg", jpeg(1))
    contradicting = freeze(root, "folder", {"positive": "fake"})
    assert any("both labels, such as real/1.jpg and fake/1.jpg" in caveat for caveat in contradicting.caveats)


@pytest.fixture
def payments(root: Path) -> FrozenManifest:
    number = np.arange(400)
    table = {
        "label": (number % 20 == 0).astype(np.int64),
        "card": number % 40,
        "day": pa.array((number // 20).astype(np.int32), pa.date32()),
        "amount": number / 4,
    }
    pq.write_table(pa.table(table), root / "payments.parquet", row_group_size=64)
    return freeze(root, "table", {"group": "card", "at": "day", "amount": "amount", "card": "card"})


def test_records_are_pinned_by_their_file_and_their_columns(payments: FrozenManifest, root: Path) -> None:
    table = payments.table
    assert table is not None
    assert (table.rows, table.kept, table.positives, table.groups) == (400, 400, 20, 40)
    assert len(payments.encoded) < 2000
    examples_of(payments, root=root)
    with pytest.raises(DatasetRefused, match="Name the folder"):
        examples_of(payments)
    pq.write_table(pa.table({"label": [0]}), root / "payments.parquet")
    with pytest.raises(DatasetRefused, match=r"not what was frozen, 0 gone: payments\.parquet"):
        examples_of(payments, root=root)


def test_records_are_split_by_the_rule_that_the_manifest_holds(payments: FrozenManifest, root: Path) -> None:
    by_group = with_split(payments, SplitByGroup(3, {"train": 0.75, "test": 0.25}), root)
    train, test = (examples_of(by_group, side, root) for side in ("train", "test"))
    assert not set(train.groups.tolist()) & set(test.groups.tolist())
    assert len(train.ids) + len(test.ids) == 400
    by_time = with_split(
        payments, SplitByTime({"train": ("1970-01-01", "1970-01-07"), "test": ("1970-01-15", "1970-01-16")}, 7), root
    )
    assert sorted(set(days(by_time, "test", root))) == [14, 15]
    with pytest.raises(DatasetRefused, match="Nothing went to test"):
        with_split(payments, SplitByTime({"train": ("1970-01-01", "1970-01-07"), "test": ("1980-01-15",) * 2}), root)


def days(manifest: FrozenManifest, split: str, root: Path) -> list[int]:
    found = examples_of(manifest, split, root).days
    assert found is not None
    return [int(day) for day in found]


def test_media_without_times_are_not_split_by_time(faces: FrozenManifest) -> None:
    with pytest.raises(DatasetRefused, match="no times"):
        with_split(faces, SplitByTime({"a": ("2018-01-01", "2018-01-02"), "b": ("2018-01-03", "2018-01-04")}))


def test_without_pyarrow_the_extra_is_named(put: Put, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("t.csv", "label\n1\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'discern-detectors\[evaluate\]'"):
        freeze(root, "table")


def test_the_manifest_holds_sorted_keys_and_no_defaults(faces: FrozenManifest) -> None:
    plain = json.loads(faces.encoded)
    assert list(plain) == sorted(plain)
    assert plain["items"][0].keys() == {"id", "label", "sha256", "group"}
    assert msgspec.json.decode(faces.encoded, type=FrozenManifest) == faces
