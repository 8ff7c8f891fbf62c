"""The nouns of a table of platforms: a detector's variants on runtimes."""

from __future__ import annotations

import msgspec

from discern.evaluation.types import Estimate


class PlatformRow(msgspec.Struct, frozen=True):
    """One variant on one runtime.

    Latencies are of one row through the whole cascade, the models' own time alone; `peak_bytes` is what the process
    grew by at most while it opened and ran them. Differences are of the scores of `fp32` on ONNX Runtime, and
    `decisions_differ` counts the items decided otherwise.
    """

    variant: str
    runtime: str
    version: str = ""
    missing: str | None = None
    size: int | None = None
    latency_p50_milliseconds: float | None = None
    latency_p95_milliseconds: float | None = None
    peak_bytes: int | None = None
    largest_difference: float | None = None
    mean_difference: float | None = None
    decisions_differ: int | None = None
    area_under_roc: Estimate | None = None


class PlatformTable(msgspec.Struct, frozen=True):
    """A detector's variants on runtimes, measured on the same items."""

    detector: str
    version: str
    bundle_sha256: str
    dataset: str
    dataset_sha256: str
    seed: int
    items: int
    rows: tuple[PlatformRow, ...]

    @property
    def lasting(self) -> PlatformTable:
        """The table without times and memory, which are another on every machine and in every run."""
        nothing = {"latency_p50_milliseconds": None, "latency_p95_milliseconds": None, "peak_bytes": None}
        return msgspec.structs.replace(self, rows=tuple(msgspec.structs.replace(row, **nothing) for row in self.rows))
