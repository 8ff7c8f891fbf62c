"""A stage as a network: uint8 pictures in, probability out, everything between inside the graph.

Invariants:

- Graph contract: input `image` uint8 [n, 256, 256, 3] RGB with free n, output `probability` float32 [n].
- Normalisation is folded into the convolutions, so a batch of n gives what n single rows give.
- Weights of convolutions are stored in half precision, and backbones are scored everywhere as they are stored.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from recipes.synthetic_face.backbone import Backbone, Convolution

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPSET = 18


class KindScores(nn.Module):
    """Scores of the kinds, averaged over backbones and, where wanted, over the picture and its mirror image."""

    def __init__(self, backbones: Sequence[Backbone], *, mirrored: bool) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.mirrored = mirrored

    def forward(self, image: Tensor) -> Tensor:
        """float32 [n, kinds] of uint8 [n, side, side, 3]."""
        pixels = image.permute(0, 3, 1, 2).float()
        seen = torch.cat([pixels, pixels.flip(3)]) if self.mirrored else pixels
        scores = torch.stack([backbone(seen) for backbone in self.backbones]).mean(0)
        return scores.reshape(2, -1, scores.shape[1]).mean(0) if self.mirrored else scores


class KindOdds(nn.Module):
    """Scores of the kinds [n, kinds] to log odds of synthetic [n]: the summed kinds of either class."""

    def __init__(self, kinds: Sequence[str]) -> None:
        super().__init__()
        self.synthetic = [index for index, kind in enumerate(kinds) if kind.endswith("/synthetic")]
        self.authentic = [index for index, kind in enumerate(kinds) if kind.endswith("/authentic")]

    def forward(self, scores: Tensor) -> Tensor:
        """Uncalibrated log odds."""
        return torch.logsumexp(scores[:, self.synthetic], 1) - torch.logsumexp(scores[:, self.authentic], 1)


class StageNetwork(nn.Module):
    """Probability of synthetic from pixels."""

    def __init__(self, scores: KindScores, odds: KindOdds) -> None:
        super().__init__()
        self.scores = scores
        self.odds = odds

    def forward(self, image: Tensor) -> Tensor:
        """Probability float32 [n] of uint8 [n, side, side, 3]."""
        return torch.sigmoid(self.odds(self.scores(image)))


def as_stored(backbone: Backbone) -> Backbone:
    """A copy for scoring: normalisation folded into the convolutions, their weights rounded to half precision."""
    stored = copy.deepcopy(backbone).eval()
    for layer in stored.modules():
        if isinstance(layer, Convolution) and isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.norm)
            layer.norm = nn.Identity()
            layer.conv.weight.data = layer.conv.weight.data.half().float()
    return stored


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
    halve_convolutions(model)
    strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def halve_convolutions(model: onnx.ModelProto) -> None:
    """Store the weights of convolutions in half precision, each followed by a cast back; they are exact in it."""
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    casts = []
    for stored in model.graph.initializer:
        if stored.name in weights:
            name = stored.name
            halved = onnx.numpy_helper.to_array(stored).astype(np.float16)
            stored.CopyFrom(onnx.numpy_helper.from_array(halved, f"{name}_half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


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
