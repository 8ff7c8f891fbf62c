"""Stages as ONNX files, and their scores as production computes them.

Invariants:

- Each file is one graph without external data, opset 18, and says nothing of the machine it was made on.
- What is measured of a shipped stage is measured of its file on ONNX Runtime, calibrated.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from discern.detectors.calibration import calibrate
from recipes.driver_drowsiness.data import SIDE
from recipes.driver_drowsiness.network import FrameGraph
from recipes.synthetic_face.network import OPSET, strip_metadata
from recipes.synthetic_face.served import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    Floats = NDArray[np.float64]

_CHUNK = 64


def export_part(graph: nn.Module, path: Path) -> None:
    """Write a stage on pixels."""
    _export(graph, path, {"image": torch.zeros(2, SIDE, 3 * SIDE, 3, dtype=torch.uint8)})


def export_frame(path: Path) -> None:
    """Write the stage that makes one score of two."""
    _export(FrameGraph(), path, {"eyes": torch.zeros(2), "mouth": torch.zeros(2)})


class Served:
    """A stage on pixels, on one thread."""

    def __init__(self, model: Path, temperature: float = 1.0) -> None:
        self._session = open_session(str(model))
        self._temperature = temperature

    def scores(self, tiles: NDArray[np.uint8]) -> Floats:
        """Calibrated scores of uint8 [n, 48, 144, 3]."""
        parts = [
            np.asarray(self._session.run(None, {"image": tiles[at : at + _CHUNK]})[0], np.float64)
            for at in range(0, len(tiles), _CHUNK)
        ]
        return calibrate(np.concatenate(parts), self._temperature)


def tiled(windows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Windows uint8 [n, 48, 48, 3] of one part, in the place of all three."""
    return np.tile(windows, (1, 1, 3, 1))


def _export(graph: nn.Module, path: Path, inputs: dict[str, torch.Tensor]) -> None:
    rows = torch.export.Dim("n", min=1, max=8192)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["probability"],
            dynamic_shapes={name: {0: rows} for name in inputs},
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
