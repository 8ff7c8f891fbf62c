"""Content that lies elsewhere is read as if it were here, and what goes wrong on the way is not taken for its end."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from discern.core.errors import EmptyInput, ObjectsUnavailable
from discern.inputs.faces import face_locator
from discern.inputs.prepare import prepare_media
from discern.inputs.spec import ImageSpec, VideoSpec
from discern.inputs.types import Held, InputLimits, Prepared
from tests.media import clip, encoded, picture


class Failing(io.RawIOBase):
    """A file whose reads fail from the `after`-th on."""

    def __init__(self, content: bytes, after: int) -> None:
        self._file = io.BytesIO(content)
        self._left = after

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        if self._left == 0:
            raise ObjectsUnavailable("The store went away.")
        self._left -= 1
        return self._file.readinto(buffer)


def prepared(content: bytes | Held) -> Prepared:
    spec = ImageSpec(kind="image", width=32, height=32, crop="none")
    return prepare_media(content, spec, VideoSpec(frames=4), InputLimits(), face_locator(None))


@pytest.mark.parametrize("content", [clip(), encoded(picture(), "JPEG")], ids=["video", "image"])
def test_it_is_judged_as_the_same_bytes_are(content: bytes) -> None:
    expected, found = prepared(content), prepared(Held(lambda: io.BytesIO(content), len(content)))
    assert np.array_equal(expected.tensor, found.tensor)
    assert expected.facts == found.facts


def test_nothing_is_nothing() -> None:
    with pytest.raises(EmptyInput):
        prepared(Held(io.BytesIO, 0))


@pytest.mark.parametrize("content", [clip(), encoded(picture(), "JPEG")], ids=["video", "image"])
def test_a_read_that_fails_is_told_as_what_it_is(content: bytes) -> None:
    failed = 0
    for after in range(400):
        held = Held(lambda after=after: io.BufferedReader(Failing(content, after), 512), len(content))  # type: ignore[misc]
        try:
            prepared(held)
        except ObjectsUnavailable:
            failed += 1
        else:
            break
    assert failed > 1
