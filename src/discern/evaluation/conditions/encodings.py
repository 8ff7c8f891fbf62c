"""Pictures and clips as files: decoded, and written again by the encoders that change them.

- The same pixels and parameters give the same bytes: one thread, and no time or name in what is written.
- What is written has pixels and times alone: no EXIF, no profile, no sound, no comment.
- A clip keeps the times of its frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from discern.core.errors import UnreadableInput, UnsupportedInput
from discern.inputs.sniffing import TAKEN, SniffedVideo, sniff
from discern.inputs.source import opened
from discern.inputs.video import survey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.inputs.types import InputLimits, MediaContent

    Pixels = NDArray[np.uint8]

_UNIT = Fraction(1, 90_000)
_RATE = 30
"""What the encoder is told for its rate control; the frames have times of their own."""

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames of a clip, uint8 [height, width, 3] RGB each, and their times in seconds from the start."""

    seconds: tuple[float, ...]
    frames: tuple[Pixels, ...]


def decode_clip(content: MediaContent, limits: InputLimits, most: int, named: Sequence[int] | None = None) -> Clip:
    """Return a clip's frames: `named` ones by their numbers, else at most `most`, evenly spaced.

    Raises what `survey` raises, and UnsupportedInput for content that is no clip.
    """
    with opened(content) as source:
        sniffed = sniff(source.head)
        if not isinstance(sniffed, SniffedVideo):
            raise UnsupportedInput(f"The input is an image, not a video; taken are {TAKEN}.", found=sniffed.format)
        source.check_bytes("video_bytes", limits.video_bytes)
        taken = list(survey(source.file, source.size, sniffed.format, most, limits, named).frames())
    return Clip(tuple(second for second, _ in taken), tuple(np.ascontiguousarray(rgb) for _, rgb in taken))


def as_jpeg(rgb: Pixels, quality: int) -> bytes:
    """Return a JPEG file with half the colour resolution, as cameras and services write them."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    return _written(".jpg", rgb, options)


def as_packed_png(rgb: Pixels) -> bytes:
    """Return a PNG file, which has lost nothing."""
    return _written(".png", rgb, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def from_jpeg(content: bytes) -> Pixels:
    """Return the pixels of a file that `as_jpeg` wrote."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise UnreadableInput("A picture that was written as JPEG cannot be read back.")
    return cast("Pixels", pixels)


def through_h264(rgb: Pixels, crf: int) -> Pixels:
    """Return a picture as the one key frame of an H.264 clip gives it back."""
    height, width = rgb.shape[:2]
    content = as_mp4(Clip((0.0,), (rgb,)), {"crf": str(crf), "preset": "medium"})
    with av.open(io.BytesIO(content), mode="r") as container:
        frame = next(iter(container.decode(video=0)))
        return cast("Pixels", frame.to_ndarray(format="rgb24")[:height, :width])


def as_mp4(clip: Clip, options: dict[str, str], *, lossless: bool = False) -> bytes:
    """Return the clip as H.264 in MP4. Sides are made even by repeating the last row or column."""
    frames = [_even(frame) for frame in clip.frames]
    height, width = frames[0].shape[:2]
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264rgb" if lossless else "libx264", rate=_RATE)
        assert isinstance(stream, VideoStream)  # noqa: S101 - what a video encoder writes
        stream.width, stream.height = width, height
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        stream.options = {**options, "threads": "1"}
        stream.time_base = stream.codec_context.time_base = _UNIT
        for second, pixels in zip(clip.seconds, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(second / _UNIT), _UNIT
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def lossless_mp4(clip: Clip) -> bytes:
    """Return the clip as H.264 that gives back every pixel."""
    return as_mp4(clip, LOSSLESS, lossless=True)


def changed(clip: Clip, change: Callable[[Pixels], Pixels]) -> Clip:
    """Return the clip with every frame changed."""
    return Clip(clip.seconds, tuple(map(change, clip.frames)))


def kept(clip: Clip, keep: NDArray[np.bool_]) -> Clip:
    """Return some frames of the clip; the first always, for a clip begins with a picture."""
    places = sorted({0, *np.flatnonzero(keep).tolist()})
    return Clip(tuple(clip.seconds[place] for place in places), tuple(clip.frames[place] for place in places))


def frames_of(content: bytes) -> Iterator[Pixels]:
    """Yield every frame of a clip that was written here."""
    with av.open(io.BytesIO(content), mode="r") as container:
        for frame in container.decode(video=0):
            yield cast("Pixels", frame.to_ndarray(format="rgb24"))


def _even(rgb: Pixels) -> Pixels:
    height, width = rgb.shape[:2]
    if height % 2 == width % 2 == 0:
        return np.ascontiguousarray(rgb)
    return cast("Pixels", cv2.copyMakeBorder(rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))


def _written(suffix: str, rgb: Pixels, options: list[int]) -> bytes:
    written, content = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not written:
        raise UnreadableInput(f"The picture cannot be written as {suffix[1:].upper()}.")
    return content.tobytes()
