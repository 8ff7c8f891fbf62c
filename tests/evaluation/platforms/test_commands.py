"""`discern detector optimise`, `platforms` and the setting, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from discern.app import build_services
from discern.detectors.bundle import Bundle, open_bundle
from discern.settings import load_settings
from tests.commands import Run
from tests.detectors import networks
from tests.evaluation.platforms.conftest import MARGIN, write_pictures

pytestmark = pytest.mark.system


def test_a_bundle_is_optimised_signed_added_and_answers_as_the_setting_says(
    run: Run, bundle: Bundle, pictures: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "next"
    ran = run("detector", "optimise", bundle.root, "--data", pictures, "--margin", MARGIN, "-o", made, "--json")
    assert ran.code == 0, ran.err
    results = {one["variant"]: one for one in map(json.loads, ran.out.splitlines())}
    assert set(results) == {"fp16", "int8", "int8-weights"}
    assert results["int8-weights"]["accepted"]
    assert "Sign it next" in ran.err

    shown = run("detector", "show", made, "--no-card").out
    assert "variant int8-weights" in shown
    assert f"margin: {MARGIN}" in shown
    # What answers does not hang on how fast this machine is.
    _serve(made, "int8-weights")
    packed = tmp_path / "packed"
    assert run("detector", "pack", made, "-o", packed).code == 0
    assert run("detector", "check", packed).code == 0
    assert run("detector", "sign", packed).code == 0
    assert run("detector", "add", packed).code == 0

    images, _ = networks.pictures(4, seed=21)
    scores = {}
    for variant, name in (("served", "int8-weights"), ("fp32", None)):
        monkeypatch.setenv("DISCERN_VARIANT", variant)
        detector = build_services(load_settings()).catalogue.get("toy-image", "1.1.0")
        assert detector.variant == name
        scores[variant] = detector.score_rows(images).score
    assert np.abs(scores["served"] - scores["fp32"]).max() > 0
    monkeypatch.setenv("DISCERN_VARIANT", "int9")
    ran = run("detector", "list")
    assert ran.code == 1
    assert "variant is 'int9'. Use one of: served, fp32." in ran.err


def _serve(root: Path, variant: str) -> None:
    path = root / "detector.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("serves:")]
    place = lines.index("variants:")
    path.write_text("\n".join([*lines[:place], f"serves: {variant}", *lines[place:]]) + "\n")


def test_when_nothing_is_accepted_nothing_is_written(run: Run, bundle: Bundle, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", 12)
    ran = run("detector", "optimise", bundle.root, "--data", few, "-o", tmp_path / "next")
    assert ran.code == 1
    assert "refused" in ran.out
    assert "can be ruled out with 268 measured items or more" in ran.out
    assert "nothing is written" in ran.err
    assert not (tmp_path / "next").exists()


def test_what_is_typed_wrongly_is_said(run: Run, bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    ran = run("detector", "optimise", bundle.root, "--data", pictures, "--kind", "int4")
    assert (ran.code, "'int4' is none of fp16, int8, int8-weights" in ran.err) == (2, True)
    ran = run("detector", "platforms", bundle.root, "--data", pictures, "--runtime", "tpu")
    assert (ran.code, "'tpu' is none of onnxruntime" in ran.err) == (2, True)
    (tmp_path / "there").mkdir()
    ran = run("detector", "optimise", bundle.root, "--data", pictures, "-o", tmp_path / "there")
    assert (ran.code, "it is there already" in ran.err) == (1, True)
    ran = run("detector", "optimise", bundle.root, "--data", tmp_path)
    assert (ran.code, "has no folders" in ran.err) == (1, True)


def test_the_platforms_are_shown_and_written_as_json(run: Run, bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "platforms.json"
    command = ["detector", "platforms", bundle.root, "--data", pictures, "--items", "10"]
    ran = run(*command, "--runtime", "onnxruntime", "-o", out)
    assert ran.code == 0, ran.err
    assert "0 of 10" in ran.out
    table = json.loads(out.read_text())
    assert table["bundle_sha256"] == open_bundle(bundle.root, None).digest
    assert [row["runtime"] for row in table["rows"]] == ["onnxruntime"]
