"""What is told of the machine, as far as it can be."""

from __future__ import annotations

import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.metrics.sources_host import Host

OF_A_HOST = {name for name, metric in CATALOGUE.items() if metric.of == "host" and "gpu" not in name}
Times = namedtuple("Times", "user system idle iowait")  # noqa: PYI024 - as psutil's are


class NoSuchThing(Exception):
    """An error of the driver."""


def driver(*, gpus: int, tells_how_busy: bool = True) -> SimpleNamespace:
    """A twin of the driver's library, as it is on a machine with so many GPUs."""

    def utilization(number: int) -> SimpleNamespace:
        if not tells_how_busy:
            raise NoSuchThing
        return SimpleNamespace(gpu=25 * number)

    return SimpleNamespace(
        NVMLError=NoSuchThing,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: gpus,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=utilization,
        nvmlDeviceGetMemoryInfo=lambda number: SimpleNamespace(used=1000 + number),
    )


def told(host: Host) -> dict[tuple[str, ...], float]:
    return {(sample.name, *sample.labels): sample.value for sample in host.samples()}


def of_gpus(host: Host) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in told(host).items() if key[0].startswith("discern_gpu")}


def test_of_a_machine_there_is_its_processor_memory_disk_and_network(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for _ in range(2):
        found = told(host)
        assert {name for name, *_ in found} >= OF_A_HOST
        assert 0 <= found["discern_host_cpu_ratio",] <= 1


def test_times_that_go_back_make_no_share_below_nothing_or_above_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [Times(10.0, 0.0, 90.0, 5.0), Times(11.0, 0.0, 90.0, 4.5), Times(10.5, 0.0, 92.0, 4.5)]
    monkeypatch.setattr(psutil, "cpu_times", lambda: times.pop(0))
    host = Host(tmp_path)
    told(host)
    assert told(host)["discern_host_cpu_ratio",] == 1.0
    assert told(host)["discern_host_cpu_ratio",] == 0.0


def test_each_gpu_tells_how_busy_it_is_and_how_much_memory_it_has_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(gpus=2))
    assert of_gpus(Host(tmp_path)) == {
        ("discern_gpu_utilization_ratio", "0"): 0.0,
        ("discern_gpu_memory_used_bytes", "0"): 1000,
        ("discern_gpu_utilization_ratio", "1"): 0.25,
        ("discern_gpu_memory_used_bytes", "1"): 1001,
    }


def test_a_gpu_that_does_not_tell_how_busy_it_is_tells_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(gpus=1, tells_how_busy=False))
    assert of_gpus(Host(tmp_path)) == {("discern_gpu_memory_used_bytes", "0"): 1000}


@pytest.mark.parametrize("library", [None, driver(gpus=0)])
def test_without_a_gpu_or_the_library_nothing_is_told_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: SimpleNamespace | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert of_gpus(Host(tmp_path)) == {}
