"""A fitted stage as a network: uint8 pictures in, probability out, everything between inside the graph.

Invariants:

- Graph contract: input `image` uint8 [n, 256, 256, 3] RGB with free n, output `probability` float32 [n].
- From the features on all arithmetic is float64, so a batch of n gives what n single rows give.
- Weights are stored in half precision and the stage is measured as it is stored.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from recipes.synthetic_face.features import ForensicFeatures
from recipes.synthetic_face.stack import CLIP

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from recipes.synthetic_face.stack import FittedStack

OPSET = 18


class StageNetwork(nn.Module):
    """Forensic features, specialists, kernel machine and quadratic stack of one fitted stage."""

    mean: Tensor
    inverse_scale: Tensor
    weights: Tensor
    axes: Tensor
    offsets: Tensor
    landmarks: Tensor
    landmark_norms: Tensor
    dual: Tensor
    centre: Tensor
    spread: Tensor
    linear: Tensor
    quadratic: Tensor

    def __init__(self, features: ForensicFeatures, fitted: FittedStack) -> None:
        super().__init__()
        self.features = features
        self._store("mean", fitted.mean, torch.float32)
        self._store("inverse_scale", 1 / fitted.scale, torch.float32)
        self._store("weights", fitted.weights, torch.float32)
        self._store("axes", fitted.axes, torch.float16)
        self._store("landmarks", fitted.kernel.landmarks.T, torch.float16)
        self._store("landmark_norms", (fitted.kernel.landmarks**2).sum(1), torch.float64)
        self._store("dual", fitted.kernel.weights[:, None], torch.float64)
        self._store("offsets", fitted.offsets, torch.float64)
        self._store("centre", fitted.centre, torch.float64)
        self._store("spread", fitted.spread, torch.float64)
        self._store("quadratic", fitted.quadratic, torch.float64)
        linear = fitted.linear.copy()
        linear[fitted.transfer_column] += fitted.transfer
        self._store("linear", linear[:, None], torch.float64)
        self._kernel_offset = fitted.kernel.offset
        self._gamma = fitted.kernel.gamma
        self._intercept = fitted.intercept

    def forward(self, image: Tensor) -> Tensor:
        """Probability float32 [n] of uint8 [n, side, side, 3]."""
        features = self.features(image).double()
        scaled = torch.clamp((features - self.mean.double()) * self.inverse_scale.double(), -CLIP, CLIP)
        specialists = scaled @ self.weights.double() + self.offsets
        points = scaled @ self.axes.double()
        norms = (points * points).sum(1, keepdim=True)
        distances = torch.relu(norms + self.landmark_norms - 2 * (points @ self.landmarks.double()))
        kernel = torch.exp(-self._gamma * distances) @ self.dual + self._kernel_offset
        columns = (torch.cat([specialists, kernel], 1) - self.centre) / self.spread
        bent = torch.clamp(columns, -CLIP, CLIP)
        odds = (bent @ self.linear).squeeze(1) + ((bent @ self.quadratic) * bent).sum(1) + self._intercept
        return torch.sigmoid(odds).float()

    def _store(self, name: str, value: NDArray[np.float64], kind: torch.dtype) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)).to(kind))


def export(network: StageNetwork, path: Path, side: int) -> None:
    """Write the network as one ONNX file without external data, opset 18."""
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            input_names=["image"],
            output_names=["probability"],
            dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=4096)}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
            optimize=True,
        )
    model = onnx.load(path)
    strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of this machine's files; shapes and names stay."""
    model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
