"""Every example of making a bundle runs as documented, and its bundle keeps the executable contract."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from discern.detectors.bundle import open_bundle
from discern.detectors.checks.run import run_checks

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "from_onnx": ("onnx",),
    "from_scikit_learn": ("sklearn", "skl2onnx"),
    "from_lightgbm": ("lightgbm", "onnxmltools"),
    "from_xgboost": ("xgboost", "onnxmltools"),
    "from_pytorch": ("torch", "onnxscript"),
}
"""Script -> the modules it needs besides those that Discern itself needs."""


def test_every_example_is_listed_here_and_in_the_guide() -> None:
    scripts = {path.stem for path in (ROOT / "recipes" / "examples").glob("from_*.py")}
    guide = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    assert scripts == set(EXAMPLES)
    assert set(re.findall(r"recipes\.examples\.(from_\w+)", guide)) == scripts


@pytest.mark.system
@pytest.mark.parametrize("example", EXAMPLES)
def test_example_makes_a_bundle_that_keeps_the_contract(example: str, tmp_path: Path) -> None:
    missing = [module for module in EXAMPLES[example] if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"{example} needs {', '.join(missing)}, not installed here: see recipes/README.md")
    out = tmp_path / "bundle"
    made = subprocess.run(
        [sys.executable, "-m", f"recipes.examples.{example}", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    area = float(re.findall(r"area under the ROC curve: ([\d.]+)", made.stdout)[0])
    assert area > 0.75, "the model must have learned something for its thresholds to mean anything"

    results = list(run_checks(open_bundle(out, None)))
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []
    assert len(results) > 10
