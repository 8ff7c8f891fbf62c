"""Load: so many connections that each send the next request as soon as they have the answer, for so many seconds.

- Every request of a run and of all runs has a body of its own, so that no cache answers it.
- `wrk` sends where it is installed, else `bench.client`; both read the same file of templates.
- A request counts when it was answered with 2xx; whoever measures checks that answers are right with `bench.rightness`.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.inputs import VARIANTS

_WRK_SCRIPT = Path(__file__).with_name("wrk.lua")
_DIGITS = 12
_starts = itertools.count(1)
_PER_RUN = 200_000_000

Template = Callable[[int], tuple[bytes, bytes]]
"""Returns what stands before and after the serial number in the body of a variant."""


@dataclass(frozen=True)
class Traffic:
    """What is sent: POSTs to `path` with `headers` and a body of `template`."""

    path: str
    template: Template
    headers: Mapping[str, str]

    def body(self, serial: int) -> bytes:
        """Return the body of a serial number, of the variant that the load would send it with."""
        before, after = self.template(serial % VARIANTS)
        return before + b"%0*d" % (_DIGITS, serial) + after

    def request(self, host: str, serial: int) -> bytes:
        """Return the whole request of a serial number."""
        before, after = self.split_request(host, serial % VARIANTS)
        return before + b"%0*d" % (_DIGITS, serial) + after

    def split_request(self, host: str, variant: int) -> tuple[bytes, bytes]:
        """Return what stands before and after the serial number in the whole request of a variant."""
        before, after = self.template(variant)
        length = str(len(before) + _DIGITS + len(after))
        headers = {"Host": host, **self.headers, "Content-Length": length}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + before, after


@dataclass(frozen=True)
class Load:
    """What came of a run: good answers a second, the share of all that were not good, milliseconds to an answer."""

    per_second: float
    answered: int
    failed: int
    p50: float
    p95: float
    p99: float


def generator() -> str:
    """Return the name of what sends the load here."""
    return "wrk" if shutil.which("wrk") else "the bundled client"


def load(port: int, traffic: Traffic, folder: Path, *, connections: int, seconds: float) -> Load:
    """Send for `seconds` over `connections`. `folder` takes a scratch file."""
    templates = folder / "templates"
    _write_templates(templates, port, traffic)
    first = next(_starts) * _PER_RUN
    if shutil.which("wrk"):
        # One thread: the servers are to have the processor.
        command: list[str | Path] = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "30s",
        ]
        command += ["-s", _WRK_SCRIPT, f"http://127.0.0.1:{port}{traffic.path}", "--", templates, str(first)]
    else:
        command = [
            sys.executable,
            "-m",
            "bench.client",
            str(port),
            str(connections),
            str(seconds),
            templates,
            str(first),
        ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_WRK_SCRIPT.parent.parent)
    line = next(line for line in ended.stdout.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    failed = found["refused"] + found["broken"]
    answered = found["requests"] - found["refused"]
    return Load(answered / (found["microseconds"] / 1e6), answered, failed, found["p50"], found["p95"], found["p99"])


def read_templates(path: Path) -> list[tuple[bytes, bytes]]:
    """Return what stands before and after the serial number in each of the requests."""
    found = []
    with path.open("rb") as file:
        while sizes := file.readline():
            before, after = map(int, sizes.split())
            found.append((file.read(before), file.read(after)))
            file.read(1)
    return found


def _write_templates(path: Path, port: int, traffic: Traffic) -> None:
    """Write whole requests, head and body, with the place of the serial number left out."""
    with path.open("wb") as file:
        for variant in range(VARIANTS):
            before, after = traffic.split_request(f"127.0.0.1:{port}", variant)
            file.write(b"%d %d\n" % (len(before), len(after)) + before + after + b"\n")
