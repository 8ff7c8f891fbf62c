"""`discern evaluate` as it is typed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.cli.main import main
from discern.evaluation.datasets import read_manifest

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("DISCERN_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["discern", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


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
        (("toy-image", "--data", "payments.parquet"), "takes a image"),
        (("toy-image", "--data", "nowhere"), "no dataset"),
        (("toy-image", "--data", "pictures", "--data", "pictures"), "same name"),
        (("toy-image", "--data", "pictures", "--compare", "toy-record"), "do not take the same input"),
        (("toy-record", "--data", "payments.parquet", "--label", "fraud"), "no column fraud"),
        (("toy-record", "--data", "payments.parquet", "--label", "person"), "other labels than 0, 1"),
        (("toy-record", "--data", "payments.parquet", "--show-inputs"), "may not be shown"),
        (("toy-image", "--data", "pictures/dark"), "no folder bright"),
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


def test_the_other_commands_load_nothing_of_it() -> None:
    script = (
        "import sys; from discern.cli.main import build_cli; build_cli();"
        "print(sorted({'scipy', 'statsmodels', 'sklearn', 'jinja2', 'pyarrow', 'mlflow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
