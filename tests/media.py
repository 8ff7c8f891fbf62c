"""Pictures and clips made by code, for tests that go through a door."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from PIL import Image


def picture(seed: int = 0, width: int = 64, height: int = 48) -> Image.Image:
    """A noisy RGB picture, brighter with a higher seed."""
    generator = np.random.default_rng(seed)
    level = 30 + 20 * (seed % 10)
    return Image.fromarray(generator.integers(level, level + 60, (height, width, 3)).astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def jpeg(seed: int = 0) -> bytes:
    """A JPEG file."""
    return encoded(picture(seed), quality=90)


def clip(frames: int = 12, rate: int = 10, width: int = 64, height: int = 48, comment: str = "") -> bytes:
    """An MP4 file whose frames grow brighter."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("mpeg4", rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            pixels = np.full((height, width, 3), 20 + number * 200 // max(1, frames), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()
