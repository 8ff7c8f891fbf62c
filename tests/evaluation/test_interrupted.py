"""A run that is ended, by whatever and wherever, leaves what the same command goes on from, and no half report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from discern.evaluation.journal import Journal
from tests.commands import Ran
from tests.evaluation.conftest import make_folder

pytestmark = pytest.mark.system

Run = Callable[..., Ran]


MARKS = (".unfinished/lock", ".unfinished/*.scores", "*.manifest.json")
"""What appears in the folder one after the other while a run goes on."""


def test_an_interruption_in_any_phase_ends_in_the_same_report(
    run: Run, home: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("evaluate", "toy-cascade", "--data", pictures, "--conditions", "jpeg")
    assert run(*command, "-o", tmp_path / "whole").code == 0
    whole = (tmp_path / "whole" / "report.json").read_bytes()
    out = tmp_path / "out"
    ended = []
    for mark in MARKS:
        with subprocess.Popen(
            [sys.executable, "-m", "discern.cli.main", *map(str, command), "-o", str(out)],
            env={**os.environ, "DISCERN_HOME": str(home), "DISCERN_DETECTION_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            while not any(out.glob(mark)) and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            ended.append((process.communicate()[1], process.returncode))
        if (out / "report.json").exists():
            assert (out / "report.json").read_bytes() == whole
            break
    assert {code for _, code in ended} <= {0, 130}
    assert all("The same command goes on from here." in said for said, code in ended if code)
    assert 130 in {code for _, code in ended}
    if not (out / "report.json").exists():
        assert run(*command, "-o", out).code == 0
    assert (out / "report.json").read_bytes() == whole


def test_a_second_run_into_a_folder_waits_for_nothing_and_replaces_nothing(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Journal(out).held():
        for command in (("evaluate", "toy-cascade", "--data", pictures), ("evaluate", "toy-image", "--data", pictures)):
            code = "import sys; from discern.cli.main import main; main()"
            done = subprocess.run(
                [sys.executable, "-c", code, *map(str, command), "-o", str(out)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert "Another process is evaluating into" in done.stderr
    assert run("evaluate", "toy-cascade", "--data", pictures, "-o", out).code == 0


def test_while_a_report_is_replaced_no_json_stands_beside_a_page_of_another_run(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("evaluate", "toy-cascade", "--data", pictures, "-o", out).code == 0
    # What stands where a file of the report belongs makes the writing fail halfway.
    (out / "report.html").unlink()
    (out / "report.html").mkdir()
    done = run("evaluate", "toy-image", "--data", make_folder(tmp_path / "other", 5), "-o", out, "--replace")
    assert done.code == 1
    assert "report.html cannot be written" in done.err
    assert not (out / "report.json").exists()
    (out / "report.html").rmdir()
    assert run("evaluate", "toy-cascade", "--data", pictures, "-o", out).code == 0
    assert json.loads((out / "report.json").read_text())["detector"]["name"] == "toy-cascade"
