"""Datasets that nobody meant well with: an error that says what, where and how to mend, or a caveat; never a crash."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import examples_of, freeze, read_manifest, with_split, write_manifest
from discern.evaluation.types_datasets import FrozenManifest, SplitByGroup
from tests.commands import Ran
from tests.evaluation.conftest import Put, flat
from tests.media import jpeg

Run = Callable[..., Ran]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def faces(put: Put, root: Path) -> FrozenManifest:
    for person in range(6):
        for name in ("real", "fake"):
            put(f"{name}/p{person}_1.jpg")
    return freeze(root, "folder", {"positive": "fake", "group-pattern": "/(p[0-9]+)_"}, name="faces")


def records(count: int = 60) -> dict[str, Any]:
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {name: random.normal(0, 1, count) for name in "abc"}
    return columns | {"label": np.arange(count) % 2}


def frozen_table(folder: Path, columns: Any, **options: str) -> FrozenManifest:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), folder / "t.parquet")
    return freeze(folder, "table", {"file": "t.parquet", **options})


def test_a_name_that_is_not_utf_8_is_refused_by_name(put: Put, root: Path) -> None:
    put("fake/a.jpg")
    (root / "fake" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(7))
    with pytest.raises(DatasetRefused, match=re.escape(r"1 names are not UTF-8: fake/caf\xe9.jpg")):
        freeze(root, "folder", {"positive": "fake"}, leave_out_unreadable=True)


def test_a_folder_whose_own_name_is_not_utf_8_needs_a_name(put: Put, root: Path) -> None:
    put("fake/a.jpg")
    put("real/a.jpg")
    other = root.rename(root.parent / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DatasetRefused, match=r"not UTF-8: caf\\xe9"):
        freeze(other, "folder", {"positive": "fake"})
    assert freeze(other, "folder", {"positive": "fake"}, name="named").name == "named"


def test_json_nested_too_deep_is_no_list_no_sample_and_no_manifest(root: Path) -> None:
    with tarfile.open(root / "s.tar", "w") as archive:
        for name, content in (("0.png", jpeg(1)), ("0.json", f'{{"label": {DEEP}}}'.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DatasetRefused, match=r"s\.tar!0\.json cannot be read"):
        freeze(root, "webdataset")
    (root / "dataset.json").write_text(f'{{"a": {DEEP}}}')
    with pytest.raises(DatasetRefused, match=r"dataset\.json is not JSON"):
        freeze(root, "dfdc-preview")
    with pytest.raises(DatasetRefused, match="is no frozen manifest"):
        read_manifest(root / "dataset.json")


@pytest.mark.parametrize("twice", ["a", "label"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_refused(twice: str, kind: str, root: Path) -> None:
    columns = records()
    names = [*columns, twice]
    table = pa.table([pa.array(columns[name]) for name in columns] + [pa.array(columns[twice])], names=names)
    if kind == "parquet":
        pq.write_table(table, root / "t.parquet")
    else:
        lines = [",".join(map(str, row)) for row in zip(*(table.column(i).to_pylist() for i in range(5)), strict=True)]
        (root / "t.csv").write_text("\n".join([",".join(names), *lines]))
    with pytest.raises(DatasetRefused, match=f"t.{kind} has the column {twice} twice"):
        freeze(root, "table")


def test_a_list_of_files_with_a_column_twice_is_refused(put: Put, root: Path) -> None:
    put("a.jpg")
    (root / "t.csv").write_text("path,label,label\na.jpg,0,1\n")
    with pytest.raises(DatasetRefused, match=r"t\.csv has the column label twice"):
        freeze(root, "table", {"path": "path"})


@pytest.mark.parametrize("role", ["label", "group", "split", "amount", "at", "card", "subgroups"])
def test_a_role_whose_column_holds_lists_is_refused(role: str, root: Path) -> None:
    columns = records() | {"bad": pa.array([[1]] * 60)}
    with pytest.raises(DatasetRefused, match="bad holds"):
        frozen_table(root, columns, **{role: "bad"})


def test_a_group_that_is_no_number_is_one_that_misses(root: Path) -> None:
    columns = records() | {"who": np.r_[np.arange(57.0), np.full(3, np.nan)]}
    with pytest.raises(DatasetRefused, match=r"who: 3 rows have no value, the first is t\.parquet#57"):
        frozen_table(root, columns, group="who")


@pytest.mark.system
def test_a_field_of_another_type_is_refused_and_never_taken_for_missing(run: Run, root: Path, tmp_path: Path) -> None:
    for bad in (pa.array([{"x": 1}] * 60), pa.array([[1.0]] * 60), pa.array(np.arange(60), pa.timestamp("s"))):
        pq.write_table(pa.table(records() | {"a": bad}), root / "t.parquet")
        done = run("evaluate", "toy-record", "--data", root / "t.parquet", "-o", tmp_path / "out")
        assert done.code == 1
        assert "a holds" in done.err
        assert "Traceback" not in done.err


@pytest.mark.system
def test_columns_of_any_type_beside_the_fields_do_no_harm(run: Run, root: Path, tmp_path: Path) -> None:
    beside = {
        "embedding": pa.array([[float(n), 1.0] for n in range(60)]),
        "facts": pa.array([{"x": n} for n in range(60)]),
        "raw": pa.array([bytes([n, 255]) for n in range(60)]),
        "clock": pa.array(np.arange(60, dtype=np.int32)).cast(pa.time32("s")),
        "took": pa.array(np.arange(60), pa.duration("s")),
        "nothing": pa.nulls(60),
        "money": pa.array(np.arange(60)).cast(pa.decimal128(22, 2)),
    }
    columns = records() | beside
    # Numbers as pandas writes a column of categories.
    columns["b"] = pa.array([str(value) for value in columns["b"]]).dictionary_encode()
    pq.write_table(pa.table(columns), root / "t.parquet")
    done = run("evaluate", "toy-record", "--data", root / "t.parquet", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    (dataset,) = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"]
    assert dataset["not_scored"] == {}


def test_times_have_zones_and_what_is_no_time_is_refused(put: Put, root: Path) -> None:
    put("a.jpg")
    put("b.jpg")
    lines = ["path,label,at", "a.jpg,0,2020-01-01T00:30:00+02:00", "b.jpg,1,2020-01-01"]
    (root / "t.csv").write_text("\n".join(lines))
    found = examples_of(freeze(root, "table", {"path": "path", "at": "at"}))
    assert found.days is not None
    assert np.datetime_as_string(found.days.astype("datetime64[D]")).tolist() == ["2019-12-31", "2020-01-01"]
    (root / "t.csv").write_text("\n".join([*lines[:2], "b.jpg,1,NaT"]))
    with pytest.raises(DatasetRefused, match=r"b\.jpg: 'NaT' is no ISO 8601 time"):
        examples_of(freeze(root, "table", {"path": "path", "at": "at"}))


def test_a_group_is_its_whole_name_and_a_long_one_costs_its_own_length(faces: FrozenManifest) -> None:
    names = ["a", "a\0", "b" * 3_000_000, "a"]
    items = tuple(msgspec.structs.replace(item, group=names[place % 4]) for place, item in enumerate(faces.items))
    made = msgspec.structs.replace(faces, items=items)
    assert examples_of(made).groups.tolist() == [0, 1, 2, 0] * 3
    sides = with_split(made, SplitByGroup(1, {"one": 0.5, "other": 0.5}))
    assert len({(item.group, item.split) for item in sides.items}) == 3


TABLE = {"paths": ["t.csv"], "columns": {"label": "x"}, "rows": 1, "kept": 1, "positives": 0, "groups": 1}
EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "are named twice": lambda tree: tree["items"].insert(1, tree["items"][0]),
    "are not in the order of their names": lambda tree: tree["items"].reverse(),
    "an item has no name": lambda tree: tree["items"][0].update(id=""),
    "fake/p0_1.jpg has no group": lambda tree: tree["items"][0].update(group=""),
    "fake/p0_1.jpg has a crop without an area": lambda tree: tree["items"][0].update(crop=[5, 5, 0, 9]),
    "fake/p0_1.jpg names a frame before the first": lambda tree: tree["items"][0].update(frames=[-1]),
    "the two classes have one name": lambda tree: tree.update(classes=["x", "x"]),
    "it has no name": lambda tree: tree.update(name=""),
    "of records without a table": lambda tree: tree.update(kind="record"),
    "of images with a table": lambda tree: tree.update(table=TABLE),
    "a table of no file": lambda tree: [tree.update(kind="record", table=TABLE | {"paths": []}), tree.pop("items")],
}


@pytest.mark.parametrize("says", EDITS)
def test_a_manifest_that_contradicts_itself_is_refused(says: str, faces: FrozenManifest, tmp_path: Path) -> None:
    tree = json.loads(faces.encoded)
    EDITS[says](tree)
    edited = msgspec.json.decode(json.dumps(tree), type=FrozenManifest)
    write_manifest(tmp_path / "edited.json", edited)
    with pytest.raises(DatasetRefused, match=re.escape(says)):
        read_manifest(tmp_path / "edited.json")


@pytest.mark.system
def test_classes_the_wrong_way_round_are_refused(run: Run, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    assert run("dataset", "freeze", pictures, "-l", "folder", "--positive", "dark", "-o", path).code == 0
    for command in (("evaluate",), ("thresholds", "--miss", 5)):
        done = run(*command, "toy-cascade", "--data", path, "--root", pictures, "-o", tmp_path / "out")
        assert done.code == 1
        assert "takes bright for positive, pictures dark" in done.err


@pytest.mark.system
def test_what_a_dataset_says_moves_nothing_on_the_terminal(run: Run, root: Path, tmp_path: Path) -> None:
    for number in range(12):
        flat(
            root / ("dark", "bright")[number % 2] / f"\x1b[2J{number}\nNote: all is well.png", 50 * (number % 2), number
        )
    (root / "dark" / "\x1b[2Jcut.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    done = run("evaluate", "toy-cascade", "--data", f"{root}", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert not any(line.startswith("Note: all is well") for line in done.out.splitlines())
    name = "x\x1b[2J\nall is well"
    path = tmp_path / "m.json"
    assert run("dataset", "freeze", root, "-l", "folder", "--positive", "bright", "--name", name, "-o", path).code == 0
    done = run("evaluate", "toy-cascade", "--data", path, "--root", root, "--replace", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert "all is well" not in done.out.splitlines()
    done = run("evaluate", "toy-cascade", "--data", path, "--root", root, "--plan")
    assert "\x1b" not in done.out


@pytest.mark.system
def test_two_datasets_whose_names_are_alike_keep_a_manifest_each(run: Run, pictures: Path, tmp_path: Path) -> None:
    long = "n" * 250
    folders = [tmp_path / name for name in ("a b", "a_b", long, f"{long[:-1]}m")]
    for place, folder in enumerate(folders):
        for number in range(4):
            flat(folder / ("dark", "bright")[number % 2] / f"{number}.png", 90 * (number % 2), 10 * place + number)
    options = [word for folder in folders for word in ("--data", folder)]
    done = run("evaluate", "toy-cascade", *options, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    kept = {read_manifest(path).sha256 for path in (tmp_path / "out").glob("*.manifest.json")}
    assert kept == {one["manifest_sha256"] for one in tree["datasets"]}
    assert (tmp_path / "out" / "a_b.manifest.json").exists()
