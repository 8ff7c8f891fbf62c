"""A bundle's variants on every runtime, each in a process of its own.

- Every variant and runtime sees the same rows, one at a time, with the exits that are served.
- A runtime that is not there, or that does not take a model, is a row of the table that says so.
- One that ends its process, or takes too long, spoils its own row alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

import discern
from discern.core.errors import OperatorError
from discern.detectors.manifest import ORIGINAL
from discern.detectors.refusal import printable
from discern.detectors.scoring import decisions_at, thresholds_of
from discern.evaluation.metrics import area_under_roc
from discern.evaluation.platforms.types import LabelledRows, Watch
from discern.evaluation.types_platforms import PlatformRow, PlatformTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.core.verdict import Thresholds
    from discern.detectors.bundle import Bundle
    from discern.detectors.thresholds import Applied

REFERENCE = "onnxruntime"
RUNTIMES = {
    REFERENCE: "discern.evaluation.platforms.service_onnxruntime",
    "openvino": "discern.evaluation.platforms.service_openvino",
    "onnxruntime-web": "discern.evaluation.platforms.service_browser",
}
"""Every runtime that can be measured: its name, and the module with its `missing` and `opened`."""

ITEMS = 100
WALL_SECONDS = 900.0
ROWS, REQUEST, REPORT = "rows.npy", "request.json", "report.json"
_STARTER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from discern.evaluation.platforms.service_child import main; main(sys.argv[2])"
)


class Request(msgspec.Struct, frozen=True):
    """What the process is asked for. `rows` stand in `rows.npy` beside the request."""

    manifest: dict[str, Any]
    root: str
    digest: str
    variant: str | None
    module: str
    cache: str


class Report(msgspec.Struct, frozen=True):
    """What the process found: a fault, or a score and the milliseconds of each row. A row without a score has None."""

    fault: str | None = None
    version: str = ""
    scores: tuple[float | None, ...] = ()
    milliseconds: tuple[float, ...] = ()
    peak_bytes: int | None = None


def measure_platforms(
    bundle: Bundle,
    data: LabelledRows,
    *,
    cache: Path,
    runtimes: Sequence[str] = tuple(RUNTIMES),
    items: int = ITEMS,
    wall_seconds: float = WALL_SECONDS,
    watch: Watch = lambda _text: None,
) -> PlatformTable:
    """Return the table of the bundle's variants, the original first, on `runtimes`, ONNX Runtime first.

    At most `items` rows of `data` are run, as many of either class as there are. `cache` is where the browser's runtime
    lies. The bundle must have been vetted: its models run here.
    """
    places = _spread(data, items)
    labels, manifest = data.labels[places], bundle.manifest
    groups = None if data.groups is None else data.groups[places]
    variants = (None, *(one.name for one in manifest.variants))
    table: list[PlatformRow] = []
    reference: NDArray[np.float64] | None = None
    thresholds = thresholds_of(manifest, data.rows[places])
    with tempfile.TemporaryDirectory(prefix="discern-platforms-") as made:
        folder = Path(made)
        np.save(folder / ROWS, data.rows[places])
        for runtime in (REFERENCE, *(name for name in runtimes if name != REFERENCE)):
            why_not = import_module(RUNTIMES[runtime]).missing(cache)
            for variant in variants:
                if why_not is None:
                    watch(f"{variant or ORIGINAL} on {runtime}")
                    report = _run(bundle.with_variant(variant), RUNTIMES[runtime], folder, cache, wall_seconds)
                else:
                    report = Report(why_not)
                scores = np.array([np.nan if score is None else score for score in report.scores])
                if reference is None:
                    if report.fault is not None:
                        raise OperatorError(f"{manifest.name}: {report.fault}.", mend="See `discern detector check`.")
                    reference = scores
                size = sum(
                    (bundle.root / manifest.model_of(stage, variant)).stat().st_size for stage in manifest.stages
                )
                row = PlatformRow(variant or ORIGINAL, runtime, report.version, report.fault, size)
                found = (
                    {} if report.fault is not None else _figures(report, scores, reference, labels, groups, thresholds)
                )
                table.append(msgspec.structs.replace(row, **found))
    return PlatformTable(
        manifest.name, manifest.version, bundle.digest, data.name, data.sha256, data.seed, len(labels), tuple(table)
    )


def _figures(
    report: Report,
    scores: NDArray[np.float64],
    reference: NDArray[np.float64],
    labels: NDArray[np.int8],
    groups: NDArray[np.int64] | None,
    thresholds: Thresholds | Applied,
) -> dict[str, Any]:
    """Return the fields of a row that come from measuring."""
    gaps = np.abs(scores - reference)
    gaps = gaps[~np.isnan(gaps)]
    p50, p95 = np.percentile(report.milliseconds, [50, 95]).tolist()
    return {
        "latency_p50_milliseconds": p50,
        "latency_p95_milliseconds": p95,
        "peak_bytes": report.peak_bytes,
        "largest_difference": float(gaps.max()) if len(gaps) else None,
        "mean_difference": float(gaps.mean()) if len(gaps) else None,
        "decisions_differ": int((decisions_at(scores, thresholds) != decisions_at(reference, thresholds)).sum()),
        "area_under_roc": area_under_roc(labels, scores, groups),
    }


def _spread(data: LabelledRows, items: int) -> NDArray[np.intp]:
    """Return the positions of the items to run: none of the calibration, half of each class where it has as many."""
    after = np.arange(data.calibration, len(data.labels))
    groups = [after[data.labels[after] == label] for label in (0, 1)]
    smaller = min(len(groups[0]), len(groups[1]), items // 2)
    wanted = [smaller, smaller]
    for place in (0, 1):
        wanted[place] += max(0, min(len(groups[place]) - wanted[place], items - sum(wanted)))
    return np.concatenate([group[:count] for group, count in zip(groups, wanted, strict=True)])


def _run(bundle: Bundle, module: str, folder: Path, cache: Path, wall_seconds: float) -> Report:
    """Return what a process of its own found."""
    manifest = bundle.manifest.model_dump(mode="json")
    request = Request(manifest, str(bundle.root), bundle.digest, bundle.variant, module, str(cache))
    (folder / REQUEST).write_bytes(msgspec.json.encode(request))
    report = folder / REPORT
    report.unlink(missing_ok=True)
    package = str(Path(discern.__file__).parents[1])
    command = [sys.executable, "-c", _STARTER, package, str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own code
            command, capture_output=True, timeout=wall_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Report(f"it took more than {wall_seconds:g} s")
    if not report.exists():
        last = done.stderr.decode("utf-8", errors="replace").strip().splitlines()[-1:]
        return Report(f"its process failed: {printable(last[0]) if last else f'exit code {done.returncode}'}")
    return msgspec.json.decode(report.read_bytes(), type=Report)
