"""A bundle from a PyTorch network on images: `python -m recipes.examples.from_pytorch --out DIR`.

The images are made up: soft noise, and the same noise with the faint grid that careless upsampling leaves. The graph
takes pixels as they come, uint8 [N, height, width, 3]; scaling and axis order are part of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recipes.examples.bundle_making import Description, HeldOut, make_bundle, out_folder

SIDE = 32
INPUT = {"kind": "image", "width": SIDE, "height": SIDE, "crop": "none"}
CLASSES = {"negative": "plain", "positive": "grid"}
TASK = "Tells images with an upsampling grid from images without."


def make_images(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [count, 32, 32, 3] and labels int64 [count]; every other one, at random, has the grid."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0.0, 30.0, (count, SIDE // 4, SIDE // 4, 3))
    images = 128.0 + coarse.repeat(4, axis=1).repeat(4, axis=2) + random.normal(0.0, 8.0, (count, SIDE, SIDE, 3))
    label = random.integers(0, 2, count)
    grid = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 2.0 - 1.0
    images += (label * random.uniform(0.2, 3.0, count))[:, None, None, None] * grid[None, :, :, None]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), label.astype(np.int64)


class Network(nn.Module):
    """uint8 [N, 32, 32, 3] to the margin [N] of the positive class."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """The margin."""
        pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        margin: Tensor = self.layers(pixels).squeeze(1)
        return margin


class WithProbability(nn.Module):
    """The network followed by the sigmoid: what the bundle holds."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The probability [N]."""
        return torch.sigmoid(self.network(image))


def train_network(images: NDArray[np.uint8], label: NDArray[np.int64]) -> Network:
    """A network trained on the images, the same for the same images."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    pixels, target = torch.from_numpy(images), torch.from_numpy(label).to(torch.float32)
    for _ in range(12):
        for batch in torch.randperm(len(pixels)).reshape(-1, 100):
            loss = nn.functional.binary_cross_entropy_with_logits(network(pixels[batch]), target[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network.eval()


def to_onnx(network: Network) -> bytes:
    """The network as ONNX with an open number of rows, weights inside the file."""
    example = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            WithProbability(network).eval(),
            (example,),
            path,
            input_names=["image"],
            output_names=["probability"],
            opset_version=18,
            dynamo=True,
            dynamic_shapes={"image": {0: torch.export.Dim("rows", min=1, max=4096)}},
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def main() -> None:
    """The command line."""
    out = out_folder(__doc__)
    network = train_network(*make_images(1000, seed=1))
    about = Description("grid-pytorch", TASK, CLASSES, INPUT, trained_with="PyTorch")
    make_bundle(out, about, to_onnx(network), HeldOut(*make_images(1000, seed=2)))


if __name__ == "__main__":
    main()
