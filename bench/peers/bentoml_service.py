"""BentoML with one model: `bentoml serve bench.peers.bentoml_service:Records`, or BatchedRecords, or Images.

Two workers each. A batched service takes lists, as BentoML's adaptive batching wants; requests then hold a list of one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from bench import baseline

_FOLDER = Path(os.environ["BENCH_MODELS"])
_TOGETHER = {"batchable": True, "max_batch_size": 64, "max_latency_ms": 1000}


@bentoml.service(workers=2)
class Records:
    """One record a request."""

    def __init__(self) -> None:
        self.session = baseline.session(_FOLDER / "record.onnx")

    @bentoml.api  # type: ignore[untyped-decorator]
    async def records(self, record: dict[str, float]) -> dict[str, float]:
        """Answer for one."""
        return {"score": baseline.probability(self.session, "record", baseline.row(record))}


@bentoml.service(workers=2)
class BatchedRecords:
    """Records that wait are run together."""

    def __init__(self) -> None:
        self.session = baseline.session(_FOLDER / "record.onnx")

    @bentoml.api(**_TOGETHER)  # type: ignore[untyped-decorator]
    def records(self, rows: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Answer for many."""
        found: np.ndarray[Any, np.dtype[np.float32]] = self.session.run(["probability"], {"record": rows})[0]
        return found


@bentoml.service(workers=2)
class Images:
    """One picture a request, as it is."""

    def __init__(self) -> None:
        self.session = baseline.session(_FOLDER / "image.onnx")

    @bentoml.api  # type: ignore[untyped-decorator]
    def images(self, image: Path, /) -> dict[str, float]:
        """Answer for one."""
        return {"score": baseline.probability(self.session, "image", baseline.picture(image.read_bytes()))}
