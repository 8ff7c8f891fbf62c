"""Pictures, clips and records to try conditions on, and a detector's parts."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from discern.detectors.assessment import Detector, load_detector
from discern.detectors.manifest import Manifest
from discern.evaluation.conditions.encodings import Clip, as_packed_png, lossless_mp4
from discern.evaluation.service import Parts
from discern.evaluation.service_scoring import Scoring
from discern.evaluation.sources import Asked, FrozenSource, source_of
from discern.inputs.image import decode_image
from discern.inputs.sniffing import SniffedImage, sniff
from discern.inputs.types import InputLimits
from tests.detectors import models

LIMITS = InputLimits()


def scene(seed: int = 0, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """A picture with edges, shades and texture, as photographs have them."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    shades = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    down, right = np.mgrid[0:height, 0:width]
    disc = (down - height / 2) ** 2 + (right - width / 2) ** 2 < (height / 4) ** 2
    texture = 12 * random.standard_normal((height, width, 1))
    pixels: NDArray[np.uint8] = np.clip(0.7 * shades + 60 * disc[..., None] + texture, 0, 255).astype(np.uint8)
    return pixels


def pixels_of(content: bytes) -> NDArray[np.uint8]:
    """What a picture file holds."""
    sniffed = sniff(content[:8192])
    assert isinstance(sniffed, SniffedImage)
    return decode_image(content, sniffed.format, LIMITS)


def moving(frames: int = 20, seconds: float = 2.0, level: int | None = None) -> bytes:
    """A clip, of one brightness or of a picture that moves."""
    picture = scene(1)
    shown = [
        np.roll(picture, 2 * place, axis=1) if level is None else np.full_like(picture, level)
        for place in range(frames)
    ]
    times = tuple(place * seconds / frames for place in range(frames))
    return lossless_mp4(Clip(times, tuple(shown)))


def table(path: Path, rows: int = 120, seed: int = 0) -> Path:
    """Records of the toy detector whose label its score tells well but not always; four rows a customer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(seed)
    columns = {name: random.normal(0, 1, rows) for name in "abc"}
    odds = columns["a"] - 2 * columns["b"] + 0.5 * columns["c"]
    label = (odds + random.normal(0, 1, rows) > 0).astype(np.int64)
    customer = np.arange(rows) // 4
    pq.write_table(pa.table({**columns, "label": label, "customer": customer}), path)
    return path


def frozen(path: Path, manifest: Manifest) -> FrozenSource:
    """A dataset as the command takes it."""
    group = "customer" if path.suffix == ".parquet" else None
    return source_of(str(path), manifest, Asked(group=group), LIMITS)


def scoring_of(parts: Parts, name: str) -> Scoring:
    """What conditions are scored with."""
    return Scoring(load_detector(parts.open_detector(name)), parts.limits, parts.locator, 2)


@pytest.fixture
def brightness() -> Detector:
    """A detector that takes pictures for positive by how bright they are."""
    from discern.detectors.runtime import StageModel

    stream = {"window_seconds": 1.0, "every_seconds": 0.5, "measure": "mean", "flag_at": 0.6, "review_at": 0.4}
    manifest = Manifest.model_validate(models.image_manifest(stream=stream))
    stage = manifest.stages[0].name
    return Detector(manifest, "0" * 64, {stage: StageModel(stage, models.image_model())})


def exif_jpeg() -> bytes:
    """A photograph with a place and a camera written into it."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "Camera of somebody"
    out = io.BytesIO()
    Image.fromarray(scene()).save(out, "JPEG", quality=95, exif=exif, comment=b"taken at home")
    return out.getvalue()


def png(seed: int = 0) -> bytes:
    """A picture file."""
    return as_packed_png(scene(seed))
