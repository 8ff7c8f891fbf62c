"""Tiny real ONNX files, made by code: well-behaved ones and evil ones.

The well-behaved models answer row by row and are exact enough to compute by hand:

- `record_model`: sigmoid(weights . record + bias).
- `image_model`: sigmoid(slope * (mean brightness / 255 - 0.5)), and the mean of each channel as `embedding`.
- `stacked_model`: the same brightness plus an earlier score, sigmoid(slope * (brightness - 0.5) + weight * (score -
  0.5)).
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 9
INT64_MAX = 2**63 - 1
CARD = "# Card\n\nMade by a test.\n"


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of one graph; `domains` adds operator sets to the standard one."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(name, v) for name, v in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tests")


def constant(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def tensor(name: str, shape: Sequence[int | str | None], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def record_model(weights: Sequence[float] = (1.0, -2.0, 0.5), bias: float = 0.0) -> bytes:
    """float32 `record` [rows, fields] -> float32 `probability` [rows]."""
    nodes = [
        helper.make_node("MatMul", ["record", "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
    ]
    initializers = [
        constant("weights", np.reshape(weights, (-1, 1))),
        constant("bias", [bias]),
        constant("axis", [1], np.int64),
    ]
    model = build(nodes, [tensor("record", ["rows", len(weights)])], [tensor("probability", ["rows"])], initializers)
    return model.SerializeToString()


def _brightness(slope: float) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["share"]),
        helper.make_node("Sub", ["share", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "slope"], ["logits"]),
    ]
    return nodes, [constant("white", 255.0), constant("half", 0.5), constant("slope", slope)]


def image_model(height: int = 32, width: int = 32, slope: float = 8.0) -> bytes:
    """uint8 `image` [rows, height, width, 3] -> float32 `probability` [rows] and `embedding` [rows, 3]."""
    nodes, initializers = _brightness(slope)
    nodes += [
        helper.make_node("Sigmoid", ["logits"], ["probability"]),
        helper.make_node("ReduceMean", ["pixels"], ["embedding"], axes=[1, 2], keepdims=0),
    ]
    inputs = [tensor("image", ["rows", height, width, 3], TensorProto.UINT8)]
    outputs = [tensor("probability", ["rows"]), tensor("embedding", ["rows", 3])]
    return build(nodes, inputs, outputs, initializers).SerializeToString()


def stacked_model(height: int = 32, width: int = 32, slope: float = 8.0, weight: float = 2.0) -> bytes:
    """uint8 `image` [rows, height, width, 3] and float32 `screen_score` [rows] -> float32 `probability` [rows]."""
    nodes, initializers = _brightness(slope)
    nodes += [
        helper.make_node("Sub", ["screen_score", "half"], ["centred_score"]),
        helper.make_node("Mul", ["centred_score", "weight"], ["weighted"]),
        helper.make_node("Add", ["logits", "weighted"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["probability"]),
    ]
    initializers.append(constant("weight", weight))
    inputs = [
        tensor("image", ["rows", height, width, 3], TensorProto.UINT8),
        tensor("screen_score", ["rows"]),
    ]
    return build(nodes, inputs, [tensor("probability", ["rows"])], initializers).SerializeToString()


# Models that answer wrongly or not at all. Each takes float32 `record` [rows, fields].


def _from_first_column(nodes: Sequence[onnx.NodeProto], fields: int, *initializers: onnx.TensorProto) -> bytes:
    """`nodes` turn `first` [rows] into `probability` [rows]."""
    pick = helper.make_node("Gather", ["record", "column"], ["first"], axis=1)
    inputs, outputs = [tensor("record", ["rows", fields])], [tensor("probability", ["rows"])]
    return build([pick, *nodes], inputs, outputs, [constant("column", 0, np.int64), *initializers]).SerializeToString()


def identity_model(fields: int = 3) -> bytes:
    """Probability = first field, whatever it is: out of range or NaN when the record says so."""
    return _from_first_column([helper.make_node("Identity", ["first"], ["probability"])], fields)


def out_of_range_model(fields: int = 3) -> bytes:
    """Probability = first field + 2."""
    return _from_first_column(
        [helper.make_node("Add", ["first", "two"], ["probability"])], fields, constant("two", 2.0)
    )


def nan_model(fields: int = 3) -> bytes:
    """Probability = (first field * 0) / 0."""
    nodes = [
        helper.make_node("Mul", ["first", "zero"], ["nothing"]),
        helper.make_node("Div", ["nothing", "zero"], ["probability"]),
    ]
    return _from_first_column(nodes, fields, constant("zero", 0.0))


def root_model(fields: int = 3) -> bytes:
    """Probability = sigmoid(square root of the first field): NaN for rows where that is below 0."""
    nodes = [
        helper.make_node("Sqrt", ["first"], ["root"]),
        helper.make_node("Sigmoid", ["root"], ["probability"]),
    ]
    return _from_first_column(nodes, fields)


def poisoned_model(fields: int = 3) -> bytes:
    """Probability 0.5, but the whole run fails when any row's first field is 1 or more (an index out of its table)."""
    nodes = [
        helper.make_node("Cast", ["first"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["probability"], axis=0),
    ]
    return _from_first_column(nodes, fields, constant("table", [0.5]))


def wrong_shape_model(fields: int = 3) -> bytes:
    """One probability for the whole batch: [1] whatever the rows."""
    nodes = [helper.make_node("ReduceMean", ["first"], ["probability"], axes=[0], keepdims=1)]
    return _from_first_column(nodes, fields)


def allocating_model(gigabytes: int = 40, fields: int = 3) -> bytes:
    """A file of a few hundred bytes that asks for `gigabytes` when run (a ConstantOfShape)."""
    nodes = [
        helper.make_node("Cast", ["first"], ["whole"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["whole"], ["offset"], keepdims=1),
        helper.make_node("Add", ["offset", "size"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"], value=constant("value", [1.0])),
        helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["first", "mean"], ["probability"]),
    ]
    return _from_first_column(nodes, fields, constant("size", [gigabytes * 250_000_000], np.int64))


def endless_model(fields: int = 3) -> bytes:
    """A Loop of 2**63 - 1 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["go_on"]),
            helper.make_node("Sigmoid", ["carried"], ["carried_on"]),
        ],
        "body",
        [tensor("turn", [], TensorProto.INT64), tensor("condition", [], TensorProto.BOOL), tensor("carried", ["rows"])],
        [tensor("go_on", [], TensorProto.BOOL), tensor("carried_on", ["rows"])],
    )
    nodes = [helper.make_node("Loop", ["turns", "true", "first"], ["probability"], body=body)]
    initializers = [constant("turns", INT64_MAX, np.int64), constant("true", True, np.bool_)]
    return _from_first_column(nodes, fields, *initializers)


# Files that static inspection must refuse.


def external_data_model(location: str = "weights.bin") -> bytes:
    """An initializer whose bytes are said to stand in another file."""
    model = onnx.load_from_string(record_model())
    for initializer in model.graph.initializer:
        if initializer.name == "weights":
            _make_external(initializer, location)
    return model.SerializeToString()


def _make_external(initializer: onnx.TensorProto, location: str) -> None:
    initializer.ClearField("raw_data")
    initializer.data_location = TensorProto.EXTERNAL
    entry = initializer.external_data.add()
    entry.key, entry.value = "location", location


def external_constant(location: str = "/etc/passwd") -> onnx.TensorProto:
    """A tensor of one float32 that is said to stand in `location`."""
    value = constant("outside", [0.0])
    _make_external(value, location)
    return value


def initializer_model(dims: Sequence[int], raw: bytes = b"", dtype: int = TensorProto.FLOAT) -> bytes:
    """A record model with one more initializer of the given dimensions and bytes, consistent or not."""
    model = onnx.load_from_string(record_model())
    added = model.graph.initializer.add()
    added.name, added.data_type, added.raw_data = "added", dtype, raw
    added.dims.extend(dims)
    return model.SerializeToString()


def declared_dimension_model(dimension: int) -> bytes:
    """A record model whose input is declared [rows, dimension]."""
    model = onnx.load_from_string(record_model())
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = dimension
    return model.SerializeToString()


def custom_domain_model(domain: str = "com.example") -> bytes:
    """A record model that imports the operators of another domain, without using them."""
    model = onnx.load_from_string(record_model())
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model.SerializeToString()


def custom_operator_model(domain: str = "com.example", *, imported: bool = True) -> bytes:
    """A model with an operator of another domain."""
    node = helper.make_node("Anything", ["first"], ["probability"], domain=domain)
    model = onnx.load_from_string(_from_first_column([node], 3))
    if imported:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model.SerializeToString()


def nested_model(depth: int) -> bytes:
    """If within If, `depth` subgraphs deep."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["first"], ["inner0"])], "leaf", [], [tensor("inner0", ["rows"])]
    )
    for level in range(1, depth):
        node = helper.make_node("If", ["true"], [f"inner{level}"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], f"level{level}", [], [tensor(f"inner{level}", ["rows"])])
        if level > 6:  # both branches double the size; past a few levels one branch is enough
            del node.attribute[1]
            body = helper.make_graph([node], f"level{level}", [], [tensor(f"inner{level}", ["rows"])])
    node = helper.make_node("If", ["true"], ["probability"], then_branch=body)
    return _from_first_column([node], 3, constant("true", True, np.bool_))


def many_nodes_model(count: int) -> bytes:
    """A chain of `count` Identity nodes."""
    nodes = [helper.make_node("Identity", ["first"], ["n0"])]
    nodes += [helper.make_node("Identity", [f"n{i}"], [f"n{i + 1}"]) for i in range(count - 2)]
    return _from_first_column([*nodes, helper.make_node("Identity", [f"n{count - 2}"], ["probability"])], 3)


def pickled() -> bytes:
    """A pickle, as `joblib` or `torch` would leave one."""
    return pickle.dumps({"weights": [0.0] * 8}, protocol=4)


def torch_archive() -> bytes:
    """A zip archive laid out as `torch.save` does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled())
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


# Working folders, as `pack` takes them.


def record_manifest(**changes: Any) -> dict[str, Any]:
    """The manifest of a one-stage record detector with fields a, b, c."""
    fields = [{"name": name, "type": "number", "minimum": -100, "maximum": 100} for name in ("a", "b", "c")]
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "toy-record",
        "version": "1.0.0",
        "task": "Tells toy records apart.",
        "input": {"kind": "record", "fields": fields},
        "classes": {"negative": "fine", "positive": "odd"},
        "stages": [{"name": "only", "model": "only.onnx", "calibration": {"temperature": 1.5}}],
        "decision": {"review_from": 0.4, "flag_from": 0.8},
        "card": "CARD.md",
    }
    return manifest | changes


def image_manifest(**changes: Any) -> dict[str, Any]:
    """The manifest of a one-stage image detector, 32 x 32 pixels, which takes video too."""
    manifest = record_manifest() | {
        "name": "toy-image",
        "task": "Tells bright pictures from dark ones.",
        "input": {"kind": "image", "width": 32, "height": 32, "crop": "none"},
        "classes": {"negative": "dark", "positive": "bright"},
        "stages": [{"name": "only", "model": "only.onnx"}],
        "video": {"frames": 4, "pool": "mean"} | {"top": 2},
    }
    return manifest | changes


def cascade_manifest(**changes: Any) -> dict[str, Any]:
    """The manifest of a two-stage image detector; the expert also takes the screen's calibrated score."""
    stages = [
        {
            "name": "screen",
            "model": "screen.onnx",
            "calibration": {"temperature": 1.3},
            "exits": {"clear_below": 0.1, "flag_above": 0.9},
        },
        {
            "name": "expert",
            "model": "expert.onnx",
            "takes": {"image": "input", "screen_score": "screen.score"},
            "calibration": {"temperature": 0.8},
        },
    ]
    return image_manifest() | {"name": "toy-cascade", "stages": stages} | changes


RECORD_FILES = {"only.onnx": record_model(), "CARD.md": CARD.encode()}
IMAGE_FILES = {"only.onnx": image_model(), "CARD.md": CARD.encode()}
CASCADE_FILES = {"screen.onnx": image_model(slope=6.0), "expert.onnx": stacked_model(), "CARD.md": CARD.encode()}


def write_source(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """A working folder: the manifest without `files`, the models and the card."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "detector.yaml").write_text(yaml.safe_dump(dict(manifest), sort_keys=False), encoding="utf-8")
    return folder


def write_bundle(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """A bundle written by hand, with true digests and without a signature: what `pack` would refuse can be made so."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return write_source(folder, {**manifest, "files": digests}, files)
