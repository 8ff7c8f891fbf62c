"""Variants on ONNX Runtime's CPU provider, which is what serves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discern.detectors.runtime import StageModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Stage


class TimedModel(StageModel):
    """A stage's model that adds up the milliseconds it computed for; `spent` may be set back."""

    def __init__(self, stage: Stage, content: bytes) -> None:
        super().__init__(stage.name, content, probability=stage.probability)
        self.spent = 0.0

    def compute(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Do what the model does, and count the time."""
        started = time.perf_counter()
        values = super().compute(names, feeds)
        self.spent += (time.perf_counter() - started) * 1000
        return values


class Opened:
    """The models of a bundle's variant on a runtime, by stage."""

    def __init__(self, models: Mapping[str, TimedModel], runtime_version: str) -> None:
        self.models = models
        self.version = runtime_version

    def peak_bytes(self) -> int | None:
        """Return the most memory that another process held for it, None where it is this one's."""
        return None


def missing(_cache: Path) -> str | None:
    """Return why the runtime cannot be measured here, or None."""
    return None


@contextmanager
def opened(bundle: Bundle, _cache: Path) -> Iterator[Opened]:
    """Open the models of the bundle's variant. Raises StageFailed."""
    models = {stage.name: TimedModel(stage, bundle.read(bundle.model_of(stage))) for stage in bundle.manifest.stages}
    yield Opened(models, version("onnxruntime"))
