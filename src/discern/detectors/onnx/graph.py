"""An ONNX file looked at without running it: what it takes and gives, and whether it is fit to be loaded at all.

Neither the onnx package nor onnxruntime is used, and nothing is built out of the file but the summary that is returned.

- A tensor's bytes are in the file: external data are refused wherever a tensor can stand (initializers, attributes,
  sparse tensors, subgraphs, functions, training information).
- Only operators of `ai.onnx` and `ai.onnx.ml` are taken, and no functions of the file's own.
- Sizes are compared as whole numbers of any length, so nothing overflows.
- Memory is bounded by the file's size and time by a count of fields, whatever the file holds; nothing recurses.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from discern.core.errors import BundleRefused
from discern.detectors.onnx.recognition import recognise
from discern.detectors.onnx.schema import BY_NUMBER, ELEMENT_TYPES
from discern.detectors.onnx.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Field,
    Malformed,
    OverBudget,
    WireReader,
    signed,
)
from discern.detectors.refusal import printable, refused

MODEL_BYTES = 1024**3
NODES = 100_000
SUBGRAPH_DEPTH = 16
DIMENSION = 2**31
DIMENSIONS = 32
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_MESSAGE_DEPTH = 100
FIELDS = 2_000_000
# Runs of AttributeProto.floats, .ints and short .strings, of which a forest of decision trees has millions.
_SHORT = b"|".join(re.escape(bytes([length])) + b".{%d}" % length for length in range(32))
_UNUSED_VALUES = re.compile(rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f]|\x4a(?:" + _SHORT + rb"))++", re.DOTALL)
_MEND = "Export the model to a single ONNX file with standard operators, its weights inside."

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: `dtype` in NumPy's words, `shape` with symbolic dimensions by name and unknown ones None."""

    name: str
    dtype: str | None
    shape: Shape | None


@dataclass(frozen=True)
class Graph:
    """What an ONNX file holds. `operators` is domain -> operator -> count; `weight_bytes` sums all its tensors."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opsets: dict[str, int]
    operators: dict[str, dict[str, int]]
    nodes: int
    weight_bytes: int


def inspect_graph(content: bytes, name: str, *, budget: int = FIELDS) -> Graph:
    """Return what the ONNX file `content` holds. Raises BundleRefused, which names the file, when it is not fit.

    `budget` is the most fields of the format that are looked at, which bounds the time to a few seconds.
    """
    if len(content) > MODEL_BYTES:
        raise refused(name, f"it has {len(content)} bytes and at most {MODEL_BYTES} are taken")
    what = recognise(content)
    if what is not None:
        raise refused(name, f"it is not an ONNX file but {what}", _MEND)
    try:
        return _Inspection(content, name, budget).run()
    except Malformed as error:
        raise refused(name, f"it is not an ONNX file, or it is damaged ({error})", _MEND) from None
    except OverBudget:
        raise refused(name, f"it is made of more than {budget} fields") from None


@dataclass
class _Frame:
    """A message on the way from the file's root to where the inspection stands."""

    message: str
    via: str
    fields: Iterator[Field]
    depth: int
    singles: dict[str, Field] = field(default_factory=dict)


