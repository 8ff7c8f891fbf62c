"""The layouts of one's own data: folders, tables of paths, tar files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import freeze, open_items
from discern.evaluation.layouts.registry import LAYOUTS, layout_of
from tests.media import jpeg

Put = Callable[..., Path]


def test_every_layout_of_the_table_is_there_and_refuses_options_it_does_not_have(root: Path) -> None:
    for name in LAYOUTS:
        assert isinstance(layout_of(name).OPTIONS, dict)
        with pytest.raises(DatasetRefused, match="has no option nonsense"):
            freeze(root, name, {"nonsense": "1"})
    with pytest.raises(DatasetRefused, match="no layout 'other'"):
        layout_of("other")


@pytest.fixture
def folder(put: Put) -> None:
    for split in ("train", "test"):
        for source in ("a", "b"):
            for name in ("real", "fake"):
                put(f"{split}/{source}/{name}/one_{split}_1.jpg")
    put("README.jpg")


def test_folders_are_what_levels_says(root: Path, folder: None) -> None:
    manifest = freeze(root, "folder", {"positive": "fake", "levels": "split/source/class"})
    assert len(manifest.items) == 8
    one = next(item for item in manifest.items if item.id == "test/b/fake/one_test_1.jpg")
    assert (one.label, one.split, one.subgroups, one.group) == (1, "test", {"source": "b"}, one.id)
    assert manifest.classes == ("real", "fake")
    assert any("each file is a group" in caveat for caveat in manifest.caveats)
    assert any("1 files lie above" in caveat for caveat in manifest.caveats)


def test_splits_and_classes_are_known_by_the_names_of_splits(put: Put, root: Path) -> None:
    for path in ("train/open/1.jpg", "valid/closed/2.jpg"):
        put(path)
    manifest = freeze(root, "folder", {"positive": "closed"})
    assert [(item.split, item.label) for item in manifest.items] == [("train", 0), ("valid", 1)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "not said"),
        ({"positive": "forged"}, "no folder forged"),
        ({"positive": "fake", "negative": "fake"}, "no class or of both"),
        ({"positive": "fake", "levels": "split/source"}, "levels"),
        ({"positive": "fake", "group": "person"}, "only one"),
        ({"positive": "fake", "group-pattern": "("}, "regular expression"),
        ({"positive": "fake", "group-pattern": "nowhere(.)"}, "does not fit"),
    ],
)
def test_folders_that_are_not_explained_are_refused(
    root: Path, folder: None, options: dict[str, str], said: str
) -> None:
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "folder", {"levels": "split/source/class"} | options)


def test_groups_come_from_a_file_or_from_the_names(put: Put, root: Path) -> None:
    for path in ("no/1.jpg", "yes/1.jpg", "yes/2.jpg"):
        put(path)
    put("groups.csv", "class,file,person\nno,1.jpg,p1\nyes,1.jpg,p2\nyes,2.jpg,p2\n")
    by_file = freeze(root, "folder", {"positive": "yes", "groups": "groups.csv", "group": "person"})
    assert [item.group for item in by_file.items] == ["p1", "p2", "p2"]
    assert [file.path for file in by_file.files] == ["groups.csv"]
    by_name = freeze(root, "folder", {"positive": "yes", "group-pattern": "/([0-9])"})
    assert [item.group for item in by_name.items] == ["1", "1", "2"]
    put("groups.csv", "class,file,person\nno,1.jpg,p1\nyes,1.jpg,\n")
    with pytest.raises(DatasetRefused, match="no group"):
        freeze(root, "folder", {"positive": "yes", "groups": "groups.csv", "group": "person"})


def test_images_beside_videos_are_not_mixed(put: Put, root: Path) -> None:
    for path in ("real/1.jpg", "fake/2.mp4", "real/3.mp4"):
        put(path)
    with pytest.raises(DatasetRefused, match="one kind"):
        freeze(root, "folder", {"positive": "fake"})
    assert freeze(root, "folder", {"positive": "fake", "media": "video"}).kind == "video"


ROWS = "file,y,who,frames,box\na.jpg,fake,p1,0 5,1 2 30 40\nb.jpg,real,p2,,\n"


@pytest.mark.parametrize("parquet", [False, True])
def test_a_table_of_paths_brings_frames_and_crops(put: Put, root: Path, parquet: bool) -> None:
    for name in ("a.jpg", "b.jpg"):
        put(name)
    if parquet:
        rows = [line.split(",") for line in ROWS.splitlines()]
        columns = {name: [row[at] for row in rows[1:]] for at, name in enumerate(rows[0])}
        pq.write_table(pa.table(columns), root / "list.parquet")
    else:
        put("list.csv", ROWS)
    options = {"path": "file", "label": "y", "positive": "fake", "negative": "real", "group": "who"}
    first, second = freeze(root, "table", options | {"frames": "frames", "crop": "box"}).items
    assert (first.label, first.group, first.frames, first.crop) == (1, "p1", (0, 5), (1, 2, 30, 40))
    assert (second.label, second.frames, second.crop) == (0, None, None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("file,y,who\na.jpg,maybe,p1\n", "the label is 'maybe'"),
        ("file,y,who\na.jpg,fake,\n", "the group is empty"),
        ("file,y,who\n/etc/passwd,fake,p1\n", "not below the root"),
        ("file,y,who\n../a.jpg,fake,p1\n", "not below the root"),
        ("file,y\na.jpg,fake\n", "no column who"),
        ("file,y,who\na.jpg,fake\n", "other cells than the header"),
        ("file,y,who\na.jpg,fake,p1\na.jpg,fake,p1\n", "named twice"),
        ("file,y,who\nz.jpg,fake,p1\n", "cannot be used"),
    ],
)
def test_a_table_of_paths_that_is_wrong_is_refused(put: Put, root: Path, rows: str, said: str) -> None:
    put("a.jpg")
    put("list.csv", rows)
    options = {"path": "file", "label": "y", "positive": "fake", "negative": "real", "group": "who"}
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "table", options)


def test_what_is_at_stake_and_when_is_kept_and_must_be_a_number(put: Put, root: Path) -> None:
    put("a.jpg")
    options = {"path": "file", "amount": "x", "at": "day"}
    put("list.csv", "file,label,x,day\na.jpg,1,2.5,2018-01-02\n")
    (item,) = freeze(root, "table", options).items
    assert (item.amount, item.at) == (2.5, "2018-01-02")
    for wrong in ("nan", "much"):
        put("list.csv", f"file,label,x,day\na.jpg,1,{wrong},2018-01-02\n")
        with pytest.raises(DatasetRefused, match="row 1"):
            freeze(root, "table", options)


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))


def test_samples_of_tar_files_are_read_without_unpacking(root: Path) -> None:
    facts = json.dumps({"label": 1, "person": "p1"}).encode()
    shard(root / "train-000.tar", {"a.jpg": jpeg(1), "a.json": facts, "b.jpg": jpeg(2), "b.cls": b"0"})
    shard(root / "test-000.tar", {"c.left.jpg": jpeg(3), "c.json": facts})
    manifest = freeze(root, "webdataset")
    assert [(item.id, item.label, item.split) for item in manifest.items] == [
        ("test-000.tar!c.left.jpg", 1, "test"),
        ("train-000.tar!a.jpg", 1, "train"),
        ("train-000.tar!b.jpg", 0, "train"),
    ]
    assert [content for _, content in open_items(manifest, root)] == [jpeg(3), jpeg(1), jpeg(2)]
    assert sorted(path.name for path in root.iterdir()) == ["test-000.tar", "train-000.tar"]
    with pytest.raises(DatasetRefused, match="has no group"):
        freeze(root, "webdataset", {"group": "person"})


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.jpg": b"x"}, "label"),
        ({"a.jpg": b"x", "a.json": b"{"}, "cannot be read"),
        ({"a.jpg": b"x", "a.json": b"[1]"}, "not a JSON object"),
        ({"a.jpg": b"x", "a.png": b"y", "a.cls": b"1"}, "two samples"),
        ({"a.jpg": b"x", "a.cls": b"1"}, "cannot be used"),
    ],
)
def test_samples_that_are_wrong_are_refused(root: Path, members: dict[str, bytes], said: str) -> None:
    shard(root / "train.tar", members)
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "webdataset")


def test_a_file_that_is_no_tar_is_refused(put: Put, root: Path) -> None:
    put("train.tar", b"no archive at all" * 100)
    with pytest.raises(DatasetRefused, match="not a tar file"):
        freeze(root, "webdataset")


def test_frames_are_told_apart_by_video_and_are_a_group_of_their_own_without_another(put: Put, root: Path) -> None:
    for path in ("fake/1/a.png", "fake/1/b.png", "real/1/a.png"):
        put(path)
    manifest = freeze(root, "folder", {"positive": "fake", "levels": "class/video"})
    assert [(item.video, item.group) for item in manifest.items] == [
        ("fake/1", "fake/1"),
        ("fake/1", "fake/1"),
        ("real/1", "real/1"),
    ]
    assert any("the frames of each video are a group" in caveat for caveat in manifest.caveats)
    by_person = {"positive": "fake", "levels": "class/video", "group-pattern": "/([ab])[.]"}
    with pytest.raises(DatasetRefused, match="The video fake/1 is torn"):
        freeze(root, "folder", by_person)


def test_a_table_names_the_video_of_each_frame(put: Put, root: Path) -> None:
    for name in ("1a", "1b", "2a"):
        put(f"{name}.png")
    put("t.csv", "path,label,of\n1a.png,1,one\n1b.png,1,one\n2a.png,0,two\n")
    manifest = freeze(root, "table", {"path": "path", "video": "of"})
    assert [(item.video, item.group) for item in manifest.items] == [("one", "one"), ("one", "one"), ("two", "two")]
    put("t.csv", "path,label,of\n1a.png,1,one\n1b.png,1,\n2a.png,0,two\n")
    with pytest.raises(DatasetRefused, match="row 2: the video is empty"):
        freeze(root, "table", {"path": "path", "video": "of"})
