"""`discern dataset` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands import Run
from tests.media import jpeg

Put = Callable[..., Path]


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DISCERN_HOME", str(tmp_path / "no-home"))
    return partial(run, "dataset")


@pytest.fixture
def faces(put: Put) -> None:
    for person in range(10):
        put(f"real/p{person}_1.jpg")
        put(f"fake/p{person}_1.jpg")


FREEZE = ("--layout", "folder", "--positive", "fake", "-O", "group-pattern=/(p[0-9])_")


def test_a_dataset_is_frozen_shown_split_and_checked(run: Run, root: Path, faces: None, tmp_path: Path) -> None:
    frozen, split = tmp_path / "faces.json", tmp_path / "split.json"
    done = run("freeze", root, *FREEZE, "-o", frozen, "--name", "faces")
    assert (done.code, done.err) == (0, f"Wrote {frozen}.\n")
    said = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert said["Items"] == "20 images, 10 groups"
    assert said["Classes"] == "real: 10; fake: 10"
    shown = run("show", frozen, "--sha256", said["Digest"], "--json")
    assert json.loads(shown.out)["sha256"] == said["Digest"]
    assert run("split", frozen, "--share", "train=.5", "--share", "test=.5", "-o", split).code == 0
    assert "Side       test: 10, 5 of them positive" in run("show", split).out
    checked = run("check", split, root)
    assert (checked.code, checked.out.splitlines()[0]) == (0, "Every file is what was frozen.")
    assert checked.out.splitlines()[-1].endswith("No leak.")
    assert not (tmp_path / "no-home").exists()


def test_check_fails_where_sides_share_something_or_files_changed(
    run: Run, root: Path, faces: None, tmp_path: Path
) -> None:
    for side in ("train", "test"):
        for name in ("real", "fake"):
            path = root / side / name / f"{side}.jpg"
            path.parent.mkdir(parents=True)
            path.write_bytes(jpeg(1 if name == "real" else len(side)))
    sided = ("-l", "folder", "--positive", "fake", "-O", "levels=split/class")
    for name in ("real", "fake"):
        for path in (root / name).iterdir():
            path.unlink()
    assert run("freeze", root, *sided, "-o", tmp_path / "m.json").code == 0
    leaking = run("check", tmp_path / "m.json", root)
    assert leaking.code == 1
    assert "LEAK: The same file is on both sides. 1 (test and train)" in leaking.out
    assert "test/real/test.jpg  train/real/train.jpg" in leaking.out
    (root / "train/real/train.jpg").write_bytes(jpeg(7))
    broken = run("check", tmp_path / "m.json", root, "--json")
    assert broken.code == 1
    assert json.loads(broken.out) == {
        "changes": [{"path": "train/real/train.jpg", "what": "changed"}],
        "leakage": None,
    }


def test_two_datasets_are_checked_against_each_other(run: Run, root: Path, faces: None, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("freeze", root, *FREEZE, "--name", name, "-o", tmp_path / f"{name}.json").code == 0
    done = run("check", tmp_path / "one.json", root, "--against", tmp_path / "two.json", "--no-pictures")
    assert done.code == 1
    assert "LEAK: The same file is on both sides. 20 (one and two)" in done.out


def test_a_manifest_beside_its_files_needs_no_folder_named(run: Run, root: Path, faces: None) -> None:
    manifest = root / "faces.json"
    assert run("freeze", root, *FREEZE, "-o", manifest).code == 0
    done = run("check", manifest)
    assert (done.code, done.out.splitlines()[0]) == (0, "Every file is what was frozen.")
    done = run("split", manifest, "--share", "train=.5", "--share", "test=.5", "--seed", 4, "-o", root / "s.json")
    assert done.code == 0, done.err
    pq.write_table(pa.table({"label": [0, 1] * 20, "day": pa.array(range(40), pa.date32())}), root / "t.parquet")
    assert run("freeze", root, "-l", "table", "-O", "at=day", "-O", "file=t.parquet", "-o", root / "t.json").code == 0
    days = ("--period", "train=1970-01-01..1970-01-03", "--period", "test=1970-01-06..1970-01-07")
    done = run("split", root / "t.json", *days, "-o", root / "u.json")
    assert "Side       test: 2, 1 of them positive" in done.out, done.err


def test_records_are_frozen_and_split_by_time(run: Run, root: Path, tmp_path: Path) -> None:
    day = [number // 4 for number in range(40)]
    columns = {"fraud": [number % 4 == 0 for number in range(40)], "day": pa.array(day, pa.date32()), "card": day}
    pq.write_table(pa.table(columns), root / "payments.parquet")
    frozen, split = tmp_path / "p.json", tmp_path / "s.json"
    options = ("--label", "fraud", "--group", "card", "-O", "at=day")
    done = run("freeze", root, "-l", "table", *options, "-o", frozen)
    assert "Records    40 of 40 rows in 1 files, 10 groups" in done.out
    periods = ("--period", "train=1970-01-01..1970-01-03", "--period", "test=1970-01-06..1970-01-07")
    done = run("split", frozen, "--root", root, *periods, "--delay-days", "2", "-o", split)
    assert "Side       test: 8, 2 of them positive" in done.out
    assert "Side       in none: 20" in done.out
    assert "Sides      by time, at least 2 days apart: train 1970-01-01 to 1970-01-03, test 1970-01-06" in done.out
    assert run("split", frozen, "--root", root, *periods, "--delay-days", "3", "-o", tmp_path / "t.json").code == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("freeze", "nowhere", "-l", "folder", "-o", "m.json"), 1, "not a folder"),
        (("freeze", ".", "-l", "other", "-o", "m.json"), 1, "no layout 'other'"),
        (("freeze", ".", "-l", "folder", "-o", "m.json", "-O", "levels"), 2, "KEY=VALUE"),
        (("show", "nowhere.json"), 1, "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    done = run(*words)
    assert done.code == code
    assert said in done.err


def test_a_split_needs_shares_or_periods(run: Run, root: Path, faces: None, tmp_path: Path) -> None:
    assert run("freeze", root, *FREEZE, "-o", tmp_path / "m.json").code == 0
    for words in ((), ("--share", "a=much"), ("--share", "a=1", "--period", "b=2018-01-01")):
        assert run("split", tmp_path / "m.json", "-o", tmp_path / "s.json", *words).code == 2
    assert run("split", tmp_path / "m.json", "-o", tmp_path / "s.json", "--share", "a=1").code == 1


def test_layouts_say_what_they_take(run: Run) -> None:
    assert "faceforensics" in run("layouts").out
    assert "compression" in run("layouts", "faceforensics").out
    assert run("layouts", "other").code == 1
