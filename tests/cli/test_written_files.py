"""What commands write of people is for whoever asked for it alone, from the first byte on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from discern.detectors import files
from tests.commands import Run

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def _open_handed() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The mode of each file when it is still being written."""
    seen: list[int] = []
    finish = files._finish

    def watch(file: object, asked: int) -> None:
        seen.append(os.fstat(file.fileno()).st_mode & 0o777)  # type: ignore[attr-defined]
        finish(file, asked)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "_finish", watch)
    return seen


def test_what_is_kept_of_a_person_is_for_its_reader_alone(run: Run, tmp_path: Path, modes: list[int]) -> None:
    (tmp_path / "one.json").write_text('{"a": 1, "b": 0.5, "c": -1}')
    run("detect", tmp_path / "one.json", "-d", "toy-record", "--subject", "customer-81723")
    output = tmp_path / "ann.json"
    ran = run("privacy", "export", "customer-81723", "-o", output)
    assert ran.code == 0
    assert "1 verdicts, 0 jobs and 0 consents" in ran.err
    assert (mode(output), modes) == (0o600, [0o600])
    before = output.read_bytes()
    assert json.loads(before)["subject"] == "customer-81723"
    again = run("privacy", "export", "customer-81723", "-o", output)
    assert (again.code, output.read_bytes()) == (1, before)
    assert "is there already" in again.err
    nowhere = run("privacy", "export", "customer-81723", "-o", tmp_path / "none" / "ann.json")
    assert nowhere.code == 1
    assert "cannot be written" in nowhere.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_compliance_report_is_too(run: Run, tmp_path: Path, modes: list[int]) -> None:
    output = tmp_path / "report.txt"
    output.write_text("an older one")
    output.chmod(0o644)
    assert run("compliance", "report", "-o", output).code == 0
    assert (mode(output), modes) == (0o600, [0o600])


def test_scores_are_too(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.csv").write_text("a,b,c,name\n1,0.5,-1,ann\n")
    output = tmp_path / "scores.parquet"
    ran = run("score", tmp_path / "rows.csv", "-d", "toy-record", "--id", "name", "-o", output)
    assert ran.code == 0, ran.err
    assert mode(output) == 0o600
