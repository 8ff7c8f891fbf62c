"""A bundle from an ONNX file that is there already: `python -m recipes.examples.from_onnx --out DIR [--model FILE]`.

Without `--model` the script writes a small file first, a logistic regression by hand, to have one. A file of yours must
take float32 [N, 5] (the fields of `login_records`) and give a probability [N], [N, 1] or [N, 2].
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recipes.examples.bundle_making import Description, HeldOut, make_bundle
from recipes.examples.login_records import CLASSES, INPUT, TASK, make_logins


def write_logistic_regression(path: Path) -> None:
    """An ONNX file with weights chosen by hand: `record` float32 [N, 5] to `probability` float32 [N, 1]."""
    weights = np.array([[-0.02], [0.7], [0.002], [2.4], [0.3]], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["record", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["margin"]),
            helper.make_node("Sigmoid", ["margin"], ["probability"]),
        ],
        "logistic_regression",
        [helper.make_tensor_value_info("record", TensorProto.FLOAT, ["rows", len(weights)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([-3.0], np.float32), "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make the bundle in; it must not exist")
    parser.add_argument("--model", type=Path, help="ONNX file; left out: one is made")
    arguments = parser.parse_args()
    about = Description("login-from-onnx", TASK, CLASSES, INPUT, trained_with="nothing, by hand")
    logins = make_logins()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or Path(folder) / "mine.onnx"
        if arguments.model is None:
            write_logistic_regression(path)
        make_bundle(arguments.out, about, path.read_bytes(), HeldOut(logins.held_out, logins.held_out_label))


if __name__ == "__main__":
    main()
