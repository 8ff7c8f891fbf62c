"""The type of content is told by its bytes."""

from __future__ import annotations

import io
import zipfile

import pytest

from discern.core.errors import EmptyInput, UnsupportedInput
from discern.inputs.sniffing import sniff
from tests.inputs import media


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif"])
def test_images_that_are_taken_are_recognised(name: str) -> None:
    sniffed = sniff(media.encoded(media.picture(), name.upper()))
    assert (sniffed.kind, sniffed.format) == ("image", name)


@pytest.mark.parametrize("name", ["mp4", "mov", "webm", "avi"])
def test_videos_that_are_taken_are_recognised(name: str) -> None:
    sniffed = sniff(media.clip(name, media.grey_frames(2)))
    assert (sniffed.kind, sniffed.format) == ("video", name)


def test_fragmented_mp4_and_old_quicktime_are_recognised() -> None:
    fragmented = media.clip("mp4", media.grey_frames(2), container_options={"movflags": "frag_keyframe+empty_moov"})
    assert sniff(fragmented).format == "mp4"
    assert sniff(b"\0\0\0\x20wide\0\0\0\x08mdat").format == "mov"


def test_webm_is_recognised_however_long_its_lengths_are_written() -> None:
    assert sniff(b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x0f\x42\x82\x01\0\0\0\0\0\0\x04webm").format == "webm"


def test_nothing_is_empty() -> None:
    with pytest.raises(EmptyInput):
        sniff(b"")


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (_zip(), "ZIP"),
        (media.encoded(media.picture(), "TIFF"), "TIF"),
        (media.encoded(media.picture(), "BMP"), "BMP"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0isomheic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0isommp42", "MPEG-4 audio"),
        (b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\x04", "Matroska"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0", "WAV"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n", "HLS playlist"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "text"),
        (b'<?xml version="1.0"?><svg/>', "XML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><p>not found</p>", "HTML"),
        (b'{"amount": 12}', "JSON"),
        ("ein Wort für sich ".encode() * 600, "text"),
    ],
)
def test_what_is_not_taken_is_named(content: bytes, found: str) -> None:
    with pytest.raises(UnsupportedInput, match=found) as caught:
        sniff(content[:8192])
    assert "JPEG, PNG, WebP and GIF" in str(caught.value)


def test_a_damaged_beginning_is_said_to_be_damaged() -> None:
    with pytest.raises(UnsupportedInput, match="a damaged PNG"):
        sniff(b"\x89PNG\n\x1a\n" + bytes(20))


def test_unknown_bytes_are_refused_without_a_guess() -> None:
    with pytest.raises(UnsupportedInput, match="not recognised") as caught:
        sniff(b"\x00\x01\x02\x03\xfe\xff" * 8)
    assert caught.value.facts["found"] is None
