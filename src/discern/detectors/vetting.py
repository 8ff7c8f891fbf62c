"""A bundle's models run for the first time: in a process apart, with limits, before they ever run in the server.

- The process has limits on memory, processor time, wall-clock time and open files, may write no file, leaves no core
  dump, is killed with all it started, and sees nothing of our environment.
- It uses the bytes that the manifest lists: each file's digest is checked as it is read there.
- Whatever it does (dies, hangs, grows, prints nonsense) becomes BundleRefused with the file and the reason.

A vetted bundle is remembered by its digest, which covers every byte of it; the limits are those of resource limits of
the operating system, not those of a virtual machine, so they are the second line of defence and the signature the
first.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import msgspec

import discern
from discern.core.errors import OperatorError
from discern.detectors.bundle import Bundle
from discern.detectors.manifest import MANIFEST_NAME
from discern.detectors.refusal import printable, refused

_OUTPUT_BYTES = 1_000_000
STARTER = (
    "import sys; sys.path.append(sys.argv[1]) if sys.argv[1] not in sys.path else None; "
    "from discern.detectors.vetting_child import main; main()"
)
OVER_LIMITS = (
    "If the model needs that much, raise `vetting_bytes` or `vetting_seconds`; otherwise correct it and pack the "
    "bundle again."
)
_UNFIT = "Correct the model and pack the bundle again."


@dataclass(frozen=True, slots=True)
class VettingLimits:
    """What the process may use. Memory is address space in bytes; times are in seconds."""

    memory_bytes: int = 4 * 1024**3
    processor_seconds: int = 60
    wall_seconds: float = 90.0
    open_files: int = 64


class VettedStage(msgspec.Struct, frozen=True):
    """How long a stage took for its first batch of one row, loading apart, in milliseconds."""

    name: str
    model: str
    load_milliseconds: float
    run_milliseconds: float


class VettingResult(msgspec.Struct, frozen=True):
    """A bundle that passed. `peak_bytes` is the most memory the process held, `seconds` its wall-clock time in all."""

    digest: str
    seconds: float
    peak_bytes: int
    stages: tuple[VettedStage, ...]


class Fault(msgspec.Struct, frozen=True):
    """What the process found wrong."""

    file: str
    reason: str
    mend: str | None = None


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the process's report: the file it is at, or how it ended."""

    at: str | None = None
    fault: Fault | None = None
    peak_bytes: int | None = None
    stages: tuple[VettedStage, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the process ended: `why_killed` says it when it was us who ended it."""

    output: bytes
    errors: bytes
    code: int
    why_killed: str | None


def vetting_mark(bundle: Bundle) -> str:
    """Return what a vetting holds for: the bundle, and the version of ONNX Runtime that ran it."""
    return f"{bundle.digest}-onnxruntime-{version('onnxruntime')}"


def vet(bundle: Bundle, limits: VettingLimits | None = None, *, starter: str = STARTER) -> VettingResult:
    """Open and run every model of `bundle` on one row and on three, those of its variants too, apart from here.

    Raises BundleRefused naming the file and the reason when a model does not fit the manifest, fails, gives anything
    but one probability a row, or goes beyond the limits. Raises OperatorError when no process can be started.
    `starter` is the program that the process runs; only a test has reason to give another.
    """
    allowed = limits or VettingLimits()
    request = {
        "manifest": bundle.manifest.model_dump(mode="json"),
        "root": str(bundle.root),
        "digest": bundle.digest,
        "limits": asdict(allowed),
    }
    started = time.monotonic()
    ended = _run(json.dumps(request).encode(), allowed, starter)
    lines, intact = _lines(ended.output)
    at = next((line.at for line in reversed(lines) if line.at), MANIFEST_NAME)
    last = lines[-1] if lines else Line()
    if last.fault is not None:
        raise refused(last.fault.file, printable(last.fault.reason), last.fault.mend or _UNFIT)
    if ended.why_killed is not None or ended.code != 0:
        raise refused(at, ended.why_killed or _death(ended, allowed), OVER_LIMITS)
    if not intact or last.peak_bytes is None:
        raise refused(at, "the process that runs it gave no readable answer", _UNFIT)
    return VettingResult(bundle.digest, time.monotonic() - started, last.peak_bytes, last.stages)


def _run(request: bytes, limits: VettingLimits, starter: str) -> _Ended:
    package = str(Path(discern.__file__).parents[1])
    environment = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if "LD_LIBRARY_PATH" in os.environ:  # where the interpreter itself may need it to start
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    with tempfile.TemporaryFile() as given:
        given.write(request)
        given.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
                [sys.executable, "-I", "-B", "-c", starter, package],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise OperatorError(f"The process that vets bundles does not start: {error.strerror}.") from error
        with process:
            try:
                output, errors, why_killed = _collect(process, time.monotonic() + limits.wall_seconds, limits)
            finally:
                _kill(process)
    return _Ended(output, errors, process.returncode, why_killed)


def _collect(
    process: subprocess.Popen[bytes], deadline: float, limits: VettingLimits
) -> tuple[bytes, bytes, str | None]:
    """Return what the process wrote, and why it must be killed, if it must."""
    late = f"it ran for more than {limits.wall_seconds:g} s"
    held: dict[IO[bytes], bytearray] = {}
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            held[stream] = bytearray()
    why: str | None = None
    with selectors.DefaultSelector() as selector:
        for stream, content in held.items():
            selector.register(stream, selectors.EVENT_READ, content)
        while selector.get_map() and why is None:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            for one, _ in ready:
                piece = os.read(one.fd, 65_536)
                one.data.extend(piece)
                if not piece:
                    selector.unregister(one.fileobj)
                if len(one.data) > _OUTPUT_BYTES:
                    why = "the process that runs it wrote without end"
            if not ready and time.monotonic() >= deadline:
                why = late
    while why is None and not _has_ended(process):
        time.sleep(0.01)
        if time.monotonic() >= deadline:
            why = late
    output, errors = (bytes(content) for content in held.values())
    return output, errors, why


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. It is left to be waited for, so that its id stays its own until `_kill` is done with it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever else is in its session; by the time this returns it has been waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, and so has all it started
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _lines(output: bytes) -> tuple[list[Line], bool]:
    """Return the report's lines up to the first that is none, and whether all were."""
    lines: list[Line] = []
    for text in output.splitlines():
        try:
            lines.append(msgspec.json.decode(text, type=Line))
        except (msgspec.DecodeError, RecursionError):
            return lines, False
    return lines, True


def _death(ended: _Ended, limits: VettingLimits) -> str:
    if ended.code == -signal.SIGXCPU:
        return f"it used more than {limits.processor_seconds} s of processor time"
    if ended.code < 0:
        return f"the process that runs it was ended by {signal.Signals(-ended.code).name}"
    last = ended.errors.decode("utf-8", errors="replace").strip().splitlines()[-1:]
    return f"the process that runs it failed ({printable(last[0]) if last else f'exit code {ended.code}'})"
