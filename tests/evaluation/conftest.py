"""Datasets in miniature, made where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
