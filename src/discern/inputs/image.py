"""Encoded images become upright RGB pixels.

Invariants:

- Bytes and pixels are checked against the limits before a pixel is decoded.
- One decoder is tried, the one of the sniffed format, and it is given only the bytes that make the first frame.
- The whole picture is decoded at full size: a truncated or corrupt one is refused, never filled up.
- Transparent parts are white. Samples of 16 bits keep their upper 8. No colour profile is applied.
- Nothing global is changed: no Pillow setting, no warning filter. Any number of threads may decode.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from discern.core.errors import InputTooLarge, UnreadableInput
from discern.inputs.headers import ImageHeader, read_header
from discern.inputs.sniffing import ImageFormat
from discern.inputs.source import check_limit
from discern.inputs.types import InputLimits

# The plugin classes are called themselves: Image.open would judge the size by a global of Pillow's and warn.
_DECODERS: dict[ImageFormat, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
_DECODING_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)
# EXIF orientation to what makes it upright (CIPA DC-008, section 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(content: bytes, image_format: ImageFormat, limits: InputLimits) -> NDArray[np.uint8]:
    """Pixels of an image, or of its first frame, as RGB uint8 [height, width, 3], upright, read-only.

    Raises `InputTooLarge` for more bytes or pixels than `limits` allow, before decoding, and `UnreadableInput` for
    content that is truncated, corrupt or without a picture.
    """
    check_limit("image_bytes", limits.image_bytes, len(content), "bytes")
    header = read_header(content, image_format)
    _check_pixels(header.width, header.height, limits)
    try:
        image: Image.Image = _DECODERS[image_format](io.BytesIO(header.essential))
        _check_pixels(image.width, image.height, limits)
        image.load()
        rgb = _rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(header, limits) from error
    except _DECODING_FAULTS as error:
        raise UnreadableInput(
            f"The {image_format.upper()} cannot be decoded; it is truncated or corrupt ({_reason(error)}).",
            mend="Send the whole file as the camera or the program wrote it.",
        ) from error
    if header.orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[header.orientation])
    return np.asarray(rgb, dtype=np.uint8)


def _check_pixels(width: int, height: int, limits: InputLimits) -> None:
    if width < 1 or height < 1:
        raise UnreadableInput(f"The picture says it is {width} x {height} pixels.")
    check_limit("image_pixels", limits.image_pixels, width * height, "pixels")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGB", layered.size, (255, 255, 255))
        white.paste(layered, mask=layered.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these modes clips at 255 instead of scaling.
    samples = np.asarray(image)
    within = samples if samples.dtype == np.uint16 else np.clip(samples, 0, 65535)
    grey = (within >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _too_large(header: ImageHeader, limits: InputLimits) -> InputTooLarge:
    return InputTooLarge(
        f"The decoder refuses a picture of {header.width} x {header.height} pixels.",
        mend="Send a smaller one.",
        limit="image_pixels",
        allowed=limits.image_pixels,
        found=header.width * header.height,
    )


def _reason(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
