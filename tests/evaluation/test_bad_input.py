"""What is wrong with a dataset, told by `discern evaluate` as it is typed: an error, or a caveat beside the figure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.detectors.packing import pack
from tests.commands import Ran
from tests.detectors import models
from tests.evaluation.conftest import flat

pytestmark = pytest.mark.system

Run = Callable[..., Ran]
Report = Callable[..., dict[str, Any]]


@pytest.fixture
def report(run: Run, tmp_path: Path) -> Report:
    def report(*arguments: object) -> dict[str, Any]:
        done = run("evaluate", *arguments, "-o", tmp_path / "out")
        assert done.code == 0, done.err
        tree: dict[str, Any] = json.loads((tmp_path / "out" / "report.json").read_text())
        return tree | {"said": done.out}

    return report


def frozen(run: Run, folder: Path, *options: object) -> Path:
    path = folder.parent / f"{folder.name}.json"
    done = run("dataset", "freeze", folder, "-l", "folder", "--positive", "bright", "-o", path, *options)
    assert done.code == 0, done.err
    return path


def test_one_class(run: Run, report: Report, pictures: Path) -> None:
    shutil.rmtree(pictures / "dark")
    tree = report("toy-cascade", "--data", pictures)
    (dataset,) = tree["datasets"]
    assert "cannot be told" in tree["verdict"]
    assert "There is no item of the class dark" in " ".join(dataset["caveats"])
    assert all(one["value"] is None and one["caveat"] for one in dataset["metrics"].values())
    assert (dataset["roc"], dataset["calibration"]["error"]["value"]) == ([], None)


def test_a_dataset_of_which_nothing_can_be_told_beside_one_that_is_fine(
    report: Report, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "bright", tmp_path / "alone" / "bright")
    tree = report("toy-cascade", "--data", pictures, "--data", tmp_path / "alone")
    assert "on pictures, the worst of 1 datasets with both classes," in tree["verdict"]
    assert "Of alone it cannot be told." in tree["verdict"]


def test_a_class_that_is_all_of_one_group(run: Run, report: Report, pictures: Path, tmp_path: Path) -> None:
    manifest = frozen(run, pictures, "-O", "group-pattern=^([a-z]+)/")
    tree = report("toy-cascade", "--data", manifest, "--root", pictures, "--compare", "toy-image")
    area = tree["datasets"][0]["metrics"]["auc"]
    assert "low" not in area
    assert "all positive items are of one group: no interval" in area["caveat"]
    judged = {one["comparison"]["measure"]: one["comparison"] for one in tree["compared"]}
    assert judged["area_under_roc"]["verdict"] == "not distinguishable"
    assert "p_value" not in judged["area_under_roc"]
    page, markdown = ((tmp_path / "out" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert page.count("all positive items are of one group: no interval") > 5
    assert "(no interval)" in markdown
    assert "()" not in markdown


def test_unreadable_files(run: Run, report: Report, pictures: Path, tmp_path: Path) -> None:
    (pictures / "dark" / "empty.png").write_bytes(b"")
    (pictures / "dark" / "cut.png").write_bytes((pictures / "dark" / "0000.png").read_bytes()[:60])
    refused = run("dataset", "freeze", pictures, "-l", "folder", "--positive", "bright", "-o", tmp_path / "m.json")
    assert refused.code == 1
    assert "dark/empty.png" in refused.err
    (dataset,) = report("toy-cascade", "--data", pictures)["datasets"]
    assert dataset["not_scored"] == {"unreadable_input": 1}
    assert dataset["items"] == 81
    said = " ".join(dataset["caveats"])
    assert "1 files could not be used and are left out: dark/empty.png" in said
    assert "1 of 81 items could not be judged (2.4% of the negatives, 0.0% of the positives)" in said


def test_the_same_person_on_both_sides(run: Run, report: Report, tmp_path: Path) -> None:
    for number in range(40):
        side = ("train", "test")[number % 2]
        flat(tmp_path / "people" / side / ("dark", "bright")[number // 20] / f"p{number // 2}_{side}.png", 128, number)
    manifest = frozen(run, tmp_path / "people", "-O", "group-pattern=/(p[0-9]+)_", "-O", "levels=split/class")
    tree = report("toy-cascade", "--data", manifest, "--root", tmp_path / "people", "--split", "test")
    (dataset,) = tree["datasets"]
    assert (dataset["split"], dataset["items"]) == ("test", 20)
    (leakage,) = dataset["leakage"]
    groups = [one for one in leakage["findings"] if one["kind"] == "same_group"]
    assert [(one["sides"], one["count"], one["leak"]) for one in groups] == [(["test", "train"], 20, True)]
    assert "Not to be relied on: people shares what it must not" in tree["verdict"]
    assert "it leaks. A group is on both sides. 20 between test and train." in tree["said"]


def test_pictures_of_the_training_data(run: Run, report: Report, pictures: Path, tmp_path: Path) -> None:
    train = tmp_path / "train"
    shutil.copytree(pictures, train)
    for path in list((train / "dark").iterdir())[3:]:
        path.unlink()
    against = frozen(run, train)
    (dataset,) = report("toy-cascade", "--data", pictures, "--against", against, "--against-root", train)["datasets"]
    within, between = dataset["leakage"]
    assert within["findings"] == []
    (same,) = [one for one in between["findings"] if one["kind"] == "same_content"]
    assert (same["count"], same["leak"]) == (43, True)


def test_labels_that_contradict_each_other(report: Report, pictures: Path) -> None:
    shutil.copy(pictures / "dark" / "0003.png", pictures / "bright" / "copy.png")
    tree = report("toy-cascade", "--data", pictures)
    assert "1 contents have both labels, such as dark/0003.png and bright/copy.png" in tree["said"]
    (leakage,) = tree["datasets"][0]["leakage"]
    assert [(one["kind"], one["count"]) for one in leakage["findings"]] == [("contradicting_labels", 1)]


@pytest.mark.parametrize("damage", ["changed", "broken", "gone"])
def test_files_that_changed(damage: str, run: Run, pictures: Path, tmp_path: Path) -> None:
    manifest = frozen(run, pictures)
    victim = pictures / "dark" / "0009.png"
    if damage == "gone":
        victim.unlink()
    elif damage == "broken":
        victim.write_bytes(victim.read_bytes()[:60])
    else:
        flat(victim, 250, 99)
    done = run("evaluate", "toy-cascade", "--data", manifest, "--root", pictures, "-o", tmp_path / "out")
    assert done.code == 1
    assert "not what was frozen" in done.err
    assert "dark/0009.png" in done.err
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_table_that_changed(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    columns: dict[str, Any] = {name: np.random.default_rng(1).normal(0, 1, 60) for name in "abc"}
    pq.write_table(pa.table(columns | {"label": np.arange(60) % 2}), folder / "t.parquet")
    manifest = tmp_path / "records.json"
    assert run("dataset", "freeze", folder, "-l", "table", "-o", manifest).code == 0
    pq.write_table(pa.table(columns | {"label": (np.arange(60) + 1) % 2}), folder / "t.parquet")
    done = run("evaluate", "toy-record", "--data", manifest, "--root", folder, "-o", tmp_path / "out")
    assert done.code == 1
    assert "not what was frozen" in done.err


def test_an_empty_side_and_an_empty_group(run: Run, pictures: Path, tmp_path: Path) -> None:
    manifest = frozen(run, pictures)
    done = run("evaluate", "toy-cascade", "--data", manifest, "--root", pictures, "--split", "test")
    assert done.code == 1
    assert "no item on the side test" in done.err
    done = run("evaluate", "toy-cascade", "--data", pictures, "--split", "other=test")
    assert done.code == 1
    assert "There is no dataset other" in done.err
    (pictures / "groups.csv").write_text("path,person\n" + "".join(f"dark/{n:04}.png,\n" for n in range(40)))
    options = ("-O", "groups=groups.csv", "--group", "person", "-o", tmp_path / "grouped.json")
    done = run("dataset", "freeze", pictures, "-l", "folder", "--positive", "bright", *options)
    assert done.code == 1
    assert "dark/0000.png no group" in done.err


def test_a_subgroup_of_one_class_is_measured_against_the_other_class_of_all(
    run: Run, report: Report, pictures: Path
) -> None:
    (pictures / "brighter").mkdir()
    for number in range(4):
        flat(pictures / "brighter" / f"{number}.png", 220, 700 + number)
    folder = pictures.rename(pictures.parent / "sources")
    path = folder.parent / "sources.json"
    classes = ("--positive", "bright,brighter", "-O", "negative=dark")
    assert run("dataset", "freeze", folder, "-l", "folder", *classes, "-o", path).code == 0
    (dataset,) = report("toy-cascade", "--data", path, "--root", folder)["datasets"]
    (table,) = dataset["subgroups"]
    lines = {one["name"]: one for one in table["lines"]}
    assert lines["brighter"]["caveat"] == "only 4 items"
    assert "against the negatives of the whole dataset" in lines["brighter"]["area_under_roc"]["caveat"]
    assert lines["brighter"]["flagged_negatives"]["value"] is None


def test_scores_that_are_no_numbers(run: Run, report: Report, tmp_path: Path) -> None:
    files = {**models.RECORD_FILES, "only.onnx": models.root_model()}
    bundle = pack(models.write_source(tmp_path / "source", models.record_manifest(), files), tmp_path / "bundle")
    random = np.random.default_rng(2)
    columns: dict[str, Any] = {name: random.normal(0, 1, 200) for name in "abc"}
    columns["label"] = columns["a"] + random.normal(0, 1, 200) > 0
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    (dataset,) = report(bundle.root, "--data", tmp_path / "t.parquet")["datasets"]
    failed = int((columns["a"] < 0).sum())
    assert dataset["not_scored"] == {"detector_failed": failed}
    assert "NaN" not in json.dumps(dataset)
    undecided = dataset["operating"]["negative"].get("undecided", 0) + dataset["operating"]["positive"].get(
        "undecided", 0
    )
    assert undecided == failed
    assert "no score and left out" in dataset["metrics"]["auc"]["caveat"]


def test_ten_items(report: Report, tmp_path: Path) -> None:
    for number, level in enumerate((90, 100, 140, 110, 150)):
        flat(tmp_path / "few" / "dark" / f"{number}.png", level, number)
        flat(tmp_path / "few" / "bright" / f"{number}.png", level + 15, 50 + number)
    tree = report("toy-cascade", "--data", tmp_path / "few")
    (dataset,) = tree["datasets"]
    assert "only 5 items of the class dark" in tree["said"]
    assert "only 5 positive items" in dataset["metrics"]["auc"]["caveat"]
    assert dataset["metrics"]["tpr_at_fpr_1_percent"]["value"] is None
