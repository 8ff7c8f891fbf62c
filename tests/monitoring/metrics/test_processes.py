"""Processes put together what they have measured, and none is lost or counted twice when it is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.monitoring.metrics.service_process import ProcessMetrics
from discern.monitoring.metrics.sources_processes import Key, ProcessFiles, shared_folder
from discern.monitoring.types import Sample

Make = Callable[[Path], ProcessFiles]
COUNT: Key = ("discern_batches_total", ("idle",))
GAUGE: Key = ("discern_waiting_rows", ())
LATENCY = "discern_ledger_commit_duration_seconds"
# A process that counts to three, says so, and waits to be killed.
VICTIM = """
import sys, time
from pathlib import Path
from discern.monitoring.metrics.sources_processes import ProcessFiles
files = ProcessFiles(Path(sys.argv[1]), ["discern_waiting_rows"])
files.write({("discern_batches_total", ("idle",)): 3.0, ("discern_waiting_rows", ()): 3.0})
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with shared_folder(tmp_path) as made:
        yield made


@pytest.fixture
def files_in() -> Iterator[Make]:
    """Make the files of a process."""
    opened: list[ProcessFiles] = []

    def make(folder: Path) -> ProcessFiles:
        opened.append(ProcessFiles(folder, [GAUGE[0]]))
        return opened[-1]

    yield make
    for files in opened:
        files.close()


def victim(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", VICTIM, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def test_what_all_have_written_is_added_up(folder: Path, files_in: Make) -> None:
    one, other = files_in(folder), files_in(folder)
    one.write({COUNT: 1.0, GAUGE: 5.0})
    other.write({COUNT: 2.0, GAUGE: 6.0})
    one.write({COUNT: 10.0})
    assert other.read() == ({COUNT: 12.0, GAUGE: 11.0}, 2)
    one.close()
    assert other.read() == ({COUNT: 12.0, GAUGE: 6.0}, 1)


def test_what_a_killed_process_counted_stays_and_its_gauges_go(folder: Path, files_in: Make) -> None:
    ours, process = files_in(folder), victim(folder)
    ours.write({COUNT: 1.0, GAUGE: 1.0})
    assert ours.read() == ({COUNT: 4.0, GAUGE: 4.0}, 2)
    kill(process)
    assert ours.read() == ({COUNT: 4.0, GAUGE: 1.0}, 1)
    assert len(list(folder.glob("*.db"))) == 2  # ours, and that of all who are gone
    for _ in range(3):
        kill(victim(folder))
    assert ours.read() == ({COUNT: 13.0, GAUGE: 1.0}, 1)
    assert len(list(folder.glob("*.db"))) == 2


def test_whoever_is_killed_while_it_adds_up_the_dead_counts_nobody_twice(
    folder: Path, files_in: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = files_in(folder)
    kill(victim(folder))
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".db":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            ours.read()
    assert ours.read() == ({COUNT: 3.0}, 1)
    kill(victim(folder))
    assert ours.read() == ({COUNT: 6.0}, 1)


def test_a_series_more_than_the_file_had_room_for_is_there(folder: Path, files_in: Make) -> None:
    one, other = files_in(folder), files_in(folder)
    many: dict[Key, float] = {(COUNT[0], (f"{number}" * 50,)): float(number) for number in range(6_000)}
    one.write(many)
    assert other.read().values == many


def test_a_disk_that_fills_up_has_the_blocks_of_what_will_be_written(folder: Path, files_in: Make) -> None:
    ours = files_in(folder)
    kill(victim(folder))
    ours.read()
    found = [path.stat() for path in folder.glob("*.db")]
    assert len(found) == 2
    assert all(one.st_blocks * 512 >= one.st_size >= 1 << 20 for one in found)


def test_folders_of_servers_that_were_killed_are_taken_away_and_no_others(tmp_path: Path) -> None:
    left = tmp_path / "metrics" / "left"
    left.mkdir(parents=True)
    (left / "alive").touch()
    with shared_folder(tmp_path) as one:
        assert not left.exists()
        with shared_folder(tmp_path) as other:
            assert one.exists()
            assert other.exists()
        assert not other.exists()
    assert list((tmp_path / "metrics").iterdir()) == []


def metrics() -> tuple[ProcessMetrics, Counts]:
    counts = Counts()
    return ProcessMetrics(counts.measures, counts), counts


def of(samples: list[Sample], name: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in samples if sample.name == name}


def test_a_histogram_counts_what_is_at_most_the_bound_of_a_bucket() -> None:
    process, counts = metrics()
    note = counts.measures.noting(LATENCY)
    for value in (0.00001, 0.00005, 0.00006, 0.3, 99.0):
        note(value)
    for _ in range(2):  # what was added up is not added up again
        samples, processes = process.read()
        buckets = of(samples, f"{LATENCY}_bucket")
        assert (buckets["5e-05",], buckets["0.0001",], buckets["0.25",]) == (2, 3, 3)
        assert (buckets["0.5",], buckets["1.0",], buckets["+Inf",]) == (4, 4, 5)
        assert list(buckets.values()) == sorted(buckets.values())
        assert of(samples, f"{LATENCY}_count") == {(): 5}
        assert of(samples, f"{LATENCY}_sum") == {(): pytest.approx(99.30012)}
        assert processes == 1


def test_two_processes_make_one_histogram_and_a_folder_that_is_gone_hurts_nobody(folder: Path) -> None:
    (one, ones), (other, others) = metrics(), metrics()
    one.open(folder)
    other.open(folder)
    ones.measures.noting(LATENCY)(0.2)
    others.measures.noting(LATENCY)(0.2)
    others.measures.noting(LATENCY)(7.0)
    ones.add("limits.header_bytes")
    other.fold()
    samples, processes = one.read()
    assert (of(samples, f"{LATENCY}_count"), processes) == ({(): 3}, 2)
    assert of(samples, f"{LATENCY}_bucket")["0.25",] == 2
    assert of(samples, "discern_limits_total") == {("header_bytes",): 1}
    other.close()
    samples, processes = one.read()
    assert (of(samples, f"{LATENCY}_count"), processes) == ({(): 3}, 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    samples, processes = one.read()
    assert (of(samples, f"{LATENCY}_count"), processes) == ({(): 1}, 1)
    one.close()


def test_without_the_library_a_process_goes_on_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    process, counts = metrics()
    process.open(folder)
    counts.add("ledger.commits", 2)
    samples, processes = process.read()
    assert (of(samples, "discern_ledger_commits_total"), processes) == ({(): 2}, 1)


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="DISCERN_HOME"), shared_folder(tmp_path):
        pass
