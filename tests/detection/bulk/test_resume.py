"""Runs that are interrupted go on where they stopped, and end as if they had not been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from discern.app import Services
from discern.core.errors import CallerError, OperatorError, StorageUnavailable
from discern.detection.bulk.store import RunStore
from discern.detection.bulk.types import Progress
from tests.detection.bulk.conftest import Score, toy_table
from tests.detection.bulk.test_score import without_ids

pytestmark = pytest.mark.usefixtures("small_pieces")


class Stop(Exception):
    """What ends a run in a test."""


def stop_after(rows: int) -> Callable[[Progress], None]:
    def watch(far: Progress) -> None:
        if far.rows >= rows:
            raise Stop

    return watch


@pytest.mark.parametrize("name", ["records.parquet", "records.csv", "records.ndjson"])
def test_an_interrupted_run_goes_on_and_scores_nothing_twice(
    name: str, table_file: Path, tmp_path: Path, score: Score, services: Services
) -> None:
    source = tmp_path / name
    if name.endswith("csv"):
        bad = ["1,2,3,4\n" if row % 61 == 0 else "1,2\n" if row % 67 == 0 else "" for row in range(1500)]
        lines = [
            f"{a},{b},{c}\n"
            for a, b, c in zip(*(pq.read_table(table_file).column(one).to_pylist() for one in "abc"), strict=True)
        ]
        source.write_text("a,b,c\n" + "".join(odd or line for odd, line in zip(bad, lines, strict=True)))
    elif name.endswith("ndjson"):
        source.write_text("".join(f'{{"a":{row / 1500},"b":1,"c":{row % 7}}}\n' for row in range(1500)))
    score(source, tmp_path / "expected.parquet")
    output = tmp_path / "out.parquet"
    for rows in (1, 300, 301, 1000):
        with pytest.raises(Stop):
            score(source, output, watch=stop_after(rows))
        assert not output.exists()
    notes: list[str] = []
    report = score(source, output, notes=notes)
    assert any(note.startswith("Going on with run") for note in notes)
    assert report.scored < 1500 - 800
    assert report.totals.rows == 1500
    assert without_ids(output).equals(without_ids(tmp_path / "expected.parquet"))
    assert report.totals.errors == score(source, tmp_path / "again.parquet").totals.errors
    runs = RunStore(services.database).page("default", 10)
    assert [run.finished_at is not None for run in runs] == [True, True, True]
    assert sum(run.output == str(output) for run in runs) == 1


def test_a_piece_that_is_not_whole_is_scored_again(table_file: Path, tmp_path: Path, score: Score) -> None:
    score(table_file, tmp_path / "expected.parquet")
    with pytest.raises(Stop):
        score(table_file, tmp_path / "out.parquet", watch=stop_after(1000))
    pieces = sorted((tmp_path / "out.parquet.unfinished").glob("rows-*.arrow"))
    pieces[3].write_bytes(pieces[3].read_bytes()[:100])
    pieces[5].write_bytes(b"")
    report = score(table_file, tmp_path / "out.parquet")
    assert report.scored == 1500 - 3 * 128
    assert without_ids(tmp_path / "out.parquet").equals(without_ids(tmp_path / "expected.parquet"))


def test_a_run_that_was_finished_but_for_its_last_step_is_finished(
    table_file: Path, tmp_path: Path, score: Score, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StorageUnavailable("The database did not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(RunStore, "finish", down)
        with pytest.raises(StorageUnavailable):
            score(table_file, tmp_path / "out.parquet")
    report = score(table_file, tmp_path / "out.parquet")
    assert (report.scored, report.totals.rows) == (0, 1500)
    assert RunStore(services.database).get("default", UUID(report.run.id)) == report.run
    assert not (tmp_path / "out.parquet.unfinished").exists()


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ("input", {}, "the input has changed"),
        ("nothing", {"strict": True, "id_column": None}, "the options were id=payment, strict=False"),
        ("nothing", {"id_column": None}, "the options were id=payment, strict=False"),
        ("nothing", {"detector": "toy-other"}, "the detector was toy-record 1.0.0"),
    ],
)
def test_another_run_than_was_begun_is_refused(
    table_file: Path, tmp_path: Path, score: Score, change: str, options: dict[str, object], reason: str
) -> None:
    output = tmp_path / "out.parquet"
    with pytest.raises(Stop):
        score(table_file, output, watch=stop_after(1), id_column="payment")
    if change == "input":
        pq.write_table(toy_table(1500, seed=2), table_file)
    if "detector" in options:
        state = tmp_path / "out.parquet.unfinished" / "state.json"
        state.write_text(state.read_text().replace("toy-record", "toy-other"))
        options, reason = {}, "the detector was toy-other 1.0.0"
    if options.get("strict"):
        pq.write_table(pq.read_table(table_file).select(["a", "b", "c"]), table_file)
        reason = "the input has changed; the options were id=payment, strict=False"
    with pytest.raises(OperatorError, match=reason) as caught:
        score(table_file, output, **({"id_column": "payment"} | options))
    assert "--restart" in str(caught.value)
    report = score(table_file, output, restart=True)
    assert report.scored == report.totals.rows == 1500


def test_a_state_that_is_none_is_refused(table_file: Path, tmp_path: Path, score: Score) -> None:
    (tmp_path / "out.parquet.unfinished").mkdir()
    (tmp_path / "out.parquet.unfinished" / "state.json").write_text("{")
    with pytest.raises(OperatorError, match="is not what a run leaves"):
        score(table_file, tmp_path / "out.parquet")


def test_an_output_that_is_there_is_kept_unless_it_is_to_be_replaced(
    table_file: Path, tmp_path: Path, score: Score
) -> None:
    (tmp_path / "out.parquet").write_text("mine")
    with pytest.raises(CallerError, match="is there already"):
        score(table_file, tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "mine"
    score(table_file, tmp_path / "out.parquet", restart=True)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 1500


def test_two_do_not_write_one_output(table_file: Path, tmp_path: Path, score: Score) -> None:
    refused: list[str] = []

    def meanwhile(_: Progress) -> None:
        if not refused:
            with pytest.raises(CallerError, match="Another process is writing") as caught:
                score(table_file, tmp_path / "out.parquet")
            refused.append(str(caught.value))

    score(table_file, tmp_path / "out.parquet", watch=meanwhile)
    assert len(refused) == 1
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 1500


def test_an_input_that_changes_while_it_is_read_gives_no_output(table_file: Path, tmp_path: Path, score: Score) -> None:
    def touch(_: Progress) -> None:
        os.utime(table_file, ns=(1, 1))

    with pytest.raises(OperatorError, match="changed while it was read"):
        score(table_file, tmp_path / "out.parquet", watch=touch)
    assert not (tmp_path / "out.parquet").exists()


def test_nothing_is_scored_where_the_ledger_is_down(
    table_file: Path, tmp_path: Path, score: Score, services: Services
) -> None:
    told: list[Progress] = []
    services.database.close()
    with pytest.raises(StorageUnavailable):
        score(table_file, tmp_path / "out.parquet", watch=told.append)
    assert told == []
    services.database.open()
    assert score(table_file, tmp_path / "out.parquet").totals.rows == 1500


COMMAND = """
import discern.detection.bulk.sources_tables as tables
tables.PART_ROWS = 500
tables._LEAST_ROWS = 1
from discern.cli.main import main
main()
"""


@pytest.mark.system
def test_killed_at_any_point_it_ends_as_if_it_had_not_been(tmp_path: Path, home: Path, score: Score) -> None:
    source, output = tmp_path / "records.parquet", tmp_path / "out.parquet"
    rows = 60_000
    pq.write_table(toy_table(rows), source, row_group_size=20_000)
    score(source, tmp_path / "expected.parquet", id_column="payment")
    words = ["score", str(source), "-d", "toy-record", "-o", str(output), "--id", "payment"]
    environment = {**os.environ, "DISCERN_HOME": str(home)}
    dice = random.Random(7)
    kept: list[int] = []
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *words], env=environment, stderr=subprocess.PIPE)
        folder = output.with_name("out.parquet.unfinished")
        goal = (kept[-1] if kept else 0) + dice.randrange(1, 12)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and len(list(folder.glob("*.arrow"))) < goal:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if output.exists():
            break
        kept.append(len(list(folder.glob("*.arrow"))))
    assert kept == sorted(kept)
    assert kept[-1] > 5
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Going on with run" in done.stderr
    assert "of them this time" in done.stdout
    table = pq.read_table(output)
    assert table.drop_columns(["verdict_id"]).equals(without_ids(tmp_path / "expected.parquet"))
    assert len(set(table.column("verdict_id").to_pylist())) == rows


def test_progress_says_what_was_there_before(table_file: Path, tmp_path: Path, score: Score) -> None:
    with pytest.raises(Stop):
        score(table_file, tmp_path / "out.parquet", watch=stop_after(500))
    told: list[Progress] = []
    score(table_file, tmp_path / "out.parquet", watch=told.append)
    assert {one.resumed for one in told} == {512}
    assert replace(told[-1], seconds=0) == Progress(1500, 1500, 1.0, 512, 0)
