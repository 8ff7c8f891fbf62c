"""Datasets in miniature, and the parts of an evaluation on the toy detectors, made where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.app import Services, evaluation_parts
from discern.evaluation.service import Evaluation, Parts
from tests.media import clip, jpeg

Put = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def put(root: Path) -> Put:
    """Write files below the root: a text, bytes, or by its name a picture or a clip of its own."""
    written = 0

    def put(path: str, content: str | bytes | None = None) -> Path:
        nonlocal written
        written += 1
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            is_picture = place.suffix.lower() in {".jpg", ".png"}
            content = jpeg(written) if is_picture else clip(3, comment=f"clip {written}")
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    return put


def flat(path: Path, level: int, seed: int) -> None:
    """Write a picture of about one brightness, with noise of its own."""
    noise = np.random.default_rng(seed).integers(-5, 6, (32, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8)).save(path, "PNG")


def make_folder(root: Path, count: int, seed: int = 0) -> Path:
    """A folder of `count` dark and `count` bright pictures whose brightness overlaps."""
    random = np.random.default_rng(seed)
    for number in range(count):
        flat(root / "dark" / f"{number:04}.png", int(np.clip(random.normal(100, 35), 5, 250)), seed + 2 * number)
        flat(root / "bright" / f"{number:04}.png", int(np.clip(random.normal(155, 35), 5, 250)), seed + 2 * number + 1)
    return root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty dark and forty bright pictures."""
    return make_folder(tmp_path / "pictures", 40)


@pytest.fixture
def parts(services: Services) -> Parts:
    """What an evaluation works with."""
    return evaluation_parts(services)


def asked(out: Path, *data: Path, detector: str = "toy-cascade", **changes: object) -> Evaluation:
    """What somebody asks for who says little."""
    return Evaluation(detector=detector, data=tuple(map(str, data)), out=out, **changes)  # type: ignore[arg-type]
