from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from discern.core.errors import UnreadableInput
from discern.inputs.image import decode_image
from discern.inputs.pixels import as_png
from discern.inputs.types import InputLimits


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (500, 3), (97, 131)])
def test_decoding_gives_the_same_pixels(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    content = as_png(pixels)
    assert np.array_equal(decode_image(content, "png", InputLimits()), pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


def test_the_same_pixels_make_the_same_file() -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    digest = hashlib.sha256(as_png(pixels)).hexdigest()
    assert digest == hashlib.sha256(as_png(pixels[:, :, :])).hexdigest()
    assert as_png(np.asfortranarray(pixels)) == as_png(pixels)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
def test_a_picture_without_pixels_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UnreadableInput, match="no pixels"):
        as_png(np.zeros(shape, np.uint8))
