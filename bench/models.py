"""The two models that every server in a comparison is given, written by code: boosted trees and a small network.

- Building one twice gives the same bytes, so a figure can be had again.
- Scores spread over [0, 1], so that a server that answers with another input's score is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.baseline import FIELDS, SIDE

_TREES, _DEPTH = 120, 5
# About 2 ms a picture on one thread of a server's processor.
_CHANNELS = (40, 80, 128, 176)
_SEED = 11


def record_model() -> bytes:
    """Return boosted trees: float32 `record` [rows, 30] -> float32 `probability` [rows]."""
    generator = np.random.default_rng(_SEED)
    inner, total = 2**_DEPTH - 1, 2 ** (_DEPTH + 1) - 1
    nodes = [(tree, node, node >= inner) for tree in range(_TREES) for node in range(total)]
    leaves = [(tree, node) for tree, node, leaf in nodes if leaf]
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["record"],
        ["logits"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        nodes_treeids=[tree for tree, _, _ in nodes],
        nodes_nodeids=[node for _, node, _ in nodes],
        nodes_featureids=[0 if leaf else int(generator.integers(len(FIELDS))) for _, _, leaf in nodes],
        nodes_modes=["LEAF" if leaf else "BRANCH_LEQ" for _, _, leaf in nodes],
        nodes_values=[0.0 if leaf else float(generator.uniform(-1, 1)) for _, _, leaf in nodes],
        nodes_truenodeids=[0 if leaf else 2 * node + 1 for _, node, leaf in nodes],
        nodes_falsenodeids=[0 if leaf else 2 * node + 2 for _, node, leaf in nodes],
        target_treeids=[tree for tree, _ in leaves],
        target_nodeids=[node for _, node in leaves],
        target_ids=[0] * len(leaves),
        target_weights=[float(generator.normal(0, 0.15)) for _ in leaves],
    )
    return _model([ensemble], "record", [len(FIELDS)], TensorProto.FLOAT, [])


def failing_model() -> bytes:
    """Return what fails where the first field is below 0: float32 `record` [rows, 30] -> `probability` [rows]."""
    first = numpy_helper.from_array(np.array([0], dtype=np.int64), "first")
    nodes = [
        helper.make_node("Gather", ["record", "first"], ["field"], axis=1),
        helper.make_node("Sqrt", ["field"], ["logits"]),
    ]
    return _model(nodes, "record", [len(FIELDS)], TensorProto.FLOAT, [first])


def image_model(pictures: NDArray[np.uint8]) -> bytes:
    """Return a network: uint8 `image` [rows, 224, 224, 3] -> float32 `probability` [rows].

    `pictures`, in the same form, say where its scores are to spread: their log odds have mean 0 and deviation 1.5.
    """
    odds = _log_odds(_network(1.0, 0.0), pictures)
    scale = 1.5 / float(odds.std())
    return _network(scale, -scale * float(odds.mean()))


def opened(model: bytes) -> onnxruntime.InferenceSession:
    """Return the model in ONNX Runtime as it is used in process: one thread a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _network(scale: float, bias: float) -> bytes:
    generator = np.random.default_rng(_SEED)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["shares"]),
        helper.make_node("Transpose", ["shares"], ["layer0"], perm=[0, 3, 1, 2]),
    ]
    constants = [_constant("white", np.float32(255))]
    depth = 3
    for index, channels in enumerate(_CHANNELS):
        kernel = generator.normal(0, (2 / (9 * depth)) ** 0.5, (channels, depth, 3, 3))
        constants += [_constant(f"kernel{index}", kernel), _constant(f"bias{index}", np.zeros(channels))]
        inputs = [f"layer{index}", f"kernel{index}", f"bias{index}"]
        nodes.append(helper.make_node("Conv", inputs, [f"sums{index}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"sums{index}"], [f"layer{index + 1}"]))
        depth = channels
    constants.append(_constant("weights", generator.normal(0, 1, (depth, 1)) * scale))
    constants.append(_constant("bias", np.array([bias])))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"layer{len(_CHANNELS)}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
    ]
    return _model(nodes, "image", [SIDE, SIDE, 3], TensorProto.UINT8, constants)


def _log_odds(model: bytes, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    (scores,) = opened(model).run(["probability"], {"image": pictures})
    probability = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: NDArray[np.float64] = np.log(probability / (1 - probability))
    return odds


def _constant(name: str, values: NDArray[Any] | np.generic) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def _model(
    nodes: Sequence[onnx.NodeProto],
    name: str,
    shape: Sequence[int],
    element: int,
    constants: Sequence[onnx.TensorProto],
) -> bytes:
    """Return a model of `nodes`, which make `logits` [rows, 1] of `name` [rows, *shape]."""
    ending = [
        helper.make_node("Sigmoid", ["logits"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
    ]
    graph = helper.make_graph(
        [*nodes, *ending],
        name,
        [helper.make_tensor_value_info(name, element, ["rows", *shape])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows"])],
        [*constants, numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return made
