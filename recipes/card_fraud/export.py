"""The model as one ONNX graph: fifteen features in, one probability out.

Invariants:
- Input `record`, float32 [N, 15], columns as in `features.FEATURES`; output `probability`, float32 [N, 1].
- Operators of opset 17 and of ai.onnx.ml 3 only; nothing outside the file.
- The graph agrees with the trained model to `TOLERANCE` on the payments it is checked with, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from recipes.card_fraud.features import FEATURES
from recipes.card_fraud.model import PRODUCTS, RATIOS, SMALLEST_DENOMINATOR, Model, Parameters, Trees

TOLERANCE = 1e-5
"""Largest difference between the graph's probability and the trained model's."""

_OPSET = 17
_OPSET_ML = 3
_IR_VERSION = 8


def _gather(names: Iterable[str], output: str) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    """A node from `record` to the named fields, and its constant."""
    places = np.array([FEATURES.index(name) for name in names], dtype=np.int64)
    constant = numpy_helper.from_array(places, f"{output}_fields")
    return helper.make_node("Gather", ["record", constant.name], [output], axis=1), constant


def _column_nodes(parameters: Parameters) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from `record` to `columns`, as `model.model_columns` computes them."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    parts = ["record"]
    if parameters.ratios:
        over, over_fields = _gather((one for one, _ in RATIOS), "numerator")
        under, under_fields = _gather((other for _, other in RATIOS), "below")
        constants += [over_fields, under_fields, numpy_helper.from_array(np.array(SMALLEST_DENOMINATOR), "smallest")]
        nodes += [
            over,
            under,
            helper.make_node("Max", ["below", "smallest"], ["denominator"]),
            helper.make_node("Div", ["numerator", "denominator"], ["ratios"]),
        ]
        parts.append("ratios")
    if parameters.products:
        count, count_fields = _gather((one for one, _ in PRODUCTS), "count")
        share, share_fields = _gather((other for _, other in PRODUCTS), "share")
        constants += [count_fields, share_fields]
        nodes += [count, share, helper.make_node("Mul", ["count", "share"], ["products"])]
        parts.append("products")
    nodes.append(helper.make_node("Concat", parts, ["columns"], axis=1))
    return nodes, constants


def _tree_node(trees: Trees, source: str) -> onnx.NodeProto:
    """One TreeEnsembleRegressor from `source` to `margin` [N, 1]."""
    is_leaf = trees.left < 0
    leaves = int(is_leaf.sum())
    return helper.make_node(
        "TreeEnsembleRegressor",
        [source],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=trees.tree.tolist(),
        nodes_nodeids=trees.node.tolist(),
        nodes_modes=["LEAF" if leaf else "BRANCH_LT" for leaf in is_leaf],
        nodes_featureids=trees.column.tolist(),
        nodes_values=trees.threshold.tolist(),
        nodes_truenodeids=np.where(is_leaf, 0, trees.left).tolist(),
        nodes_falsenodeids=np.where(is_leaf, 0, trees.right).tolist(),
        nodes_missing_value_tracks_true=trees.missing_left.astype(np.int64).tolist(),
        target_treeids=trees.tree[is_leaf].tolist(),
        target_nodeids=trees.node[is_leaf].tolist(),
        target_ids=[0] * leaves,
        target_weights=trees.leaf[is_leaf].tolist(),
    )


def to_onnx(model: Model) -> bytes:
    """The serialised ONNX graph of `model`."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    source = "record"
    if model.parameters.ratios or model.parameters.products:
        nodes, constants = _column_nodes(model.parameters)
        source = "columns"
    nodes += [
        _tree_node(model.trees(), source),
        helper.make_node("Sigmoid", ["margin"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "card_fraud",
        [helper.make_tensor_value_info("record", TensorProto.FLOAT, ["rows", len(FEATURES)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows", 1])],
        constants,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _OPSET_ML)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="discern card_fraud")
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def run_onnx(content: bytes, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability [N] that the graph in `content` gives for features [N, 15]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (probability,) = session.run(["probability"], {"record": np.ascontiguousarray(features)})
    column: NDArray[np.float64] = np.asarray(probability, dtype=np.float64)[:, 0]
    return column


def checked_onnx(model: Model, features: NDArray[np.float32]) -> tuple[bytes, float]:
    """The graph of `model` and its largest difference from it on `features` [N, 15].

    Raises RuntimeError when the difference is over `TOLERANCE`.
    """
    content = to_onnx(model)
    difference = float(np.max(np.abs(run_onnx(content, features) - model.probability(features))))
    if difference > TOLERANCE:
        raise RuntimeError(f"the ONNX graph differs from the trained model by {difference:.2e}, more than {TOLERANCE}")
    return content, difference
