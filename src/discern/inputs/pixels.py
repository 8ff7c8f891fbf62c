"""Raw pixels as a file without loss, for what takes pictures only as files.

- Decoding what was made here gives back the same pixels, to the bit.
- The same pixels make the same file, on every machine.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from discern.core.errors import UnreadableInput

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS_RGB = (8, 2, 0, 0, 0)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return uint8 [height, width, 3] RGB pixels as a PNG file (RFC 2083), stored rather than packed, which is quicker.

    Raises UnreadableInput for a picture without pixels.
    """
    height, width, _ = pixels.shape
    if not height or not width:
        raise UnreadableInput("The picture has no pixels.", mend="Send at least one row and one column.")
    # A row of the file begins with the number of its filter: 0, none.
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    return b"".join(
        (
            _SIGNATURE,
            *_chunk(b"IHDR", struct.pack(">II5B", width, height, *_EIGHT_BITS_RGB)),
            *_chunk(b"IDAT", zlib.compress(rows.tobytes(), level=0)),
            *_chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
