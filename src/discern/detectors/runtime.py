"""A stage's model on ONNX Runtime; the only file that imports it.

- A session is opened from the bytes that were verified, never from a path.
- The same feeds give the same outputs: sequential execution, deterministic kernels, a fixed number of threads.
- Memory does not grow with the number of runs or with the variety of batch sizes: no arena, no cached memory patterns.
- Every failure of ONNX Runtime leaves this file as `StageFailed`; nothing else of it does.
- `run` may be called by any number of threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from discern.detectors.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

ROUNDING = 1e-5
"""How far a probability may lie outside [0, 1]: sums of float32 leaves do, by a few units in the last place."""

_FAILURES = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NotImplemented,
    native.RuntimeException,
    MemoryError,  # how a failed allocation inside a kernel can arrive here
    UnicodeDecodeError,  # a name in the graph, or in a message about it, that is not UTF-8
)
_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(uint32)": np.uint32,
    "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_FATAL_ONLY = 4


class StageFailed(Exception):
    """A stage's model could not be opened or could not answer. `stage` is its name, `reason` one line for people."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"stage {stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One graph input or output. `dtype` is None where it is not a tensor of numbers; an open dimension is None."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...]

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype is not None and self.dtype.kind == "f"


class StageModel:
    """One opened ONNX model.

    `inputs` and `outputs` describe the graph; `probability` is the name of the output that holds the probability of
    the positive class: the one asked for, else the one named `probability`, else the only one that holds floats.
    Raises StageFailed when the bytes are not a model that ONNX Runtime opens, or that output cannot be told.
    """

    def __init__(self, name: str, model_bytes: bytes, *, threads: int = 1, probability: str | None = None) -> None:
        self.name = name
        try:
            self._session = onnxruntime.InferenceSession(
                model_bytes,
                sess_options=_options(threads),
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it prints to standard output and tries the same provider again
            )
            self.inputs = tuple(_described(node) for node in self._session.get_inputs())
            self.outputs = tuple(_described(node) for node in self._session.get_outputs())
        except _FAILURES as error:
            raise StageFailed(name, f"ONNX Runtime does not open the model: {_one_line(error)}") from error
        self.probability = self._probability_output(probability)
        self._expected = {info.name: info.dtype for info in self.inputs}

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Return the probability, shape [rows], and the other `outputs` asked for, shape [rows, ...].

        `feeds` holds every graph input, shape [rows, ...], in the graph's own type; feeds are not changed. A
        probability output of shape [rows, 1] is flattened, of [rows, 2] the second column is taken; it stays float32
        or float64 (float16 becomes float32) and may hold any value.
        Raises StageFailed when ONNX Runtime fails or an output does not have one entry per row.
        """
        rows = self._rows(feeds)
        names = [self.probability, *(name for name in dict.fromkeys(outputs) if name != self.probability)]
        contiguous = {name: np.ascontiguousarray(values) for name, values in feeds.items()}
        try:
            values = self.compute(names, contiguous)
        except _FAILURES as error:
            raise StageFailed(self.name, f"ONNX Runtime failed: {_one_line(error)}") from error
        found: dict[str, NDArray[Any]] = dict(zip(names, values, strict=True))
        found[self.probability] = self._column(found[self.probability], rows)
        for name, value in found.items():
            if value.shape[:1] != (rows,):
                raise StageFailed(self.name, f"output {name} has shape {list(value.shape)} for {rows} rows")
        return found

    def compute(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the graph's outputs `names` as they come; a subclass may ask another runtime."""
        values: list[NDArray[Any]] = self._session.run(list(names), dict(feeds))
        return values

    def _probability_output(self, asked: str | None) -> str:
        floats = [info.name for info in self.outputs if info.is_float]
        if asked is not None:
            if asked not in floats:
                raise StageFailed(self.name, f"the graph has no output {asked!r} that holds floats; it has {floats}")
            return asked
        if "probability" in floats:
            return "probability"
        if not floats:
            raise StageFailed(self.name, "no output is a tensor of floats; convert the model without ZipMap")
        if len(floats) > 1:
            raise StageFailed(self.name, f"which output is the probability? Name one of {floats} in the stage")
        return floats[0]

    def _rows(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        expected = self._expected
        if feeds.keys() != expected.keys():
            raise StageFailed(self.name, f"the graph takes {sorted(expected)} but was given {sorted(feeds)}")
        for name, values in feeds.items():
            if values.dtype != expected[name]:
                raise StageFailed(self.name, f"input {name} is {expected[name]} but was given {values.dtype}")
        counts = {values.shape[0] if values.ndim else 0 for values in feeds.values()}
        if len(counts) != 1 or counts == {0}:
            raise StageFailed(self.name, f"inputs have {sorted(counts)} rows")
        return counts.pop()

    def _column(self, values: NDArray[Any], rows: int) -> NDArray[np.float32] | NDArray[np.float64]:
        if values.shape not in {(rows,), (rows, 1), (rows, 2)}:
            raise StageFailed(
                self.name,
                f"the probability output {self.probability} has shape {list(values.shape)} for {rows} rows; "
                "[rows], [rows, 1] or [rows, 2] is expected",
            )
        column = values if values.ndim == 1 else values[:, -1]
        precise: DTypeLike = np.float64 if column.dtype == np.float64 else np.float32
        return np.ascontiguousarray(column, dtype=precise)


def _options(threads: int) -> onnxruntime.SessionOptions:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = _FATAL_ONLY  # what fails is raised; standard error is not ours to write to
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _described(node: onnxruntime.NodeArg) -> TensorInfo:
    dtype = _DTYPES.get(node.type)
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorInfo(node.name, None if dtype is None else np.dtype(dtype), shape)


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()) or type(error).__name__)
