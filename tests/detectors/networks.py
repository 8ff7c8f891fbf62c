"""A small convolutional network made by code, which really tells bright pictures from dark ones."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.detectors import models

SIDE = 32
CHANNELS = 64


def pictures(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """`count` noisy pictures, every other one brighter than grey."""
    chance = np.random.Generator(np.random.PCG64(seed))
    labels = (np.arange(count) % 2).astype(np.int8)
    level = np.where(labels == 1, 150, 105)[:, None, None, None]
    noise = chance.normal(0, 40, (count, SIDE, SIDE, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8), labels


def _network(slope: float, bias: float, *, rounded: bool = False) -> bytes:
    chance = np.random.Generator(np.random.PCG64(1))
    # Filters that mostly let through: brightness arrives at the end, with all else mixed in.
    first = chance.normal(0.02, 0.05, (16, 3, 3, 3))
    second = chance.normal(0.02, 0.05, (CHANNELS, 16, 3, 3))
    nodes = [
        helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["whole", "white"], ["share"]),
        helper.make_node("Transpose", ["share"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first"], ["edges"], pads=[1, 1, 1, 1]),
        helper.make_node("Round" if rounded else "Relu", ["edges"], ["felt"]),
        helper.make_node("Conv", ["felt", "second"], ["shapes"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["shapes"], ["seen"]),
        helper.make_node("ReduceMean", ["seen"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "mixing"], ["mixed"]),
        helper.make_node("ReduceMean", ["mixed"], ["level"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["level", "bias"], ["centred"]),
        helper.make_node("Mul", ["centred", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    mixing = np.eye(CHANNELS) + chance.normal(0, 0.05, (CHANNELS, CHANNELS))
    initializers = [
        models.constant("white", 255.0),
        models.constant("first", first),
        models.constant("second", second),
        models.constant("mixing", mixing),
        models.constant("bias", bias),
        models.constant("slope", slope),
    ]
    inputs = [models.tensor("image", ["rows", SIDE, SIDE, 3], TensorProto.UINT8)]
    return models.build(nodes, inputs, [models.tensor("probability", ["rows"])], initializers).SerializeToString()


def outputs(model: bytes, images: NDArray[np.uint8], name: str = "probability") -> NDArray[Any]:
    """What ONNX Runtime makes of a model."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    values: NDArray[Any] = session.run([name], {"image": images})[0]
    return values


@cache
def network(sharpness: float = 4.0) -> bytes:
    """uint8 `image` [rows, 32, 32, 3] -> float32 `probability` [rows]: two convolutions, a product and a sigmoid."""
    images, labels = pictures(64, seed=9)
    scores = outputs(_network(1.0, 0.0), images)
    levels = np.log(scores) - np.log1p(-scores)
    dark, bright = levels[labels == 0].mean(), levels[labels == 1].mean()
    return _network(float(2 * sharpness / (bright - dark)), float((dark + bright) / 2))


def rounding_network() -> bytes:
    """The same, with a rounding after the first convolution."""
    return _network(1.0, 0.0, rounded=True)
