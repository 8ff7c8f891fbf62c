"""The features of the face recipe: what they must not depend on, and that the exported graph gives the same."""

from __future__ import annotations

import importlib
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.system
torch: Any = pytest.importorskip("torch", reason="the recipe needs PyTorch: see recipes/README.md")
# Imported by name: without PyTorch nobody can tell the types of what is built on it.
module: Any = importlib.import_module("recipes.synthetic_face.features")

SIDE = 64
FAMILIES = ("luma", "chroma", "half", "cross", "spectrum", "texture", "fast")


@pytest.fixture(scope="module")
def features() -> Any:
    return module.ForensicFeatures(SIDE, FAMILIES).eval()


@pytest.fixture(scope="module")
def images() -> NDArray[Any]:
    return np.random.default_rng(2).integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.uint8)


def measured(features: Any, images: NDArray[np.uint8]) -> NDArray[Any]:
    with torch.inference_mode():
        return np.asarray(features(torch.from_numpy(images)))


def test_a_picture_measures_the_same_alone_and_in_a_batch(features: Any, images: NDArray[np.uint8]) -> None:
    together = measured(features, images)
    alone = np.concatenate([measured(features, image[None]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_blocks_name_every_feature_once(features: Any, images: NDArray[np.uint8]) -> None:
    spans = sorted((block.start, block.stop) for block in features.blocks.values())
    assert spans[0][0] == 0
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
    assert spans[-1][1] == features.count == measured(features, images).shape[1]
    assert {name.partition(".")[0] for name in features.blocks} == set(FAMILIES)


def test_noise_is_told_from_a_smooth_surface(features: Any, images: NDArray[np.uint8]) -> None:
    smooth = np.full((1, SIDE, SIDE, 3), 120, np.uint8)
    assert np.abs(measured(features, smooth) - measured(features, images[:1])).max() > 0.1
    assert np.isfinite(measured(features, smooth)).all()


def test_the_exported_graph_measures_what_the_module_measures(images: NDArray[np.uint8], tmp_path: Path) -> None:
    features = module.ForensicFeatures(SIDE, ("fast",)).eval()
    path = tmp_path / "features.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            features,
            (torch.from_numpy(images[:2]),),
            str(path),
            input_names=["image"],
            dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=64)}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found: Any = session.run(None, {"image": images})[0]
    np.testing.assert_allclose(found, measured(features, images), atol=1e-4)
