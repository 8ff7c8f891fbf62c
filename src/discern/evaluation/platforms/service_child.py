"""What runs in the process that `service_measuring` starts: one variant on one runtime, row by row."""

from __future__ import annotations

import contextlib
from importlib import import_module
from pathlib import Path

import msgspec
import numpy as np

from discern.core.errors import BundleRefused
from discern.detectors.bundle import Bundle
from discern.detectors.cascade import Cascade
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageFailed
from discern.evaluation.platforms.service_measuring import REPORT, REQUEST, ROWS, Report, Request


def main(place: str) -> None:
    """Do what the request in the folder `place` asks for, and leave the report there."""
    folder = Path(place)
    request = msgspec.json.decode((folder / REQUEST).read_bytes(), type=Request)
    rows = np.load(folder / ROWS, mmap_mode="r", allow_pickle=False)
    try:
        report = measured(request, rows)
    except StageFailed as failure:
        report = Report(f"stage {failure.stage}: {failure.reason}")
    except BundleRefused as error:
        report = Report(error.detail)
    (folder / REPORT).write_bytes(msgspec.json.encode(report))


def measured(request: Request, rows: np.ndarray) -> Report:
    """Return what one variant makes of the rows. Raises StageFailed and BundleRefused."""
    manifest = Manifest.model_validate(request.manifest)
    bundle = Bundle(manifest, Path(request.root), request.digest, signer=None, variant=request.variant)
    before = _forget_peak()
    with import_module(request.module).opened(bundle, Path(request.cache)) as opened:
        cascade = Cascade(manifest, opened.models)
        cascade.score(rows[:1])  # the first run of a session does more than run
        scores: list[float | None] = []
        milliseconds: list[float] = []
        for place in range(len(rows)):
            for model in opened.models.values():
                model.spent = 0.0
            found = cascade.score(np.array(rows[place : place + 1]))
            degraded = bool(found.faults)
            scores.append(None if degraded else float(found.score[0]))
            milliseconds.append(sum(model.spent for model in opened.models.values()))
            if degraded and place == 0:
                return Report(f"it does not answer: {found.faults[0]}", opened.version)
        peak = opened.peak_bytes()
        grown = _status("VmHWM") - before
    return Report(None, opened.version, tuple(scores), tuple(milliseconds), grown if peak is None else peak)


def _forget_peak() -> int:
    """Set the peak of this process back to what it holds, where the kernel allows, and return that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
