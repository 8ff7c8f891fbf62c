"""Tells what content is by its first bytes, never by a name or a header.

Invariants:

- What is taken is recognised by signatures written out here; the `filetype` library only names what is refused.
- No bytes raise anything but `EmptyInput` or `UnsupportedInput`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import filetype

from discern.core.errors import EmptyInput, UnsupportedInput

ImageFormat = Literal["jpeg", "png", "webp", "gif"]
VideoFormat = Literal["mp4", "mov", "webm", "avi"]

TAKEN = "JPEG, PNG, WebP and GIF images, MP4, MOV, WebM and AVI video"

_TAKEN_EXTENSIONS = frozenset({"jpg", "png", "apng", "webp", "gif", "mp4", "mov", "webm", "avi"})
# ISO base media brands (ISO/IEC 14496-12, annex E, and the MP4 registration authority) that mean moving pictures.
_MP4_BRANDS = ("iso", "mp4", "avc", "dash", "M4V", "MSNV", "f4v", "3g", "mmp4", "cmf", "hvc", "av01")
_STILL_OR_SOUND_BRANDS = {
    **dict.fromkeys(("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"), "HEIC"),
    **dict.fromkeys(("avif", "avis"), "AVIF"),
    **dict.fromkeys(("M4A ", "M4B ", "M4P "), "MPEG-4 audio"),
    "crx ": "Canon CR3",
}
# Top-level atoms that QuickTime files without a file type atom begin with.
_OLD_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"pnot")
_TEXT_BEGINNINGS = {
    "an HLS playlist": ("#extm3u",),
    "HTML": ("<!doctype html", "<html"),
    "SVG": ("<svg",),
    "XML": ("<?xml",),
    "JSON": ("{", "["),
}


@dataclass(frozen=True, slots=True)
class SniffedImage:
    """An image that is taken."""

    format: ImageFormat
    kind: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class SniffedVideo:
    """A video that is taken."""

    format: VideoFormat
    kind: Literal["video"] = "video"


Sniffed = SniffedImage | SniffedVideo


def sniff(head: bytes) -> Sniffed:
    """Type of the content that begins with `head` (8,192 bytes are enough).

    Raises `EmptyInput` for no bytes and `UnsupportedInput` for a type that is not taken; its fact `found` names the
    type where it is recognised.
    """
    if not head:
        raise EmptyInput("The input is empty.", mend="Send the bytes of an image or a video.")
    sniffed = _image(head) or _video(head)
    if sniffed is None:
        found = _name(head)
        what = f"The input looks like {found}" if found else "The type of the input is not recognised"
        raise UnsupportedInput(f"{what}; taken are {TAKEN}.", mend="Convert it to one of these.", found=found)
    return sniffed


def _image(head: bytes) -> SniffedImage | None:
    if head.startswith(b"\xff\xd8\xff"):
        return SniffedImage("jpeg")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return SniffedImage("png")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return SniffedImage("gif")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return SniffedImage("webp")
    return None


def _video(head: bytes) -> SniffedVideo | None:
    if head[4:8] == b"ftyp":
        return _base_media(head)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return SniffedVideo("avi")
    if head[4:8] in _OLD_QUICKTIME_ATOMS:
        return SniffedVideo("mov")
    if _matroska_type(head) == "webm":
        return SniffedVideo("webm")
    return None


def _base_media(head: bytes) -> SniffedVideo | None:
    major, compatible = _brands(head)
    if major == "qt  ":
        return SniffedVideo("mov")
    if major not in _STILL_OR_SOUND_BRANDS and any(brand.startswith(_MP4_BRANDS) for brand in (major, *compatible)):
        return SniffedVideo("mp4")
    return None


def _brands(head: bytes) -> tuple[str, list[str]]:
    size = min(int.from_bytes(head[:4], "big"), len(head), 512)
    return _text(head[8:12]), [_text(head[at : at + 4]) for at in range(16, size - 3, 4)]


def _matroska_type(head: bytes) -> str | None:
    """The DocType of an EBML header (RFC 8794, section 11.2.4), or None."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    at = head.find(b"\x42\x82", 4, 256)
    if at < 0 or at + 3 > len(head) or head[at + 2] == 0:
        return ""
    length_bytes = 9 - head[at + 2].bit_length()
    start = at + 2 + length_bytes
    size = int.from_bytes(head[at + 2 : start], "big") & ((1 << 7 * length_bytes) - 1)
    return _text(head[start : start + min(size, 32)]).rstrip("\0")


def _name(head: bytes) -> str | None:
    """What the content is called, for the error message; None when nothing is recognised."""
    if head[4:8] == b"ftyp" and (still_or_sound := _STILL_OR_SOUND_BRANDS.get(_brands(head)[0])):
        return still_or_sound
    if _matroska_type(head) == "matroska":
        return "Matroska"
    kind = filetype.guess(head)
    if kind is not None:
        damaged = "a damaged " if kind.extension in _TAKEN_EXTENSIONS else ""
        return f"{damaged}{kind.extension.upper()} ({kind.mime})"
    return _text_name(head)


def _text_name(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character of the head may be cut in two.
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8")
    if any(character < " " and character not in "\t\r\n\f" for character in text):
        return None
    start = text.lstrip("\ufeff \t\r\n")[:1000].lower()
    return next((name for name, beginnings in _TEXT_BEGINNINGS.items() if start.startswith(beginnings)), "text")


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
