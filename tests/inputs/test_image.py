"""Images: every flavour becomes upright RGB, everything hostile is refused before it costs anything."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from discern.core.errors import InputTooLarge, UnreadableInput
from discern.inputs.image import decode_image
from discern.inputs.sniffing import ImageFormat
from discern.inputs.types import InputLimits
from tests.inputs import media

LIMITS = InputLimits()
FORMATS: list[ImageFormat] = ["jpeg", "png", "webp", "gif"]


def decode(content: bytes, image_format: ImageFormat) -> NDArray[np.uint8]:
    return decode_image(content, image_format, LIMITS)


def assert_quarters(rgb: NDArray[np.uint8], tolerance: int = 12) -> None:
    """The picture of `media.picture` is there, upright."""
    height, width = rgb.shape[:2]
    quarters = {(1, 1): (250, 10, 10), (1, 3): (10, 250, 10), (3, 1): (10, 10, 250), (3, 3): (128, 128, 128)}
    for (row, column), colour in quarters.items():
        assert np.abs(rgb[height * row // 4, width * column // 4].astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize("image_format", FORMATS)
def test_each_format_is_decoded_to_rgb(image_format: ImageFormat) -> None:
    rgb = decode(media.encoded(media.picture(), image_format.upper()), image_format)
    assert rgb.shape == (30, 40, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert not rgb.flags.writeable
    assert_quarters(rgb, tolerance=40 if image_format == "webp" else 12)


def test_lossless_pixels_are_kept_to_the_bit() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    for image_format, options in (("png", {}), ("webp", {"lossless": True, "exact": True})):
        content = media.encoded(Image.fromarray(pixels), image_format.upper(), **options)
        assert np.array_equal(decode(content, cast("ImageFormat", image_format)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
def test_exif_orientation_is_honoured(image_format: ImageFormat, orientation: int) -> None:
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = media.picture() if turned is None else media.picture().transpose(turned)
    content = media.encoded(stored, image_format.upper(), exif=media.exif(orientation))
    rgb = decode(content, image_format)
    assert rgb.shape == (30, 40, 3)
    assert_quarters(rgb, tolerance=40)


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01"]
)
def test_broken_exif_does_not_cost_the_picture(block: bytes) -> None:
    content = media.jpeg_with_exif(media.encoded(media.picture(), "JPEG"), block)
    assert_quarters(decode(content, "jpeg"))


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_jpeg_modes(mode: str) -> None:
    rgb = decode(media.encoded(media.picture().convert(mode), "JPEG", quality=95), "jpeg")
    if mode == "CMYK":
        assert_quarters(rgb)
    else:
        assert np.ptp(rgb, axis=2).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_png_modes(mode: str) -> None:
    image = media.picture().convert(mode)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(media.encoded(image, "PNG"), "png"), expected)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    samples = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    rgb = decode(media.encoded(Image.fromarray(samples), "PNG"), "png")
    assert np.array_equal(rgb[..., 0], (samples >> 8).astype(np.uint8))


def test_sixteen_bit_colour_and_alpha_are_scaled() -> None:
    line = b"\0" + struct.pack(">8H", 0xFFFF, 0x8000, 0, 0xFFFF, 0xFFFF, 0x8000, 0, 0)
    rgb = decode(media.png(2, 1, depth=16, colour=6, data=line), "png")
    assert rgb[0, 0].tolist() == [255, 128, 0]
    assert rgb[0, 1].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_with_a_transparent_value_is_white_there() -> None:
    line = b"\0" + struct.pack(">2H", 0x1234, 0x2000)
    rgb = decode(media.png(2, 1, media.png_chunk(b"tRNS", b"\x12\x34"), depth=16, colour=0, data=line), "png")
    assert rgb[0, :, 0].tolist() == [255, 0x20]


@pytest.mark.parametrize("image_format", ["png", "webp", "gif"])
def test_transparent_parts_are_white(image_format: ImageFormat) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 8, 16))
    options = {"lossless": True} if image_format == "webp" else {}
    rgb = decode(media.encoded(image, image_format.upper(), **options), image_format)
    assert rgb[8, 12].tolist() == [255, 255, 255]
    assert abs(int(rgb[8, 2, 0]) - 200) <= 8


def test_transparent_palette_and_colour_keys_are_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert decode(media.encoded(palette, "PNG", transparency=1), "png").min() == 255
    assert decode(media.encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), "png").min() == 255


@pytest.mark.parametrize("image_format", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_taken(image_format: ImageFormat) -> None:
    later = [Image.new("RGB", (40, 30), (number * 20, 0, 0)) for number in range(1, 6)]
    content = media.encoded(
        media.picture(), image_format.upper(), save_all=True, append_images=later, duration=40, lossless=True
    )
    assert_quarters(decode(content, image_format))


def test_of_a_multi_picture_jpeg_the_first_is_taken() -> None:
    content = media.encoded(media.picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    assert_quarters(decode(content, "jpeg"))


@pytest.mark.parametrize("image_format", FORMATS)
def test_more_pixels_than_allowed_are_refused_by_name(image_format: ImageFormat) -> None:
    content = media.encoded(media.picture(), image_format.upper())
    with pytest.raises(InputTooLarge, match="image_pixels") as caught:
        decode_image(content, image_format, InputLimits(image_pixels=1199))
    assert caught.value.facts == {"limit": "image_pixels", "allowed": 1199, "found": 1200}
    assert decode_image(content, image_format, InputLimits(image_pixels=1200)).shape == (30, 40, 3)


def test_more_bytes_than_allowed_are_refused_by_name() -> None:
    content = media.encoded(media.picture(), "PNG")
    with pytest.raises(InputTooLarge, match="image_bytes") as caught:
        decode_image(content, "png", InputLimits(image_bytes=len(content) - 1))
    assert caught.value.facts["limit"] == "image_bytes"


def _small_large_png() -> bytes:
    packer = zlib.compressobj(9)
    line = bytes(20_000 // 8 + 1)
    data = b"".join(packer.compress(line) for _ in range(20_000)) + packer.flush()
    header = media.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + media.png_chunk(b"IDAT", data) + media.png_chunk(b"IEND", b"")


def _large_gif() -> bytes:
    gif = bytearray(media.encoded(media.picture(), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    return bytes(gif)


def _gif_frame_beyond_its_canvas() -> bytes:
    gif = bytearray(media.encoded(media.picture(), "GIF"))
    at = gif.index(b"\x2c\0\0\0\0")
    gif[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(gif)


def _large_webp() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\xff\x0f" * 2
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _large_jpeg() -> bytes:
    jpeg = bytearray(media.encoded(media.picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(jpeg)


@pytest.mark.parametrize(
    ("image_format", "content"),
    [
        ("png", _small_large_png()),
        ("gif", _large_gif()),
        ("gif", _gif_frame_beyond_its_canvas()),
        ("webp", _large_webp()),
        ("jpeg", _large_jpeg()),
    ],
)
def test_huge_pictures_of_few_bytes_are_refused_before_decoding(image_format: ImageFormat, content: bytes) -> None:
    assert len(content) < 100_000
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(InputTooLarge, match="image_pixels"):
        decode(content, image_format)
    seconds = time.process_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 1_000_000


def test_compressed_texts_and_profiles_of_a_png_are_never_unpacked() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    line = b"\0" + b"\x05\x06\x07" * 4
    texts = [media.png_chunk(b"zTXt", b"k%d\0\0" % number + bomb) for number in range(20)]
    profile = media.png_chunk(b"iCCP", b"p\0\0" + bomb)
    content = media.png(4, 1, profile, *texts, media.png_chunk(b"iTXt", b"k\0\1\0\0\0" + bomb), data=line)
    started = time.process_time()
    assert decode(content, "png")[0, 3].tolist() == [5, 6, 7]
    assert time.process_time() - started < 0.2


def test_gif_comments_cost_linear_time() -> None:
    gif = media.encoded(media.picture(), "GIF")
    at = gif.index(b"\x2c\0\0\0\0")
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 30_000 + b"\0"
    started = time.process_time()
    assert_quarters(decode(gif[:at] + comment + gif[at:], "gif"))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("filler", [b"\xff", b"\0"])
def test_jpeg_fillers_cost_little(filler: bytes) -> None:
    jpeg = media.encoded(media.picture(), "JPEG")
    started = time.process_time()
    assert_quarters(decode(jpeg[:2] + filler * 4_000_000 + jpeg[2:], "jpeg"))
    assert time.process_time() - started < 0.5


def test_a_million_empty_jpeg_segments_are_refused_at_once() -> None:
    jpeg = media.encoded(media.picture(), "JPEG")
    started = time.process_time()
    with pytest.raises(UnreadableInput, match="segments"):
        decode(jpeg[:2] + b"\xff\xfe\0\2" * 1_000_000 + jpeg[2:], "jpeg")
    assert time.process_time() - started < 0.5


def test_jpeg_of_thousands_of_scans_is_refused() -> None:
    jpeg = media.encoded(media.picture(), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    assert_quarters(decode(jpeg, "jpeg"))
    with pytest.raises(UnreadableInput, match="scans"):
        decode(jpeg[:last] + jpeg[last:-2] * 5000 + b"\xff\xd9", "jpeg")


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_pictures_are_unreadable(image_format: ImageFormat, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = media.encoded(noise, image_format.upper())
    with pytest.raises(UnreadableInput, match=r"cut short|truncated") as caught:
        decode(content[: int(len(content) * share)], image_format)
    assert caught.value.mend


def test_corrupt_png_data_is_unreadable() -> None:
    content = bytearray(media.encoded(media.picture(), "PNG"))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(UnreadableInput, match="PNG"):
        decode(bytes(content), "png")


def test_colour_profiles_are_not_applied() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = decode(media.encoded(media.picture(), "PNG"), "png")
    assert np.array_equal(decode(media.encoded(media.picture(), "PNG", icc_profile=profile), "png"), plain)


@pytest.mark.parametrize("image_format", ["jpeg", "png", "gif"])
def test_our_limit_counts_and_not_pillows(image_format: ImageFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert_quarters(decode(media.encoded(media.picture(), image_format.upper()), image_format))


def test_threads_decode_the_same_pixels() -> None:
    contents = [(media.encoded(media.picture(), name.upper()), name) for name in FORMATS] * 8
    alone = [decode(content, name) for content, name in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: decode(*pair), contents))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
