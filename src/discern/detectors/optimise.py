"""Smaller or faster models that stand for a stage's own: half precision, and 8 bits.

- Inputs and outputs keep their names, types and shapes, so a variant stands wherever the original stood.
- What is counted stays exact: an operator whose results are rounded, compared or cast to integers further on is never
  quantised, and tensors of float64 are left as they are.
- The same model and the same calibration rows give the same bytes.
- A model with nothing to convert, or that the converter does not take, is `NotConverted`, with the reason.

Needs the extra `optimise`, imported where it is used.

Static quantisation follows Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (2018), arXiv:1712.05877, per channel of the weights as in Krishnamoorthi (2018),
arXiv:1806.08342, by ONNX Runtime's quantiser. Its weights have 7 bits: with 8, processors without VNNI instructions
saturate sums and answer otherwise than those with them.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import BundleRefused, MissingExtra
from discern.detectors.onnx.graph import inspect_graph
from discern.detectors.refusal import printable

Feeds = Mapping[str, NDArray[Any]]
"""What one run of a graph is given: every input, [rows, ...]."""

LEAST_NUMBERS = 1024
"""Tensors of fewer numbers stay as they are: they are no size, and often not weights but settings."""

_LARGEST_HALF = 65_504.0
_LEVELS = 127
_QUANTISED = frozenset({"Conv", "Gemm", "MatMul"})
_WEIGHT = 1
_ROUNDING = frozenset(
    {"ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Round", "Sign"}
)
# What the converters are known to raise for a model that they do not take.
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError)


class NotConverted(Exception):
    """A model stays as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A model in another form, and in one line what was done to it."""

    model: bytes
    note: str


def half_precision(model: bytes, _calibration: Iterable[Feeds]) -> Converted:
    """Store the weights in half precision; arithmetic stays as it is, so only the rounding of weights shows."""
    return _stored_otherwise(model, "half precision", _as_half)


def eight_bit_weights(model: bytes, _calibration: Iterable[Feeds]) -> Converted:
    """Store the weights in 8 bits with a scale for each channel; arithmetic stays as it is."""
    return _stored_otherwise(model, "8 bits", _as_bytes)


def eight_bits(model: bytes, calibration: Iterable[Feeds]) -> Converted:
    """Compute in 8 bits where the operators allow, and store the other weights as `eight_bit_weights` does.

    `calibration` gives typical inputs of the graph, whose ranges become those of the activations.
    """
    onnx = _library()
    proto = _parsed(model)
    _widen(proto)
    nodes = _quantisable(proto)
    if not nodes:
        raise NotConverted("no operator with float32 weights but those whose results are rounded further on")
    from onnxruntime import quantization  # noqa: PLC0415 - needs an extra

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            self._feeds = iter(calibration)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            feeds = next(self._feeds, None)
            return None if feeds is None else dict(feeds)

    with tempfile.TemporaryDirectory(prefix="discern-optimise-") as folder, _quiet(), _translated("quantise"):
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        source.write_bytes(proto.SerializeToString())
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_quantize=nodes,
        )
        quantised = onnx.load_model(target)
    if all(node.op_type != "QuantizeLinear" for node in quantised.graph.node):
        raise NotConverted("ONNX Runtime quantised none of its operators")
    _only_standard(quantised)
    changed = _store(quantised, _as_bytes)
    rest = f", {changed} other weights stored in 8 bits" if changed else ""
    return Converted(_checked(quantised), f"{len(nodes)} operators in 8 bits{rest}")


Conversion = Callable[[bytes, Iterable[Feeds]], Converted]
CONVERSIONS: Mapping[str, Conversion] = {
    "fp16": half_precision,
    "int8": eight_bits,
    "int8-weights": eight_bit_weights,
}
"""Every kind of variant that is made here, by its name in the manifest."""


def missing_optimise() -> MissingExtra:
    """Return the error for what needs the `optimise` extra."""
    return MissingExtra(
        "Converting models needs what the extra `optimise` brings.",
        mend="Install it: pip install 'discern-detectors[optimise]'.",
        extra="optimise",
    )


def _library() -> Any:  # noqa: ANN401 - a module
    if importlib.util.find_spec("onnx") is None:
        raise missing_optimise()
    import onnx  # noqa: PLC0415 - needs an extra

    return onnx


def _parsed(model: bytes) -> Any:  # noqa: ANN401 - a ModelProto
    """Return the model with every node named, as the quantiser wants them."""
    proto = _library().load_model_from_string(model)
    for place, node in enumerate(proto.graph.node):
        node.name = node.name or f"node_{place}"
    return proto


_Packed = tuple[list[Any], list[Any]]
"""The tensors that stand for one, and the nodes that give it."""


def _stored_otherwise(model: bytes, what: str, pack: Callable[[Any], _Packed | None]) -> Converted:
    proto = _parsed(model)
    changed = _store(proto, pack)
    if not changed:
        raise NotConverted(f"no tensor of {LEAST_NUMBERS} numbers or more that {what} would make smaller")
    return Converted(_checked(proto), f"{changed} weights stored in {what}")


def _store(proto: Any, pack: Callable[[Any], _Packed | None]) -> int:  # noqa: ANN401
    """Let `pack` replace the large weights of a model in place; return how many it did."""
    graph = proto.graph
    inputs = {one.name for one in graph.input}
    tensors, nodes, changed = [], [], 0
    for tensor in graph.initializer:
        packed = None if tensor.name in inputs or math.prod(tensor.dims) < LEAST_NUMBERS else pack(tensor)
        if packed is None:
            tensors.append(tensor)
        else:
            changed += 1
            tensors += packed[0]
            nodes += packed[1]
    nodes += graph.node
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    return changed


def _as_half(tensor: Any) -> _Packed | None:  # noqa: ANN401
    """Return what stands for a tensor in half precision, or None where it stays."""
    onnx = _library()
    values = onnx.numpy_helper.to_array(tensor) if tensor.data_type == onnx.TensorProto.FLOAT else None
    if values is None or not np.abs(values).max() <= _LARGEST_HALF:
        return None
    stored = onnx.numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
    cast = onnx.helper.make_node("Cast", [stored.name], [tensor.name], f"{tensor.name}.from_half", to=tensor.data_type)
    return [stored], [cast]


def _as_bytes(tensor: Any) -> _Packed | None:  # noqa: ANN401
    """Do the same in 8 bits: a cast and a product, which runtimes fold; a DequantizeLinear they may not."""
    onnx = _library()
    if tensor.data_type not in {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}:
        return None
    values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
    if not np.isfinite(values).all():
        return None
    levels, scale = _levels(values)
    stored = onnx.numpy_helper.from_array(levels, f"{tensor.name}.levels")
    scales = onnx.numpy_helper.from_array(scale, f"{tensor.name}.scale")
    whole, product = f"{tensor.name}.whole", tensor.name
    half = tensor.data_type == onnx.TensorProto.FLOAT16
    if half:
        product = f"{tensor.name}.product"
    nodes = [
        onnx.helper.make_node("Cast", [stored.name], [whole], whole, to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [whole, scales.name], [product], f"{tensor.name}.scaled"),
    ]
    if half:
        nodes.append(
            onnx.helper.make_node("Cast", [product], [tensor.name], f"{tensor.name}.from_float", to=tensor.data_type)
        )
    return [stored, scales], nodes


def _levels(values: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return whole numbers and the scale per channel that give `values` back, by the axis that does it best."""
    best: tuple[float, NDArray[np.int8], NDArray[np.float32]] | None = None
    for axis in range(values.ndim):
        others = tuple(other for other in range(values.ndim) if other != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / _LEVELS, 1.0).astype(np.float32)
        scale = np.where(scale > 0, scale, np.float32(1.0))
        levels = np.clip(np.rint(values / scale), -_LEVELS, _LEVELS)
        error = float(np.square(levels * scale - values).sum())
        if best is None or error < best[0]:
            best = error, levels.astype(np.int8), scale
    assert best is not None  # noqa: S101 - a tensor of this many numbers has a dimension
    return best[1], best[2]


