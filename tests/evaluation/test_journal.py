"""What is kept of an unfinished run is taken for what it is of, and for nothing else."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from discern.core.errors import CallerError, OperatorError
from discern.evaluation.journal import Journal, Judged
from discern.inputs.types import InputLimits


def judged(start: int, rows: int = 3, stages: int = 2) -> Judged:
    return Judged(
        start,
        np.linspace(0, 1, rows),
        np.full((rows, stages), 0.5),
        np.zeros(rows, np.int16),
        np.ones(rows, np.int8),
        np.ones(rows, np.int8),
        {},
        np.full((rows, stages), 1.0),
    )


def kept(out: Path, bundle: str, *what: object) -> list[int]:
    with Journal(out).sheet(bundle, *what) as sheet:
        return [one.start for one in sheet.pieces()]


def write(out: Path, bundle: str, *what: object, pieces: int = 2) -> None:
    with Journal(out).sheet(bundle, *what) as sheet:
        list(sheet.pieces())
        for number in range(pieces):
            sheet.keep(judged(3 * number))


def test_a_sheet_is_of_one_bundle_dataset_side_and_limit(tmp_path: Path) -> None:
    write(tmp_path, "bundle", "data", None, InputLimits())
    assert kept(tmp_path, "bundle", "data", None, InputLimits()) == [0, 3]
    assert kept(tmp_path, "other", "data", None, InputLimits()) == []
    assert kept(tmp_path, "bundle", "other", None, InputLimits()) == []
    assert kept(tmp_path, "bundle", "data", "None", InputLimits()) == []
    assert kept(tmp_path, "bundle", "data", None, replace(InputLimits(), image_pixels=9)) == []


def test_a_sheet_that_was_put_in_the_place_of_another_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "one", "bundle", "data")
    write(tmp_path / "two", "bundle", "other")
    (mine,) = (tmp_path / "one" / ".unfinished").glob("*.scores")
    (theirs,) = (tmp_path / "two" / ".unfinished").glob("*.scores")
    shutil.copy(theirs, mine)
    assert kept(tmp_path / "one", "bundle", "data") == []
    write(tmp_path / "one", "bundle", "data", pieces=1)
    assert kept(tmp_path / "one", "bundle", "data") == [0]


def test_a_piece_whose_columns_do_not_fit_each_other_is_dropped(tmp_path: Path) -> None:
    with Journal(tmp_path).sheet("a", "b") as sheet:
        list(sheet.pieces())
        sheet.keep(judged(0))
        sheet.keep(replace(judged(3), decision=np.ones(2, np.int8)))
    assert kept(tmp_path, "a", "b") == [0]


def _hold(out: str, ready: str) -> None:
    with Journal(Path(out)).held():
        Path(ready).touch()
        multiprocessing.Event().wait(60)


def test_a_piece_that_does_not_fit_on_the_disk_is_an_error_once(tmp_path: Path) -> None:
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with Journal(tmp_path).sheet("a") as sheet:
            list(sheet.pieces())
            sheet.keep(judged(0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
            with pytest.raises(OperatorError, match="cannot be written: File too large"):
                sheet.keep(judged(3, rows=100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept(tmp_path, "a") == [0]


@pytest.mark.system
def test_a_folder_is_one_runs_from_the_first_score_to_the_report(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_hold, args=(str(tmp_path / "out"), str(tmp_path / "ready")))
    other.start()
    while not (tmp_path / "ready").exists():
        assert other.is_alive()
        other.join(0.01)
    journal = Journal(tmp_path / "out")
    with pytest.raises(CallerError, match="Another process is evaluating into"), journal.held():
        pass
    other.kill()
    other.join()
    with journal.held():
        write(tmp_path / "out", "a", "b")
        journal.remove()
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_a_folder_that_nothing_was_kept_in_is_left_as_it_was(tmp_path: Path) -> None:
    with Journal(tmp_path).held():
        pass
    assert list(tmp_path.iterdir()) == []
    with Journal(tmp_path).held():
        write(tmp_path, "a", "b")
    assert kept(tmp_path, "a", "b") == [0, 3]
