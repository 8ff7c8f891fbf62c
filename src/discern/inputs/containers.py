"""Looks at a video container's structure before libav opens it.

Invariants:

- A file that is cut short, or whose structure is broken on the way, is found by the extents that the structure itself
  declares, not by durations or frame counts.
- A table that would make the demuxer allocate without relation to the file's size is refused.
- Pictures and sound are not read; what is read of an MP4 or MOV are its index boxes, at most 64 MB.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from discern.core.errors import UnreadableInput
from discern.inputs.sniffing import VideoFormat

_MOST_BOXES = 200_000
_MOST_INDEX_BYTES = 64_000_000
_MOST_SAMPLES = 15_000_000
_INDEX_PIECE = 4_000_000
# libav reads sample tables wherever they stand, so they are looked for by name and not by their place in the tree.
_TABLES = re.compile(rb"stsz|stz2|trun|cmov")
_TABLE_HEAD = 24
_MOST_PARTS = 1_000_000
_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
# Level 1 elements of a Segment, and what stands in a Cluster.
_SEGMENT_PARTS = frozenset(
    {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469, 0xEC, 0xBF}
    | {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854, 0xAF}
)
_TAIL_TOLERANCE = 0.01


def missing_bytes(file: BinaryIO, size: int, video_format: VideoFormat) -> int:
    """How many bytes the container declares but does not have in order; 0 for a whole file and for up to 1 %.

    Raises `UnreadableInput` when the structure is broken or its sample tables are out of proportion.
    """
    gap = {"mp4": _boxes_gap, "mov": _boxes_gap, "avi": _riff_gap, "webm": _segment_gap}[video_format](file, size)
    file.seek(0)
    return gap if gap > _TAIL_TOLERANCE * size else 0


def _boxes_gap(file: BinaryIO, size: int) -> int:
    """Bytes by which the top-level boxes (ISO/IEC 14496-12, section 4.2) reach beyond the file; checks index boxes."""
    at = index_bytes = samples = length = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return 0
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        elif length == 0:
            length = size - at
        if length < 8:
            return 0
        if kind not in (b"mdat", b"wide"):
            index_bytes += min(length, size - at)
            if index_bytes > _MOST_INDEX_BYTES:
                raise UnreadableInput(f"The video has more than {_MOST_INDEX_BYTES:,} bytes of index.")
            samples += _declared_samples(file, at, min(length, size - at), size)
            if samples > _MOST_SAMPLES:
                raise UnreadableInput(f"The video's index declares more than {_MOST_SAMPLES:,} samples.")
        at += length
        if at >= size:
            return at - size
    raise UnreadableInput(f"The video has more than {_MOST_BOXES:,} boxes.")


def _declared_samples(file: BinaryIO, start: int, length: int, size: int) -> int:
    end = start + length
    total = 0
    for at in range(start, end, _INDEX_PIECE):
        before = min(4, at - start)
        file.seek(at - before)
        piece = file.read(min(before + _INDEX_PIECE + _TABLE_HEAD, end - at + before))
        for found in _TABLES.finditer(piece, before, min(len(piece), before + _INDEX_PIECE + 3)):
            wide = piece[max(0, found.start() - 4) : found.start()] == b"\0\0\0\1"
            total += _table_samples(piece[found.start() : found.start() + _TABLE_HEAD], size, 12 if wide else 4)
    return total


def _table_samples(table: bytes, size: int, at: int) -> int:
    """Samples that a table declares whose fields begin `at` bytes after the start of its name."""
    kind = table[:4]
    if kind == b"cmov":
        if b"dcom" in table:
            raise UnreadableInput("The video's index is compressed, which is not taken.", mend="Save it again as MP4.")
        return 0
    fields = table[at : at + 12]
    # A word in a text, such as "trunk". As numbers its letters are more than libav allocates for.
    if len(fields) < 12 or min(fields) >= 0x20:
        return 0
    first, second = int.from_bytes(fields[4:8], "big"), int.from_bytes(fields[8:], "big")
    if kind == b"trun":
        return first
    if kind == b"stsz" and first * second > size:
        raise UnreadableInput("The video's index declares more bytes than the file has; it is cut short or corrupt.")
    return second


def _riff_gap(file: BinaryIO, size: int) -> int:
    """Bytes of an AVI's RIFF chunks that cannot be walked chunk by chunk."""
    at = end = 0
    for _ in range(_MOST_PARTS):
        file.seek(at)
        head = file.read(12)
        if at >= end:
            if len(head) < 12 or not head.startswith(b"RIFF"):
                return max(0, end - size)
            length = int.from_bytes(head[4:8], "little")
            # A recorder that was switched off leaves no length.
            end = size if length in (0, 0xFFFFFFFF) else at + 8 + length
        if at >= size:
            return end - at
        length = int.from_bytes(head[4:8], "little")
        if head[:4] in (b"RIFF", b"LIST"):
            at += 12
        elif _CHUNK_NAME.match(head):
            at += 8 + length + (length & 1)
        else:
            return end - at
    raise UnreadableInput(f"The video has more than {_MOST_PARTS:,} parts.")


def _segment_gap(file: BinaryIO, size: int) -> int:
    """Bytes of a WebM's Segment (RFC 9559, section 5.1) that cannot be walked element by element."""
    at = 0
    end: int | None = None
    for _ in range(_MOST_PARTS):
        if end is not None and at >= end:
            return max(0, at - size)
        file.seek(at)
        element = _element(file.read(12))
        if element is None:
            return 0 if end is None or (at >= size and end == size) else end - at
        identity, head_bytes, length = element
        if identity == _SEGMENT:
            end = size if length is None else at + head_bytes + length
            at += head_bytes
        elif identity == _CLUSTER:
            at += head_bytes
        elif length is None or (end is not None and identity not in _SEGMENT_PARTS):
            return (size if end is None else end) - at
        else:
            at += head_bytes + length
    raise UnreadableInput(f"The video has more than {_MOST_PARTS:,} parts.")


def _element(head: bytes) -> tuple[int, int, int | None] | None:
    """Identity, bytes of the element's head, and its length, None where left open (RFC 8794, sections 4 to 6)."""
    if len(head) < 2 or head[0] < 0x10:
        return None
    id_bytes = 9 - head[0].bit_length()
    if len(head) <= id_bytes or head[id_bytes] == 0:
        return None
    size_bytes = 9 - head[id_bytes].bit_length()
    most = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & most
    return int.from_bytes(head[:id_bytes], "big"), id_bytes + size_bytes, None if length == most else length