class _Inspection:
    def __init__(self, content: bytes, name: str, budget: int) -> None:
        self.reader = WireReader(content, budget)
        self.size = len(content)
        self.name = name
        self.extras: set[str] = set()
        self.nodes = 0
        self.weight_bytes = 0
        self.opsets: dict[str, int] = {}
        self.operators: dict[str, Counter[str]] = {}
        self.initializers: set[str] = set()
        self.inputs: list[TensorInfo] = []
        self.outputs: list[TensorInfo] = []
        self._at_end: dict[str, Callable[[_Frame], None]] = {
            "ModelProto": self._model,
            "NodeProto": self._node,
            "OperatorSetIdProto": self._operator_set,
            "TensorShapeProto.Dimension": self._declared_dimension,
        }

    def run(self) -> Graph:
        """Walk the whole file, depth first, and return its summary."""
        stack = [_Frame("ModelProto", "", self.reader.fields(0, self.size), -1)]
        while stack:
            frame = stack[-1]
            one = next(frame.fields, None)
            if one is None:
                stack.pop()
                if (finish := self._at_end.get(frame.message)) is not None:
                    finish(frame)
                continue
            known = BY_NUMBER[frame.message].get(one[0])
            if known is None:
                continue
            via, kind, repeated = known
            if kind not in BY_NUMBER:
                frame.singles[via] = one
            elif one[1] == LENGTH:
                if not repeated and frame.singles.setdefault(via, one) is not one:  # readers would merge the two
                    raise self._refused(f"a {frame.message} gives its `{via}` twice")
                self._enter(stack, frame, via, kind, one)
        inputs = tuple(one for one in self.inputs if one.name not in self.initializers)
        operators = {domain: dict(counts) for domain, counts in self.operators.items()}
        return Graph(inputs, tuple(self.outputs), self.opsets, operators, self.nodes, self.weight_bytes)

    def _enter(self, stack: list[_Frame], parent: _Frame, via: str, kind: str, place: Field) -> None:
        """Go into a message, or deal with it whole where it is a leaf."""
        _, _, begin, end = place
        depth = parent.depth
        if kind == "TensorProto":
            self._tensor(begin, end, at_top=via == "initializer" and depth == 0)
            return
        if kind == "SparseTensorProto":
            self._sparse_dimensions(begin, end)
        elif kind == "NodeProto":
            self.nodes += 1
            if self.nodes > NODES:
                raise self._refused(f"it has more than {NODES} nodes")
        elif kind == "GraphProto":
            depth += 1
            if depth > SUBGRAPH_DEPTH:
                raise self._refused(f"its subgraphs are nested more than {SUBGRAPH_DEPTH} deep")
        elif kind == "ValueInfoProto" and depth == 0 and via in ("input", "output"):
            (self.inputs if via == "input" else self.outputs).append(self._tensor_info(begin, end))
        elif kind == "FunctionProto":
            self.extras.add("functions of its own, which must be inlined")
            depth += 1
        elif kind == "TrainingInfoProto":
            self.extras.add("training information")
            depth += 1
        if len(stack) > _MESSAGE_DEPTH:
            raise self._refused(f"it is nested more than {_MESSAGE_DEPTH} messages deep")
        runs = _UNUSED_VALUES if kind == "AttributeProto" else None
        stack.append(_Frame(kind, via, self.reader.fields(begin, end, runs), depth))

    # What is known once a message has been walked.

    def _model(self, frame: _Frame) -> None:
        if "graph" not in frame.singles or "ir_version" not in frame.singles:
            raise self._refused("it is not an ONNX file: a version or a graph is missing")
        if self.extras:
            raise self._refused(f"it holds {' and '.join(sorted(self.extras))}")

    def _node(self, frame: _Frame) -> None:
        operator, domain = self._text(frame, "op_type"), self._text(frame, "domain")
        if domain not in DOMAINS:
            raise self._refused(
                f"it uses the operator {printable(operator, 60)!r} of the domain {printable(domain, 60)!r}; "
                "only ai.onnx and ai.onnx.ml are taken"
            )
        self.operators.setdefault(domain or "ai.onnx", Counter())[operator] += 1

    def _operator_set(self, frame: _Frame) -> None:
        domain = self._text(frame, "domain")
        if domain not in DOMAINS:
            raise self._refused(
                f"it needs operators of the domain {printable(domain, 60)!r}; only ai.onnx and ai.onnx.ml are taken"
            )
        version = frame.singles.get("version")
        self.opsets[domain or "ai.onnx"] = signed(version[2]) if version and version[1] == VARINT else 0

    def _declared_dimension(self, frame: _Frame) -> None:
        value = frame.singles.get("dim_value")
        if value is not None and value[1] == VARINT:
            self._check_dimension(signed(value[2]), "a declared shape")

    # Tensors, the leaves.

    def _tensor(self, begin: int, end: int, *, at_top: bool) -> None:
        """Check one TensorProto: its bytes are inside, and there are as many as its dimensions say."""
        dimensions: list[int] = []
        data_type, raw_bytes, entries, name, outside = 0, None, 0, "", False
        string_bytes = 0
        for number, wire, value, stop in self.reader.fields(begin, end):
            which, kind, _ = BY_NUMBER["TensorProto"].get(number, ("", "", False))
            if which == "dims":
                self._extend(dimensions, wire, value, stop)
            elif which == "data_type" and wire == VARINT:
                data_type = value
            elif which == "name" and wire == LENGTH:
                name = self.reader.text(value, stop)
            elif which == "raw_data" and wire == LENGTH:
                raw_bytes = stop - value
            elif which == "string_data" and wire == LENGTH:
                entries, string_bytes = entries + 1, string_bytes + stop - value
            elif which == "external_data" or (which == "data_location" and value != 0):
                outside = True
            elif which == "segment":
                raise self._refused("a tensor is stored in segments")
            elif which.endswith("_data"):
                entries += self._entries(kind, wire, value, stop)
        label = f"the tensor {printable(name, 80)!r}" if name else "a tensor"
        if outside:
            raise self._refused(f"{label} keeps its data in another file")
        if at_top:
            self.initializers.add(name)
        self.weight_bytes += self._bytes_needed(label, dimensions, data_type, raw_bytes, entries) or string_bytes

    def _bytes_needed(
        self, label: str, dimensions: list[int], data_type: int, raw_bytes: int | None, entries: int
    ) -> int:
        for dimension in dimensions:
            self._check_dimension(dimension, label)
        if data_type not in ELEMENT_TYPES:
            raise self._refused(f"{label} is of the element type {data_type}, which ONNX does not define")
        _, bits = ELEMENT_TYPES[data_type]
        elements = math.prod(dimensions)
        needed = -(-elements * bits // 8)
        if raw_bytes is not None:
            enough = needed <= raw_bytes
        elif 0 < bits < 8:
            enough = elements <= entries * (8 // bits)
        else:
            enough = elements * (2 if data_type in (14, 15) else 1) <= entries
        if not enough:
            raise self._refused(f"{label} is said to have {elements} elements, but its data hold fewer")
        return needed

    def _entries(self, kind: str, wire: int, begin: int, end: int) -> int:
        """Return how many numbers one field holds, packed or not."""
        if wire == LENGTH:
            width = {"float": 4, "double": 8}.get(kind)
            return (end - begin) // width if width else self.reader.count_packed(begin, end)
        return int(wire == {"float": FIXED32, "double": FIXED64}.get(kind, VARINT))

    def _sparse_dimensions(self, begin: int, end: int) -> None:
        dimensions: list[int] = []
        for number, wire, value, stop in self.reader.fields(begin, end):
            if BY_NUMBER["SparseTensorProto"].get(number, ("", "", False))[0] == "dims":
                self._extend(dimensions, wire, value, stop)
        for dimension in dimensions:
            self._check_dimension(dimension, "a sparse tensor")
        if math.prod(dimensions) * 8 > MODEL_BYTES:
            raise self._refused(f"a sparse tensor stands for {math.prod(dimensions)} elements")

    def _extend(self, dimensions: list[int], wire: int, value: int, stop: int) -> None:
        values = self.reader.packed(value, stop) if wire == LENGTH else iter((value,))
        for one in values:
            dimensions.append(signed(one))
            if len(dimensions) > DIMENSIONS:
                raise self._refused(f"a tensor has more than {DIMENSIONS} dimensions")

    def _check_dimension(self, dimension: int, label: str) -> None:
        if dimension < 0 or dimension > DIMENSION:
            raise self._refused(f"{label} has the dimension {dimension}, which is outside 0 to {DIMENSION}")

    # Inputs and outputs.

    def _tensor_info(self, begin: int, end: int) -> TensorInfo:
        name, dtype, shape = "", None, None
        for number, _, value, stop in self._payloads("ValueInfoProto", begin, end):
            if number == "name":
                name = self.reader.text(value, stop)
            else:
                for kind, _, inner, inner_stop in self._payloads("TypeProto", value, stop):
                    if kind == "tensor_type":
                        dtype, shape = self._type_and_shape(inner, inner_stop)
        return TensorInfo(name, dtype, shape)

    def _type_and_shape(self, begin: int, end: int) -> tuple[str | None, Shape | None]:
        dtype, shape = None, None
        for which, wire, value, stop in self._payloads("TypeProto.Tensor", begin, end):
            if which == "elem_type" and wire == VARINT:
                dtype = ELEMENT_TYPES.get(value, (None, 0))[0]
            elif which == "shape" and wire == LENGTH:
                dimensions = [self._dimension(*one[2:]) for one in self._payloads("TensorShapeProto", value, stop)]
                shape = tuple(dimensions)
        return dtype, shape

    def _dimension(self, begin: int, end: int) -> int | str | None:
        dimension: int | str | None = None
        for which, wire, value, stop in self._payloads("TensorShapeProto.Dimension", begin, end):
            if which == "dim_value" and wire == VARINT:
                dimension = signed(value)
            elif which == "dim_param" and wire == LENGTH:
                dimension = self.reader.text(value, stop) or None
        return dimension

    def _payloads(self, message: str, begin: int, end: int) -> Iterator[tuple[str, int, int, int]]:
        """Yield the known fields of a message by name; those that must be messages or strings only where they are."""
        for number, wire, value, stop in self.reader.fields(begin, end):
            known = BY_NUMBER[message].get(number)
            if known is not None and (wire == LENGTH or known[1] in ("int32", "int64")):
                yield known[0], wire, value, stop

    def _text(self, frame: _Frame, which: str) -> str:
        one = frame.singles.get(which)
        return self.reader.text(one[2], one[3]) if one is not None and one[1] == LENGTH else ""

    def _refused(self, reason: str) -> BundleRefused:
        return refused(self.name, reason, _MEND)
