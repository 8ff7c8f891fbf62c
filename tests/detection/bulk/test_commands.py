"""`discern score` and `discern runs` as they are typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.commands import Run
from tests.detection.bulk.conftest import toy_table

pytestmark = pytest.mark.system


def test_a_file_is_scored_and_the_run_is_listed_and_shown(run: Run, table_file: Path, tmp_path: Path) -> None:
    done = run("score", table_file, "-d", "toy-record@1.0.0", "-o", tmp_path / "out.parquet", "--id", "payment")
    assert (done.code, done.err) == (0, "Columns that are not read: label.\n")
    said = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert said["Detector"].strip() == "toy-record 1.0.0"
    assert said["Rows"].strip() == "1,500"
    counts = pq.read_table(tmp_path / "out.parquet").column("decision").value_counts().to_pylist()
    for each in counts:
        assert said[each["values"].capitalize()].startswith(f"{each['counts']:,} (")
    identifier = said["Run"].strip()
    listed = run("runs", "list")
    assert identifier in listed.out
    assert "done" in listed.out
    shown = json.loads(run("runs", "show", identifier).out)
    assert (shown["id"], shown["rows"], shown["input"]) == (identifier, 1500, str(table_file))
    assert json.loads(run("runs", "list", "--json").out) == shown


def test_rows_that_were_not_judged_are_counted_and_make_the_exit_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n1,2,300\n1,2\n")
    done = run("score", tmp_path / "in.csv", "-d", "toy-record", "-o", tmp_path / "out.parquet")
    assert done.code == 1
    assert "Not judged: invalid_record" in done.out
    assert "Not judged: malformed_request" in done.out


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["-d", "nothing"], 2, "There is no detector 'nothing'."),
        (["-d", "toy-record@9.0.0"], 2, "has no version '9.0.0'"),
        (["-d", "toy-record", "--strict"], 1, "payment: the detector has no such field"),
        (["-d", "toy-record", "--id", "paymint"], 1, "Did you mean payment?"),
        ([], 2, "Missing option"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, table_file: Path, tmp_path: Path, words: list[str], code: int, reason: str
) -> None:
    done = run("score", table_file, "-o", tmp_path / "out.parquet", *words)
    assert done.code == code
    assert reason in done.err


def test_without_pyarrow_the_extra_is_named(
    run: Run, table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run("score", table_file, "-d", "toy-record", "-o", tmp_path / "out.parquet")
    assert done.code == 1
    assert "pip install 'discern-detectors[bulk]'" in done.err


def test_with_verbose_it_says_how_far_it_is(
    run: Run, table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    monkeypatch.setattr("discern.detection.bulk.cli._LINE_SECONDS", 0.0)
    done = run("score", table_file, "-d", "toy-record", "-o", tmp_path / "out.parquet", "--verbose")
    assert "rows/s, " in done.err
    assert " left." in done.err
    assert "100%" in done.err


def test_an_interrupted_run_says_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    pq.write_table(toy_table(1000), tmp_path / "in.parquet")
    words = ["score", tmp_path / "in.parquet", "-d", "toy-record", "-o", tmp_path / "out.parquet", "--verbose"]
    with monkeypatch.context() as patched:
        patched.setattr("discern.detection.bulk.cli._line", interrupt)
        patched.setattr("discern.detection.bulk.cli._LINE_SECONDS", 0.0)
        stopped = run(*words)
    assert stopped.code == 130
    assert "Interrupted. The same command goes on from here." in stopped.err
    assert "unfinished" in run("runs", "list").out
    done = run(*words)
    assert done.code == 0
    assert "Going on with run" in done.err


def test_a_run_that_is_not_there_is_said(run: Run) -> None:
    missing = run("runs", "show", "01a1fc46-bb32-7c95-b933-8d0000000000")
    assert missing.code == 1
    assert "There is no run" in missing.err
