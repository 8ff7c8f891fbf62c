"""Servers under measurement: each a process group of its own on a free loopback port, ended when its block is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.home import issue_key

ROOT = Path(__file__).parent.parent
_BIN = Path(sys.executable).parent
_GIVE_UP_SECONDS = 120
_DRAIN_SECONDS = 40


def _processor_clock(process: int) -> int:
    # What clock_getcpuclockid(3) makes of a process on Linux; Python has it for threads only.
    return (~process << 3) | 2


class Server:
    """A command that serves HTTP on `port` of 127.0.0.1; `path` answers with 2xx as soon as it is ready.

    `environment` is all that the process sees, besides PATH and HOME. Raises RuntimeError with what it printed when it
    ends early, TimeoutError when it does not get ready.
    """

    def __init__(
        self, command: Sequence[str | Path], *, port: int, ready: str, environment: Mapping[str, str], cwd: Path = ROOT
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = [str(part) for part in command]
        self._ready = ready
        self._environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
        self._cwd = cwd
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started; its children share its process group."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            cwd=self._cwd,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def processor_seconds(self) -> float:
        """Return the processor time that the living processes of the server have used, to the nanosecond."""
        used = 0.0
        for process in (int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
            with contextlib.suppress(OSError):  # one that has ended meanwhile
                if os.getpgid(process) == self.pid:
                    used += time.clock_gettime(_processor_clock(process))
        return used

    def printed(self) -> str:
        """Return the end of what the server printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-4000:]

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command[0]} ended with {self._process.returncode}:\n{self.printed()}")
            if answers(self.url + self._ready):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{self._command[0]} did not become ready:\n{self.printed()}")

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_DRAIN_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # what it left behind, and itself when it did not go
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


class Ours(Server):
    """`discern up` with everything on, over a home folder that `bench.home.furnish` made. `secret` is a key."""

    module = "discern.cli.main"

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None, *, workers: int = 1) -> None:
        port = free_port()
        self.home = home
        self.secret = issue_key(home)
        settings = {
            "DISCERN_HOME": str(home),
            "DISCERN_PORT": str(port),
            "DISCERN_LOG_LEVEL": "error",
            "DISCERN_WORKERS": str(workers),
            **(environment or {}),
        }
        command = [sys.executable, "-m", self.module, "up"]
        super().__init__(command, port=port, ready="/readyz", environment=settings)


class Plain(Server):
    """`bench.plain` under uvicorn, as a good engineer runs it: uvloop, httptools, no access log."""

    def __init__(self, models: Path, *, workers: int = 2) -> None:
        port = free_port()
        command: list[str | Path] = [
            _BIN / "python",
            "-m",
            "uvicorn",
            "--factory",
            "bench.plain:create_app",
            "--port",
            str(port),
        ]
        command += ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        command += ["--log-level", "warning"]
        super().__init__(command, port=port, ready="/ready", environment={"BENCH_MODELS": str(models)})


def free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Tell whether a GET is answered with 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
