"""The backbones of the face recipe: what they may see, and that the exported graph gives what they give."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.system
torch: Any = pytest.importorskip("torch", reason="the recipe needs PyTorch: see recipes/README.md")
pytest.importorskip("scipy", reason="the recipe needs scipy: pip install 'discern-detectors[train]'")
# Imported by name: without PyTorch nobody can tell the types of what is built on it.
backbone: Any = importlib.import_module("recipes.synthetic_face.backbone")
finetune: Any = importlib.import_module("recipes.synthetic_face.finetune")
network: Any = importlib.import_module("recipes.synthetic_face.network")
data: Any = importlib.import_module("recipes.synthetic_face.data")

SIDE = 64
KINDS = ["one/authentic", "one/synthetic", "two/authentic", "two/synthetic"]


@pytest.fixture(scope="module")
def backbones() -> list[Any]:
    torch.manual_seed(4)
    made = [backbone.Backbone(len(KINDS)) for _ in range(1)]
    for one in made:
        for layer in one.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return [one.eval() for one in made]


@pytest.fixture(scope="module")
def images() -> NDArray[Any]:
    return np.random.default_rng(2).integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def stage(backbones: list[Any]) -> Any:
    scores = network.KindScores([network.as_stored(one) for one in backbones], mirrored=True)
    return network.StageNetwork(scores, network.KindOdds(KINDS))


@pytest.fixture(scope="module")
def exported(stage: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "stage.onnx"
    network.export(stage, path, SIDE)
    return path


def answers(path: Path, images: NDArray[Any]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0])


def test_the_exported_graph_gives_what_the_network_gives(stage: Any, exported: Path, images: NDArray[Any]) -> None:
    with torch.inference_mode():
        expected = np.asarray(stage(torch.from_numpy(images)))
    found = answers(exported, images)
    assert found.shape == (5,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_picture_scores_the_same_alone_in_a_batch_and_mirrored(exported: Path, images: NDArray[Any]) -> None:
    together = answers(exported, images)
    np.testing.assert_allclose(np.concatenate([answers(exported, one[None]) for one in images]), together, atol=1e-6)
    np.testing.assert_allclose(answers(exported, np.ascontiguousarray(images[:, :, ::-1])), together, atol=1e-5)
    assert np.ptp(together) > 0


def test_convolutions_are_stored_in_half_precision_and_nothing_tells_of_this_machine(exported: Path) -> None:
    model = onnx.load(exported)
    halves = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) == sum(node.op_type == "Conv" for node in model.graph.node) > 40
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_folding_and_rounding_change_the_scores_little(backbones: list[Any], images: NDArray[Any]) -> None:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        before, after = (np.asarray(one(pixels)) for one in (backbones[0], network.as_stored(backbones[0])))
    np.testing.assert_allclose(after, before, atol=0.02 * np.abs(before).max())


def test_log_odds_are_those_of_the_summed_kinds_of_either_class() -> None:
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4]])
    odds = network.KindOdds(KINDS)(torch.from_numpy(np.log(probabilities)))
    assert float(odds[0]) == pytest.approx(np.log(0.6 / 0.4))


def test_no_lesson_holds_a_picture_of_its_own_fold_or_of_the_held_out_side(images: NDArray[Any]) -> None:
    pictures = [
        data.Picture(
            Path(f"{number}.jpg"), kind.partition("/")[0], int(kind.endswith("synthetic")), f"{number:064x}", fold
        )
        for number, (kind, fold) in enumerate((kind, fold) for kind in KINDS for fold in (-1, 0, 1, 2))
    ]
    pixels = np.zeros((len(pictures), 8, 8, 3), np.uint8)
    lessons = finetune.fold_lessons(pixels, pictures, KINDS, 7)
    for number, lesson in enumerate(lessons):
        seen = {one.fold for one in pictures if one.digest in lesson.digests}
        assert seen == {0, 1, 2} - {number}
    assert len({lesson.name for lesson in lessons}) == 3
    without = finetune.generator_lessons(pixels, pictures, 7)
    assert sorted(without) == ["one/synthetic", "two/synthetic"]
    for generator, lesson in without.items():
        seen_kinds = {one.kind for one in pictures if one.digest in lesson.digests}
        assert seen_kinds == set(KINDS) - {generator}
        assert {one.fold for one in pictures if one.digest in lesson.digests} == {1, 2}


def test_another_file_of_starting_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(backbone.Backbone(2).state_dict(), path)
    with pytest.raises(ValueError, match="not the file of starting weights"):
        backbone.pretrained(2, path)


def test_starting_weights_fill_every_layer_but_the_last(
    backbones: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, named = backbones[0], {}
    layers = [("_conv_stem", "_bn0", source.stem)]
    for number, block in enumerate(source.blocks):
        parts = [("_expand_conv", "_bn0", block.expand), ("_depthwise_conv", "_bn1", block.depth)]
        parts.append(("_project_conv", "_bn2", block.project))
        layers += [(f"_blocks.{number}.{c}", f"_blocks.{number}.{n}", layer) for c, n, layer in parts if layer]
    for convolution, norm, layer in layers:
        named[f"{convolution}.weight"] = layer.conv.weight
        for name in ("weight", "bias", "running_mean", "running_var"):
            named[f"{norm}.{name}"] = getattr(layer.norm, name)
    path = tmp_path / "start.pth"
    torch.save(named, path)
    monkeypatch.setattr(backbone, "START_DIGEST", backbone.sha256_of(path))
    filled = backbone.pretrained(7, path)
    expected, found = source.state_dict(), filled.state_dict()
    for name, value in expected.items():
        if not name.startswith("scores") and not name.endswith("num_batches_tracked"):
            assert torch.equal(found[name], value), name
    assert found["scores.weight"].shape == (7, 192)
