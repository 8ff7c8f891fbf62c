"""Metrics of the machine: processors, memory, disk, networks, and NVIDIA GPUs where there are any.

What cannot be told is absent: without psutil all of it, without a GPU and its driver the GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from discern.monitoring.types import Sample

_LOOPBACK = "lo"


class Host:
    """The machine that this process runs on. `home` is on the disk that is told about."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._gpus: list[tuple[str, Any]] | None = None
        self._busy_and_all = 0.0, 0.0

    def samples(self) -> Iterator[Sample]:
        """Yield what there is. The share of busy processors is that since this was last asked, at first since boot."""
        yield from self._machine()
        yield from self._gpu()

    def _machine(self) -> Iterator[Sample]:
        try:
            import psutil  # noqa: PLC0415 - an extra
        except ImportError:
            return
        times = psutil.cpu_times()
        # The time of guests is in that of users too.
        all_time = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy_before, all_before = self._busy_and_all
        busy = all_time - times.idle - getattr(times, "iowait", 0.0)
        self._busy_and_all = busy, all_time
        # The kernel's times of waiting may go back a little (proc(5)).
        share = (busy - busy_before) / max(all_time - all_before, 1e-9)
        yield Sample("discern_host_cpu_ratio", (), min(1.0, max(0.0, share)))
        yield Sample("discern_host_memory_available_bytes", (), psutil.virtual_memory().available)
        yield Sample("discern_host_disk_free_bytes", (), psutil.disk_usage(str(self._home)).free)
        networks = [of for name, of in psutil.net_io_counters(pernic=True).items() if name != _LOOPBACK]
        yield Sample("discern_host_network_receive_bytes_total", (), sum(of.bytes_recv for of in networks))
        yield Sample("discern_host_network_transmit_bytes_total", (), sum(of.bytes_sent for of in networks))

    def _gpu(self) -> Iterator[Sample]:
        if self._gpus is None:
            self._gpus = _gpus()
        if not self._gpus:
            return
        import pynvml  # noqa: PLC0415 - it found some

        for label, handle in self._gpus:
            # It fell off the bus, or its driver is replaced; one that is divided (MIG) does not tell how busy it is.
            with suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                yield Sample("discern_gpu_memory_used_bytes", (label,), memory.used)
                busy = pynvml.nvmlDeviceGetUtilizationRates(handle)
                yield Sample("discern_gpu_utilization_ratio", (label,), busy.gpu / 100)


def _gpus() -> list[tuple[str, Any]]:
    """Return the number and the handle of each GPU; none where there is no driver."""
    try:
        import pynvml  # noqa: PLC0415 - an extra
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [
            (str(number), pynvml.nvmlDeviceGetHandleByIndex(number)) for number in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return []
