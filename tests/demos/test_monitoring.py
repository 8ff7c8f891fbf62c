"""The demonstration of monitoring shows what it promises, in short, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demos.payments import payments

ROOT = Path(__file__).parents[2]


def test_payments_are_those_that_the_detector_takes() -> None:
    from discern.detectors.manifest import Manifest

    manifest = (ROOT / "src" / "discern" / "detectors" / "builtin" / "card-fraud" / "detector.yaml").read_text()
    import yaml

    fields = {field.name for field in Manifest.model_validate(yaml.safe_load(manifest)).input.fields}  # type: ignore[union-attr]
    calm, dear = payments(60), payments(60, times_dearer=2.5)
    assert {frozenset(record) for record in calm} == {frozenset(fields)}
    assert calm == payments(60)
    ratio = sum(record["amount"] for record in dear) / sum(record["amount"] for record in calm)
    assert ratio == pytest.approx(2.5, rel=1e-3)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_drift_alert_notice_and_report_appear_one_after_the_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demos.monitoring", "--window", "300", "--customers", "500"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [*command, "--output", str(tmp_path / "report.html")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    appear = ("nothing differs", "DRIFT: ", "ALERT: ", "NOTICE at the webhook: ", "REPORT: ")
    places = [ran.stdout.find(word) for word in appear]
    assert -1 not in places
    assert places == sorted(places)
    assert "field:amount" in ran.stdout
    assert not list(tmp_path.glob("discern-demo-*"))
