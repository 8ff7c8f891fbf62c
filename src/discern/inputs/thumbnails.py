"""A small picture of an image, for a page that people look at."""

from __future__ import annotations

import cv2

from discern.inputs.image import decode_image
from discern.inputs.sniffing import sniff
from discern.inputs.source import opened
from discern.inputs.types import InputLimits, MediaContent

_QUALITY = 80


def thumbnail(content: MediaContent, limits: InputLimits, side: int) -> bytes | None:
    """Return an image as a JPEG of at most `side` pixels a side, without what else its file says; None for a video.

    Raises `UnsupportedInput`, `UnreadableInput` and `InputTooLarge`.
    """
    with opened(content) as source:
        sniffed = sniff(source.head)
        if sniffed.kind != "image":
            return None
        source.check_bytes("image_bytes", limits.image_bytes)
        rgb = decode_image(source.read(), sniffed.format, limits)
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()
