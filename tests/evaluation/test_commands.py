"""`discern evaluate` as it is typed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.evaluation.datasets import read_manifest
from tests.commands import Run
from tests.evaluation.conftest import make_folder

pytestmark = pytest.mark.system


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    """Records of toy-record with a label that goes with them, a person, and a row that no detector takes."""
    random = np.random.default_rng(4)
    columns: dict[str, Any] = {name: random.normal(0, 1, 40_000) for name in "abc"}
    columns["label"] = columns["a"] - 2 * columns["b"] + random.normal(0, 2, 40_000) > 1
    columns["person"] = random.integers(0, 900, 40_000)
    columns["a"][7] = 1e6
    path = tmp_path / "payments.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=7000)
    return path


def test_a_folder_is_planned_evaluated_and_evaluated_again_to_the_same_bytes(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    planned = run("evaluate", "toy-cascade", "--data", pictures, "-o", out, "--plan")
    assert planned.code == 0
    assert "80 items, 40 positive" in planned.out
    assert not out.exists()
    done = run("evaluate", "toy-cascade", "--data", pictures, "-o", out)
    assert (done.code, done.err) == (0, "")
    assert "toy-cascade 1.0.0 has an AUC of" in done.out
    written = {"pictures.manifest.json", "report.html", "report.json", "report.md", "timings.json"}
    assert {path.name for path in out.iterdir()} == written
    manifest = read_manifest(out / "pictures.manifest.json")
    first = (out / "report.json").read_bytes()
    refused = run("evaluate", "toy-cascade", "--data", pictures, "-o", out)
    assert refused.code == 1
    assert "nothing is overwritten" in refused.err
    assert run("evaluate", "toy-cascade", "--data", pictures, "-o", out, "--replace").code == 0
    assert (out / "report.json").read_bytes() == first
    tree = json.loads(first)
    assert tree["datasets"][0]["manifest_sha256"] == manifest.sha256
    assert tree["command"] == "discern evaluate toy-cascade --data pictures --seed 1"
    assert str(tmp_path) not in first.decode()


def test_a_frozen_manifest_is_evaluated_to_the_same_bytes_by_any_number_of_threads(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "pictures.json"
    assert run("dataset", "freeze", pictures, "-l", "folder", "--positive", "bright", "-o", made).code == 0
    split = tmp_path / "split.json"
    shares = ("--share", "train=0.5", "--share", "test=0.5")
    assert run("dataset", "split", made, *shares, "-o", split).code == 0
    reports = []
    for threads in (1, 3):
        monkeypatch.setenv("DISCERN_DETECTION_THREADS", str(threads))
        out = tmp_path / f"out{threads}"
        data = ("--data", f"mine={split}", "--root", f"mine={pictures}", "--split", "mine=test")
        done = run("evaluate", "toy-cascade", *data, "--compare", "toy-image", "-o", out)
        assert (done.code, done.err) == (0, "")
        reports.append((out / "report.json").read_bytes())
        assert not list(out.glob("*.manifest.json"))
        assert json.loads((out / "timings.json").read_text())["threads"] == threads
    assert reports[0] == reports[1]
    tree = json.loads(reports[0])
    (dataset,) = tree["datasets"]
    assert dataset["manifest_sha256"] == read_manifest(split).sha256
    assert (dataset["name"], dataset["split"]) == ("mine", "test")
    assert 30 < dataset["items"] < 50
    assert "near_duplicate" in dataset["leakage"][0]["checked"]
    assert [one["name"] for one in dataset["cascade"]["stages"]] == tree["detector"]["stages"]
    assert {one["comparison"]["measure"] for one in tree["compared"]} == {
        "area_under_roc",
        "average_precision",
        "accuracy of flagging",
    }
    words = "--data mine=split.json --root mine=pictures --split mine=test"
    assert tree["command"] == f"discern evaluate toy-cascade {words} --compare toy-image --seed 1"


def test_cards_and_days_give_the_share_of_what_is_found_among_those_looked_at(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    columns: dict[str, Any] = {name: random.normal(0, 1, 3000) for name in "abc"}
    columns["label"] = (columns["a"] - 2 * columns["b"] + random.normal(0, 2, 3000) > 4).astype(int)
    columns["card"] = random.integers(0, 400, 3000)
    columns["at"] = [f"2024-03-0{1 + row % 5}T10:00:00" for row in range(3000)]
    folder = tmp_path / "records"
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "t.parquet")
    manifest = tmp_path / "records.json"
    roles = ("--group", "card", "-O", "card=card", "-O", "at=at")
    assert run("dataset", "freeze", folder, "-l", "table", *roles, "-o", manifest).code == 0
    done = run("evaluate", "toy-record", "--data", manifest, "--root", folder, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    (dataset,) = json.loads((tmp_path / "out" / "report.json").read_text())["datasets"]
    assert 0 < dataset["metrics"]["card_precision_at_100"]["value"] < 1
    assert b"Card precision at 100" in (tmp_path / "out" / "report.html").read_bytes()


def test_platforms_stand_in_the_report_and_their_times_apart(run: Run, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "mine", 12)
    reports = []
    for number in range(2):
        out = tmp_path / str(number)
        done = run("evaluate", "toy-image", "--data", data, "--platforms", "-o", out)
        assert done.code == 0, done.err
        reports.append((out / "report.json").read_bytes())
    assert reports[0] == reports[1]
    row = json.loads(reports[0])["platforms"]["rows"][0]
    assert (row["variant"], row["runtime"], row["latency_p50_milliseconds"]) == ("fp32", "onnxruntime", None)
    (timed, *_) = json.loads((tmp_path / "0" / "timings.json").read_text())["platforms"]["rows"]
    assert timed["latency_p50_milliseconds"] > 0
    assert b"<h2>Platforms</h2>" in (tmp_path / "0" / "report.html").read_bytes()


def test_a_side_of_a_dataset_is_tried_apart_from_the_others(run: Run, pictures: Path, tmp_path: Path) -> None:
    """Both sides have the same rows of one manifest, and both are scored in one folder."""
    for side in ("train", "test"):
        for name in ("dark", "bright"):
            (tmp_path / "sides" / side / name).mkdir(parents=True)
    for number, path in enumerate(sorted(pictures.glob("*/*"))):
        path.rename(tmp_path / "sides" / ("train", "test")[number % 2] / path.parent.name / path.name)
    manifest = tmp_path / "sides" / "frozen.json"
    options = ("--option", "positive=bright", "--option", "levels=split/class")
    frozen = run("dataset", "freeze", tmp_path / "sides", "--layout", "folder", *options, "-o", manifest)
    assert frozen.code == 0, frozen.err
    data = [word for side in ("train", "test") for word in ("--data", f"{side}={manifest}")]
    sides = ("--split", "train=train", "--split", "test=test")
    done = run("evaluate", "toy-image", *data, *sides, "--conditions", "contrast", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    one, other = json.loads((tmp_path / "out" / "report.json").read_text())["conditions"]["datasets"]
    assert (one["dataset"], other["dataset"], one["items"], other["items"]) == ("train", "test", 40, 40)
    assert one["clean"] != other["clean"]


def test_a_table_is_evaluated_by_groups(run: Run, payments: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("evaluate", "toy-record", "--data", f"may={payments}", "--group", "person", "-o", out)
    assert (done.code, done.err) == (0, "")
    (dataset,) = json.loads((out / "report.json").read_text())["datasets"]
    assert (dataset["name"], dataset["items"], dataset["groups"]) == ("may", 40_000, 900)
    assert dataset["not_scored"] == {"invalid_record": 1}
    assert 0.7 < dataset["metrics"]["auc"]["value"] < 0.95
    assert dataset["metrics"]["tpr_at_fpr_0_1_percent"]["value"] is not None


def test_a_bundle_beside_its_twin_is_not_distinguishable(run: Run, home: Path, pictures: Path, tmp_path: Path) -> None:
    """The twin is a folder, and nobody who is trusted signed it."""
    for public in (home / "trust").iterdir():
        public.unlink()
    folder = home / "detectors" / "toy-image" / "1.0.0"
    out = tmp_path / "out"
    done = run("evaluate", folder, "--data", pictures, "--compare", folder, "-o", out)
    assert done.code == 0, done.err
    tree = json.loads((out / "report.json").read_text())
    assert tree["detector"]["signed_by"] is None
    assert "No key that is trusted here signed toy-image 1.0.0" in done.out
    assert {one["comparison"]["verdict"] for one in tree["compared"]} == {"not distinguishable"}


def test_a_changed_bundle_is_refused(run: Run, home: Path, pictures: Path) -> None:
    folder = home / "detectors" / "toy-image" / "1.0.0"
    (folder / "CARD.md").write_text("# Another\n")
    done = run("evaluate", folder, "--data", pictures)
    assert done.code == 1
    assert "CARD.md" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("toy-record", "--data", "pictures"), "takes records"),
        (("toy-image", "--data", "payments.parquet"), "takes images"),
        (("toy-image", "--data", "nowhere"), "no dataset"),
        (("toy-image", "--data", "pictures", "--data", "pictures"), "same name"),
        (("toy-image", "--data", "pictures", "--compare", "toy-record"), "do not take the same input"),
        (("toy-record", "--data", "payments.parquet", "--label", "fraud"), "no column fraud"),
        (("toy-record", "--data", "payments.parquet", "--label", "person"), "other labels than 0, 1"),
        (("toy-record", "--data", "payments.parquet", "--show-inputs"), "may not be shown"),
        (("toy-image", "--data", "pictures/dark"), "has no folders dark and bright"),
        (("unheard-of", "--data", "pictures"), "no detector 'unheard-of'"),
    ],
)
@pytest.mark.usefixtures("payments", "pictures")
def test_what_does_not_go_together_is_refused_before_anything_is_scored(
    arguments: tuple[str, ...], said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("evaluate", *arguments, "-o", "out")
    assert done.code in {1, 2}
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_a_run_is_logged_to_mlflow(run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("MLflow is not installed: the extra `mlflow` has it")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")
    store = tmp_path / "mlruns"
    done = run("evaluate", "toy-image", "--data", pictures, "-o", tmp_path / "out", "--mlflow", store.as_uri())
    assert done.code == 0, done.err
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    (metric,) = store.glob("*/*/metrics/pictures/auc")
    assert float(metric.read_text().split()[1]) == tree["datasets"][0]["metrics"]["auc"]["value"]
    (digest,) = store.glob("*/*/params/bundle_sha256")
    assert digest.read_text() == tree["detector"]["bundle_sha256"]
    assert {path.name for path in store.glob("*/*/artifacts/*")} == {"report.html", "report.json", "report.md"}


def test_what_conditions_come_to_is_logged_to_mlflow_by_strength(
    run: Run, payments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("MLflow is not installed: the extra `mlflow` has it")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store, out = tmp_path / "mlruns", tmp_path / "out"
    asked = ("--conditions", "shifted_fields,missing_fields", "--adversarial", 3)
    done = run("evaluate", "toy-record", "--data", payments, *asked, "-o", out, "--mlflow", store.as_uri())
    assert done.code == 0, done.err
    (held,) = json.loads((out / "report.json").read_text())["conditions"]["datasets"]

    def logged(name: str) -> dict[int, float]:
        (path,) = store.glob(f"*/*/metrics/{held['dataset']}/{name}")
        lines = [line.split() for line in path.read_text().splitlines()]
        return {int(step): float(value) for _, value, step in lines}

    curves = {curve["condition"]: curve for curve in held["curves"]}
    points = curves["shifted_fields"]["points"]
    assert logged("shifted_fields/auc") == {
        0: held["clean"]["value"],
        **{point["strength"]: point["auc"]["value"] for point in points},
    }
    assert logged("shifted_fields/lost.high") == {point["strength"]: point["lost"]["high"] for point in points}
    assert logged("attack/success") == {
        point["queries"]: point["success"]["value"] for point in held["attack"]["points"]
    }
    # What could not be tried has no figure, and so has no metric either.
    assert curves["missing_fields"]["points"] == []
    assert not list(store.glob("*/*/metrics/*/missing_fields"))


def test_the_other_commands_load_nothing_of_it() -> None:
    script = (
        "import sys; from discern.cli.main import build_cli; build_cli();"
        "print(sorted({'scipy', 'statsmodels', 'sklearn', 'jinja2', 'pyarrow', 'mlflow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_evaluating_loads_no_part_of_scipy_that_takes_long() -> None:
    script = (
        "import sys, discern.evaluation.service; print(sorted({'scipy.stats', 'scipy.optimize'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
