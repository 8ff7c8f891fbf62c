"""Variants on OpenVINO's CPU plugin, in float32 where the model is. Needs the extra `openvino`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.detectors.refusal import printable
from discern.detectors.runtime import StageFailed
from discern.evaluation.platforms.service_onnxruntime import Opened, TimedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Stage

_CONFIGURATION = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


class _OpenVinoModel(TimedModel):
    """A stage's model, described by ONNX Runtime and computed by OpenVINO."""

    def __init__(self, stage: Stage, content: bytes, core: Any) -> None:  # noqa: ANN401 - the library is an extra
        super().__init__(stage, content)
        del self._session
        try:
            compiled = core.compile_model(core.read_model(model=content), "CPU", _CONFIGURATION)
        except RuntimeError as error:
            raise StageFailed(stage.name, f"OpenVINO does not open the model: {_last_line(error)}") from error
        self._request = compiled.create_infer_request()
        self._places = {name: place for place, one in enumerate(compiled.outputs) for name in one.get_names()}

    def compute(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        started = perf_counter()
        try:
            values = self._request.infer(dict(feeds))
        except RuntimeError as error:
            raise StageFailed(self.name, f"OpenVINO failed: {_last_line(error)}") from error
        self.spent += (perf_counter() - started) * 1000
        return [np.array(values[self._places[name]]) for name in names]


def missing(_cache: Path) -> str | None:
    """Return why the runtime cannot be measured here, or None."""
    if importlib.util.find_spec("openvino") is None:
        return "it is not installed: pip install 'discern-detectors[openvino]'"
    return None


@contextmanager
def opened(bundle: Bundle, _cache: Path) -> Iterator[Opened]:
    """Open the models of the bundle's variant. Raises StageFailed."""
    # Its package for telemetry would report to its makers; what imports it does without where it is not there.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what the import system takes for absent
    import openvino  # noqa: PLC0415 - needs an extra

    core = openvino.Core()
    models = {
        stage.name: _OpenVinoModel(stage, bundle.read(bundle.model_of(stage)), core) for stage in bundle.manifest.stages
    }
    yield Opened(models, version("openvino"))


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "No conversion rule" in line]
    return printable((telling or lines[-1:] or [type(error).__name__])[0])
