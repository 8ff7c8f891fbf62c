"""Several server processes behind one address, kept alive.

- Each slot has a listening socket of its own on the same address (SO_REUSEPORT), which this process keeps open: the
  kernel spreads connections evenly, and those that come while a slot has no process wait for its successor.
- A process that dies is replaced; how often, and how long its slot had none, is counted and logged. Where none ever
  becomes ready, all ends.
- A process whose event loop has not turned for `hang_seconds` is as good as dead: it is ended, and replaced likewise.
- SIGHUP replaces one process after the other: the successor is ready before the old one is told to stop. SIGTERM and
  SIGINT stop all, gently; a second one at once.
- Processes end when this one does, however it ends.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_LOOK_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
# Deaths in a row, before any process was ready, after which it is no accident.
_HOPELESS = 3
# What a process that drains may take beyond its drain before it is killed.
_EXTRA_SECONDS = 5.0
_NUMBERS = struct.Struct("=qd")
_BEAT = struct.Struct("=d")


class SharedCounts:
    """What the supervisor and the processes of its `slots` tell each other.

    The supervisor writes deaths, and seconds without a process; each process when it last turned its event loop, on the
    machine's monotonic clock.
    """

    def __init__(self, slots: int, fd: int | None = None) -> None:
        size = _NUMBERS.size + slots * _BEAT.size
        self.fd = os.memfd_create("discern-supervisor", 0) if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, size)
        self._memory = mmap.mmap(self.fd, size)

    def write(self, deaths: int, absent_seconds: float) -> None:
        """Publish both numbers."""
        _NUMBERS.pack_into(self._memory, 0, deaths, absent_seconds)

    def read(self) -> tuple[int, float]:
        """Return both numbers."""
        deaths, absent_seconds = _NUMBERS.unpack_from(self._memory)
        return deaths, absent_seconds

    def beat(self, slot: int) -> None:
        """Say that the process of a slot is alive."""
        _BEAT.pack_into(self._memory, _NUMBERS.size + slot * _BEAT.size, time.monotonic())

    def silent_seconds(self, slot: int, since: float) -> float:
        """Return for how long that of a slot has said nothing, since it was started at the most."""
        last: float = _BEAT.unpack_from(self._memory, _NUMBERS.size + slot * _BEAT.size)[0]
        return time.monotonic() - max(last, since)


@dataclass
class _Process:
    running: subprocess.Popen[bytes]
    ready_fd: int
    started: float
    ready: bool = False

    def look(self) -> bool:
        """Tell whether it has said that it is ready."""
        if not self.ready and select.select([self.ready_fd], [], [], 0)[0]:
            self.ready = os.read(self.ready_fd, 1) == b"!"
        return self.ready

    def close(self) -> None:
        os.close(self.ready_fd)


@dataclass
class _Slot:
    number: int
    listener: socket.socket
    process: _Process | None = None
    successor: _Process | None = None
    deaths_in_a_row: int = 0
    # Of the last that died: what its end looked like, for its successor to put on record.
    epitaph: str = ""
    hangs: bool = False
    absent_since: float | None = None
    start_at: float = 0.0
    to_replace: bool = False


class Supervisor:
    """Runs a process for each listener until it is told to stop.

    `drain_seconds` is what they may take to end, `hang_seconds` how long one may keep its event loop from turning.
    `metrics` is the folder where they put together what they measure.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], drain_seconds: float, metrics: Path, hang_seconds: float = 60.0
    ) -> None:
        self._metrics = metrics
        self._slots = [_Slot(number, listener) for number, listener in enumerate(listeners)]
        self._drain_seconds = drain_seconds
        self._hang_seconds = hang_seconds
        self._shared = SharedCounts(len(listeners))
        self._deaths = 0
        self._absent_seconds = 0.0
        self._ever_ready = False
        # Its other end closes with this process; that is how the others learn of it.
        self._life_read, self._life_write = os.pipe()
        # Old processes that were told to stop, and until when they may take to.
        self._going: list[tuple[_Process, float]] = []

    def run(self) -> int:
        """Return the exit code once all processes have ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            while True:
                for slot in self._slots:
                    self._keep(slot)
                self._look_after_those_that_go()
                if not self._ever_ready and all(slot.deaths_in_a_row >= _HOPELESS for slot in self._slots):
                    log.error("no_worker_starts", extra={"deaths": self._deaths})
                    self._stop()
                    return 1
                received = signal.sigtimedwait(SIGNALS, _LOOK_SECONDS)
                if received is None or received.si_signo == signal.SIGCHLD:
                    continue
                if received.si_signo == signal.SIGHUP:
                    for slot in self._slots:
                        slot.to_replace = True
                    continue
                self._stop()
                return 0
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _keep(self, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.process is not None and slot.process.running.poll() is not None:
            self._bury(slot, now)
        if slot.successor is not None and slot.successor.running.poll() is not None:
            log.error("successor_died", extra={"slot": slot.number, "exit": slot.successor.running.returncode})
            slot.successor.close()
            slot.successor = None
            slot.to_replace = False
        if slot.process is None:
            if now >= slot.start_at:
                slot.process = self._start(slot)
            return
        if slot.process.look():
            self._welcome(slot, now)
            self._end_if_it_hangs(slot, slot.process)
        if slot.to_replace and slot.process.ready:
            self._replace(slot)

    def _welcome(self, slot: _Slot, now: float) -> None:
        self._ever_ready = True
        slot.deaths_in_a_row = 0
        if slot.absent_since is not None:
            self._absent_seconds += now - slot.absent_since
            facts = {"slot": slot.number, "seconds": round(now - slot.absent_since, 3)}
            log.warning("worker_replaced", extra=facts | {"absent_seconds_total": round(self._absent_seconds, 3)})
            slot.absent_since = None
            self._shared.write(self._deaths, self._absent_seconds)

    def _end_if_it_hangs(self, slot: _Slot, process: _Process) -> None:
        silent = self._shared.silent_seconds(slot.number, process.started)
        if silent > self._hang_seconds and not slot.hangs:
            slot.hangs = True
            facts = {"slot": slot.number, "pid": process.running.pid, "seconds": round(silent, 1)}
            log.error("worker_hangs", extra=facts)
            process.running.kill()

    def _bury(self, slot: _Slot, now: float) -> None:
        dead = slot.process
        assert dead is not None  # noqa: S101 - asked by the caller
        self._deaths += 1
        slot.deaths_in_a_row += 1
        slot.process = None
        slot.epitaph = f"{'hung' if slot.hangs else 'died'} {dead.running.pid} {dead.running.returncode}"
        slot.hangs = False
        slot.absent_since = slot.absent_since or now
        # At once the first time; one that dies again and again at its start is given time.
        pause = 0.0 if slot.deaths_in_a_row == 1 else min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**slot.deaths_in_a_row)
        slot.start_at = now + pause
        self._shared.write(self._deaths, self._absent_seconds)
        facts = {"slot": slot.number, "pid": dead.running.pid, "exit": dead.running.returncode}
        log.error("worker_died", extra=facts | {"deaths_total": self._deaths})
        dead.close()

    def _replace(self, slot: _Slot) -> None:
        """Start a successor, one slot at a time, and stop the old process once it is ready."""
        if slot.successor is None:
            if all(other.successor is None for other in self._slots):
                slot.successor = self._start(slot)
        elif slot.successor.look():
            old, slot.process, slot.successor = slot.process, slot.successor, None
            slot.to_replace = False
            assert old is not None  # noqa: S101 - there is one where one is replaced
            old.running.terminate()
            self._going.append((old, time.monotonic() + self._drain_seconds + _EXTRA_SECONDS))

    def _look_after_those_that_go(self) -> None:
        for process, until in list(self._going):
            if process.running.poll() is not None:
                process.close()
                self._going.remove((process, until))
            elif time.monotonic() > until:
                process.running.kill()

    def _start(self, slot: _Slot) -> _Process:
        ready_read, ready_write = os.pipe()
        fds = (slot.listener.fileno(), ready_write, self._life_read, self._shared.fd)
        told = (*fds, slot.number, len(self._slots), self._metrics, *([slot.epitaph] if slot.epitaph else []))
        slot.epitaph = ""
        command = [sys.executable, "-m", "discern.cli.worker", *map(str, told)]
        running = subprocess.Popen(command, pass_fds=fds)  # noqa: S603 - ourselves
        os.close(ready_write)
        return _Process(running, ready_read, time.monotonic())

    def _stop(self) -> None:
        """End all processes: gently, at once when the drain takes too long or a second signal comes."""
        for slot in self._slots:
            # Nobody is to wait for a successor that will not come.
            slot.listener.close()
        processes = [one for slot in self._slots for one in (slot.process, slot.successor) if one is not None]
        for process in processes:
            process.running.terminate()
        until = time.monotonic() + self._drain_seconds + _EXTRA_SECONDS
        for process in [*processes, *(process for process, _ in self._going)]:
            self._end(process, until)

    @staticmethod
    def _end(process: _Process, until: float) -> None:
        while process.running.poll() is None:
            received = signal.sigtimedwait(SIGNALS - {signal.SIGHUP}, 0.1)
            hurried = received is not None and received.si_signo in {signal.SIGTERM, signal.SIGINT}
            if hurried or time.monotonic() > until:
                process.running.kill()
                process.running.wait()
        process.close()
