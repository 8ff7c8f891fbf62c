"""What runs in the process that `vetting` starts: limits first, then each model once, then a report on standard output.

- The limits are set before any byte of the bundle is read; this process cannot raise them again.
- Only what was announced is reported: which file is next, what is wrong with it, or that all is well.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.core.errors import BundleRefused
from discern.detectors.bundle import Bundle
from discern.detectors.cascade import Cascade, RowOutcome
from discern.detectors.manifest import Manifest, Stage
from discern.detectors.refusal import refused
from discern.detectors.runtime import StageFailed, StageModel
from discern.detectors.vetting import OVER_LIMITS, Fault, Line, VettedStage, VettingLimits
from discern.inputs.spec import ImageSpec

ROWS = (1, 3)
"""One row, and more than one: a model whose batch is fixed or whose rows are mixed up shows at once."""


class _Request(msgspec.Struct, frozen=True):
    manifest: dict[str, Any]
    root: str
    digest: str
    limits: VettingLimits


class _WatchedModel(StageModel):
    """A stage's model that says so before it runs, and keeps its last run time and the first failure of any run."""

    def __init__(self, stage: Stage, file: str, content: bytes) -> None:
        self.file = file
        self.run_milliseconds = 0.0
        self.failure: str | None = None
        super().__init__(stage.name, content, probability=stage.probability)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        _report(Line(at=self.file))
        started = time.perf_counter()
        try:
            result = super().run(feeds, outputs)
        except StageFailed as failure:
            self.failure = self.failure or failure.reason
            raise
        self.run_milliseconds = (time.perf_counter() - started) * 1000
        return result


def main() -> None:
    """Vet the bundle that standard input names and report; the exit code is 0 whatever the finding."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    _limit(request.limits)
    manifest = Manifest.model_validate(request.manifest)
    bundle = Bundle(manifest=manifest, root=Path(request.root), digest=request.digest, signer=None)
    try:
        stages = run_models(bundle)
        for variant in manifest.variants:
            replaced = variant.models.values()
            stages += tuple(one for one in run_models(bundle.with_variant(variant.name)) if one.model in replaced)
    except BundleRefused as error:
        reason, mend = str(error.facts["reason"]), error.mend
        if "alloc" in reason.lower():
            reason = f"{reason} (it may use {request.limits.memory_bytes // 1024**2} MiB)"
            mend = OVER_LIMITS
        _report(Line(fault=Fault(str(error.facts["file"]), reason, mend)))
        return
    _report(Line(stages=stages, peak_bytes=_peak_bytes()))


def run_models(bundle: Bundle) -> tuple[VettedStage, ...]:
    """Open every model of the bundle's variant and run the whole cascade, no early exits, on rows of zeros.

    Raises BundleRefused.
    """
    models: dict[str, _WatchedModel] = {}
    loads: dict[str, float] = {}
    for stage in bundle.manifest.stages:
        file = bundle.model_of(stage)
        _report(Line(at=file))
        content = bundle.read(file)
        started = time.perf_counter()
        try:
            models[stage.name] = _WatchedModel(stage, file, content)
        except StageFailed as failure:
            raise refused(file, failure.reason) from None
        loads[stage.name] = (time.perf_counter() - started) * 1000
    cascade = Cascade(bundle.manifest, models, early_exits=False)
    firsts: dict[str, float] = {}
    for rows in ROWS:
        outcomes = cascade.run(_zeros(bundle.manifest, rows))
        _check(models, outcomes, "one row" if rows == 1 else f"{rows} rows")
        firsts = firsts or {name: model.run_milliseconds for name, model in models.items()}
    return tuple(
        VettedStage(stage.name, bundle.model_of(stage), loads[stage.name], firsts[stage.name])
        for stage in bundle.manifest.stages
    )


def _zeros(manifest: Manifest, rows: int) -> NDArray[Any]:
    spec = manifest.input
    if isinstance(spec, ImageSpec):
        return np.zeros((rows, spec.height, spec.width, 3), dtype=np.uint8)
    return np.zeros((rows, len(spec.fields)), dtype=np.float32)


def _check(models: Mapping[str, _WatchedModel], outcomes: Sequence[RowOutcome], batch: str) -> None:
    """Raise BundleRefused for a failure, also one that the cascade got round by running the rows one by one."""
    for model in models.values():
        if model.failure is not None:
            raise refused(model.file, f"on {batch} of zeros: {model.failure}")
    for reading in (reading for outcome in outcomes for reading in outcome.readings):
        if reading.score is None:
            raise refused(models[reading.name].file, f"on {batch} of zeros: {reading.error}")


def _limit(limits: VettingLimits) -> None:
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_AS, limits.memory_bytes),
    ):
        resource.setrlimit(what, (most, most))
    # At the soft limit the kernel sends SIGXCPU, which the parent can tell from other deaths; at the hard one SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.processor_seconds, limits.processor_seconds + 1))


def _peak_bytes() -> int:
    # Not getrusage: its peak is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _report(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()
