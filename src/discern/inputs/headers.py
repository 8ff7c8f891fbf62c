"""Reads the size of an encoded image from its structure, and keeps only the parts that make its pixels.

What is dropped (colour profiles, texts, thumbnails, later frames) never reaches the decoder: a compressed text that
unpacks to gigabytes, a broken EXIF block or a thousand-frame animation costs nothing.

Invariants:

- The work is linear in the bytes given, with a bounded number of Python steps; no pixel is decoded.
- The pixels of the essential bytes are the pixels of the first frame of the original.
- Bytes that do not hold the structure raise `UnreadableInput`, nothing else.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from discern.core.errors import UnreadableInput
from discern.inputs.sniffing import ImageFormat

_MOST_SEGMENTS = 4096
_MOST_CHUNKS = 100_000
# A progressive JPEG has about ten scans. Thousands of empty ones cost a pass over the whole image each.
_MOST_SCANS = 256
_FILL = re.compile(rb"\xff+")
_SIZELESS_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DROPPED_MARKERS = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))
_EXIF = b"Exif\0\0"
_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """`width` and `height` in pixels before turning; `orientation` as in EXIF, 1 to 8; `essential` bytes to decode."""

    width: int
    height: int
    orientation: int
    essential: bytes


def read_header(content: bytes, image_format: ImageFormat) -> ImageHeader:
    """Size, orientation and essential bytes of an image.

    Raises `UnreadableInput` when the structure is broken or has an unreasonable number of parts.
    """
    try:
        return _READERS[image_format](content)
    except (struct.error, IndexError) as error:
        raise _cut_short(image_format) from error


def exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block (CIPA DC-008, section 4.6.4), 1 where absent or broken."""
    block = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, at)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", block, at + 2 + 12 * entry)
            if tag == 0x0112:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _jpeg(content: bytes) -> ImageHeader:
    """Segments up to the first scan (ITU-T T.81, annex B)."""
    kept = [b"\xff\xd8"]
    width = height = 0
    orientation = 1
    at = 2
    for _ in range(_MOST_SEGMENTS):
        filled = _FILL.search(content, at)
        if filled is None or filled.end() >= len(content):
            raise _cut_short("jpeg")
        at = filled.end() + 1
        marker = content[at - 1]
        if marker == 0 or marker in _SIZELESS_MARKERS:
            continue
        if marker == 0xDA:
            scans = content.count(b"\xff\xda", at - 2)
            if scans > _MOST_SCANS:
                raise UnreadableInput(f"The JPEG has {scans:,} scans; at most {_MOST_SCANS} are decoded.")
            if width == 0 or height == 0:
                raise UnreadableInput("The JPEG has no picture size before its first scan.")
            essential = b"".join((*kept, memoryview(content)[at - 2 :]))
            return ImageHeader(width, height, orientation, essential)
        if marker in (0xD8, 0xD9):
            raise UnreadableInput("The JPEG ends before its first scan.")
        (length,) = struct.unpack_from(">H", content, at)
        body = content[at + 2 : at + length]
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", body, 1)
            height, width = max(height, rows), max(width, columns)
        if marker == 0xE1 and body.startswith(_EXIF) and orientation == 1:
            orientation = exif_orientation(body)
        if marker not in _DROPPED_MARKERS:
            kept.append(b"\xff" + content[at - 1 : at + length])
        at += length
    raise UnreadableInput(f"The JPEG has more than {_MOST_SEGMENTS:,} segments before its first scan.")


def _png(content: bytes) -> ImageHeader:
    """Chunks (W3C PNG, section 5); those of an animation are left out, which leaves its default image."""
    kept = [content[:8]]
    orientation = 1
    at = 8
    for _ in range(_MOST_CHUNKS):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if kind == b"eXIf":
            orientation = exif_orientation(content[at + 8 : end - 4])
        if kind in _PIXEL_CHUNKS:
            kept.append(content[at:end])
        elif not kind[0] & 0x20:
            raise UnreadableInput("The PNG has a critical chunk of an unknown kind.")
        at = end
        if kind == b"IEND" or at >= len(content):
            break
    else:
        raise UnreadableInput(f"The PNG has more than {_MOST_CHUNKS:,} chunks.")
    if content[12:16] != b"IHDR":
        raise UnreadableInput("The PNG does not begin with its header chunk.")
    width, height = struct.unpack_from(">II", content, 16)
    return ImageHeader(width, height, orientation, b"".join(kept))


def _gif(content: bytes) -> ImageHeader:
    """Screen, first graphic control and first image (GIF89a specification, sections 18 to 23)."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    kept = [content[:at]]
    control = b""
    while True:
        introducer = content[at]
        if introducer == 0x2C:
            break
        if introducer != 0x21:
            raise UnreadableInput("The GIF has no image in it.")
        end = _after_sub_blocks(content, at + 2)
        if content[at + 1] == 0xF9:
            control = content[at:end]
        at = end
    left, top, columns, rows, flags = struct.unpack_from("<4HB", content, at + 1)
    start = at + 10 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0) + 1
    end = _after_sub_blocks(content, start)
    kept += [control, content[at:end], b";"]
    return ImageHeader(max(width, left + columns), max(height, top + rows), 1, b"".join(kept))


def _after_sub_blocks(content: bytes, at: int) -> int:
    while length := content[at]:
        at += 1 + length
    return at + 1


def _webp(content: bytes) -> ImageHeader:
    """The canvas (RFC 9649, sections 2.5 to 2.7); an animation's later frames are left to the decoder to skip."""
    kind = content[12:16]
    orientation = 1
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        if len(content) < 30:
            raise _cut_short("webp")
        if content[20] & 0x08:
            orientation = exif_orientation(_riff_chunk(content, b"EXIF"))
    else:
        raise UnreadableInput("The WebP does not begin with a picture.")
    return ImageHeader(width, height, orientation, content)


def _riff_chunk(content: bytes, wanted: bytes) -> bytes:
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(content):
            break
        kind, length = struct.unpack_from("<4sI", content, at)
        if kind == wanted:
            return content[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    return b""


def _cut_short(image_format: ImageFormat) -> UnreadableInput:
    return UnreadableInput(
        f"The {image_format.upper()} is cut short or corrupt: its structure ends before its picture.",
        mend="Send the whole file.",
    )


_READERS = {"jpeg": _jpeg, "png": _png, "gif": _gif, "webp": _webp}
