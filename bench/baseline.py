"""What a team would write by hand around a model file: decode the input, run the model. Nothing of Discern.

It is the limit that everything is measured against, and the inside of the plain FastAPI server and of the peers'
servers, so it imports nothing but NumPy, OpenCV, Pillow and ONNX Runtime (and PyAV for clips).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FIELDS = tuple(f"f{number:02d}" for number in range(30))
SIDE = 224

cv2.setNumThreads(1)


def session(path: Path) -> onnxruntime.InferenceSession:
    """Return a model file opened with one thread a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def row(record: Mapping[str, float]) -> NDArray[np.float32]:
    """Return a record as [1, 30]."""
    return np.array([[record[name] for name in FIELDS]], np.float32)


def picture(content: bytes) -> NDArray[np.uint8]:
    """Return a JPEG as [1, 224, 224, 3] RGB."""
    rgb = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    return np.asarray(cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)[np.newaxis]


def probability(model: Any, name: str, rows: NDArray[Any]) -> float:  # noqa: ANN401 - ONNX Runtime ships no types
    """Return the model's answer for one row."""
    return float(model.run(["probability"], {name: rows})[0][0])


def probabilities(model: Any, name: str, rows: Sequence[NDArray[Any]]) -> list[float]:  # noqa: ANN401
    """Return the model's answers for many rows in one run."""
    return [float(score) for score in model.run(["probability"], {name: np.concatenate(rows)})[0]]


def frames(content: bytes, count: int) -> tuple[int, NDArray[np.uint8]]:
    """Return how many frames a clip has, and `count` of them, evenly spaced, as [count, 224, 224, 3] RGB."""
    import av  # noqa: PLC0415 - the peers, who are not sent clips, do without

    with av.open(io.BytesIO(content), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        total = stream.frames
        wanted = {int((number + 0.5) * total / count) for number in range(count)}
        taken = [
            cv2.resize(frame.to_ndarray(format="rgb24"), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            for index, frame in enumerate(container.decode(stream))
            if index in wanted
        ]
    return total, np.stack(taken).astype(np.uint8, copy=False)
