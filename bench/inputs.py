"""Records and pictures for the benchmarks, made by code: the same ones every time, each different from the others."""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO

import av
import numpy as np
from PIL import Image

from bench.baseline import FIELDS

_DIGITS = 12
VARIANTS = 64
"""So many templates of a record, or pictures, there are; a serial number makes each request's body its own."""


def record(serial: int) -> bytes:
    """Return the record of a serial number below 10^12 as JSON; no two are the same."""
    before, after = record_template(serial)
    return before + serial_digits(serial) + after


@cache
def record_template(variant: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the serial number in a record's JSON."""
    values = np.random.default_rng(variant % VARIANTS).uniform(-1, 1, len(FIELDS))
    fields = {name: round(float(value), 4) for name, value in zip(FIELDS[1:], values[1:], strict=True)}
    rest = json.dumps(fields).removeprefix("{")
    return f'{{"{FIELDS[0]}": 0.'.encode(), f"1, {rest}".encode()


def photo(serial: int) -> bytes:
    """Return a 640x480 JPEG of about 45 kB; no two are the same bytes."""
    before, after = photo_template(serial)
    return before + serial_digits(serial) + after


def photo_template(variant: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the serial number, which is a comment, in a picture."""
    content = _jpeg(variant % VARIANTS)
    comment = b"\xff\xfe" + (2 + _DIGITS).to_bytes(2, "big")
    return content[:2] + comment, content[2:]


def serial_digits(serial: int) -> bytes:
    """Return a serial number as it stands in a body."""
    return b"%0*d" % (_DIGITS, serial)


@cache
def _jpeg(variant: int) -> bytes:
    """Return a smooth picture with a little noise, which compresses as a photograph does."""
    generator = np.random.default_rng(variant)
    coarse = generator.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + generator.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=85)
    return out.getvalue()


def clip(seconds: int = 10, rate: int = 25) -> bytes:
    """Return an H.264 clip of 640x480 in MP4: a picture that moves a little from frame to frame."""
    still = np.asarray(Image.open(BytesIO(_jpeg(0))).convert("RGB"))
    out = BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(seconds * rate):
            frame = av.VideoFrame.from_ndarray(np.roll(still, 2 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def clip_template(_variant: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the serial number, which is in a `free` box at the end, in a clip."""
    return _clip() + (8 + _DIGITS).to_bytes(4, "big") + b"free", b""


@cache
def _clip() -> bytes:
    return clip()
