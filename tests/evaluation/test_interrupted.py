"""A run that is ended, by whatever and wherever, leaves what the same command goes on from, and no half report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from discern.evaluation.journal import Journal
from tests.commands import Ran
from tests.evaluation.conftest import make_folder

pytestmark = pytest.mark.system

Run = Callable[..., Ran]


MARKS = ("*/.unfinished/lock", "*/.unfinished/*.scores", "*.manifest.json", "*/report.json")
"""The files that a run opens, or moves to where they belong, one after the other."""
INTERRUPTED = """
import signal, sys
from fnmatch import fnmatch

mark, pending = sys.argv.pop(1), [True]
# Whoever runs the tests in the background has it ignored, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


def look(event, about):
    if pending and event in {"open", "os.rename"} and any(fnmatch(str(one), mark) for one in about):
        pending.clear()
        signal.raise_signal(signal.SIGINT)


sys.addaudithook(look)
from discern.cli.main import main

main()
"""


def test_an_interruption_in_any_phase_ends_in_the_same_report(
    run: Run, home: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("evaluate", "toy-cascade", "--data", pictures, "--conditions", "jpeg")
    assert run(*command, "-o", tmp_path / "whole").code == 0
    whole = (tmp_path / "whole" / "report.json").read_bytes()
    out = tmp_path / "out"
    for mark in MARKS:
        ended = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, mark, *map(str, command), "-o", str(out)],
            env={**os.environ, "DISCERN_HOME": str(home), "DISCERN_DETECTION_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 130, (mark, ended.stderr)
        assert "The same command goes on from here." in ended.stderr
        assert not (out / "report.json").exists()
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