def _widen(proto: Any) -> None:  # noqa: ANN401
    """Give weights that are stored in half precision and cast as float32, in place: the same numbers, to quantise."""
    onnx = _library()
    graph = proto.graph
    half = {one.name: one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT16}
    casts = [
        node
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in half and node.attribute[0].i == onnx.TensorProto.FLOAT
    ]
    for node in casts:
        values = onnx.numpy_helper.to_array(half[node.input[0]]).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    for name in half.keys() - set(_names_used(graph)):
        graph.initializer.remove(half[name])


def _names_used(graph: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the names of the tensors that a graph and the graphs inside it read, and those that they give."""
    graphs = [graph]
    while graphs:
        inner = graphs.pop()
        yield from (one.name for one in inner.output)
        for node in inner.node:
            yield from node.input
            for attribute in node.attribute:
                graphs += [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs


def _quantisable(proto: Any) -> list[str]:  # noqa: ANN401
    """Return the names of the nodes with float32 weights whose results nothing rounds further on."""
    onnx = _library()
    weights = {one.name for one in proto.graph.initializer if one.data_type == onnx.TensorProto.FLOAT}
    exact = _rounded_later(proto)
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in _QUANTISED
        and node.domain in {"", "ai.onnx"}
        and len(node.input) > _WEIGHT
        and node.input[_WEIGHT] in weights
        and not exact & set(node.output)
    ]


def _rounded_later(proto: Any) -> set[str]:  # noqa: ANN401
    """Return the names of the tensors that a rounding, a comparison or a cast to integers depends on."""
    onnx = _library()
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
    exact: set[str] = set()
    for node in reversed(proto.graph.node):  # a graph stands in the order in which it runs
        cast = node.op_type == "Cast" and node.attribute[0].i not in floats
        if cast or node.op_type in _ROUNDING or exact & set(node.output):
            exact |= set(node.input)
    return exact


def _only_standard(proto: Any) -> None:  # noqa: ANN401
    """Forget the operator sets of other domains that the quantiser names and does not use."""
    used = {node.domain for node in proto.graph.node}
    for opset in list(proto.opset_import):
        if opset.domain not in used | {""}:
            proto.opset_import.remove(opset)


def _checked(proto: Any) -> bytes:  # noqa: ANN401
    model: bytes = proto.SerializeToString(deterministic=True)
    try:
        inspect_graph(model, "the converted model")
    except BundleRefused as error:
        raise NotConverted(f"a bundle would not take what comes out: {error.detail}") from error
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice off standard error; what it fails at is raised."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    from onnx import checker, shape_inference  # noqa: PLC0415 - needs an extra

    failures = (*_FAILURES, ValueError, checker.ValidationError, shape_inference.InferenceError)
    try:
        yield
    except failures as error:
        raise NotConverted(f"ONNX Runtime does not {what} it: {printable(' '.join(str(error).split()))}") from error
