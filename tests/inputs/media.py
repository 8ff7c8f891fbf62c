"""Pictures and clips made by code, the smallest that show a promise."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from discern.inputs.faces import Box, FaceParts, frontal_parts

CODECS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mov": ("mov", "mpeg4", "yuv420p"),
    "webm": ("webm", "libvpx", "yuv420p"),
    "avi": ("avi", "mjpeg", "yuvj420p"),
}


class FixedLocator:
    """Says the same box for every picture."""

    name = "fixed"

    def __init__(self, box: Box | None) -> None:
        self.box = box
        self.asked = 0

    def locate(self, rgb: NDArray[np.uint8]) -> Box | None:
        assert rgb.dtype == np.uint8
        assert rgb.ndim == 3
        self.asked += 1
        return self.box

    def locate_parts(self, rgb: NDArray[np.uint8]) -> FaceParts | None:
        box = self.locate(rgb)
        return None if box is None else frontal_parts(box)


class BrightLocator:
    """Finds a face in bright pictures only."""

    name = "fixed"

    def locate(self, rgb: NDArray[np.uint8]) -> Box | None:
        return Box(left=4, top=4, width=16, height=16) if rgb.mean() > 100 else None

    def locate_parts(self, rgb: NDArray[np.uint8]) -> FaceParts | None:
        box = self.locate(rgb)
        return None if box is None else frontal_parts(box)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Four quarters: red, green, blue and grey."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 250, 10)
    pixels[height // 2 :, : width // 2] = (10, 10, 250)
    pixels[height // 2 :, width // 2 :] = (128, 128, 128)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG put together by hand; `data` are its raw, unfiltered scan lines."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + png_chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def jpeg_with_exif(jpeg: bytes, block: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + jpeg[2:]


def grey_frames(count: int, width: int = 64, height: int = 48) -> list[NDArray[np.uint8]]:
    """Frames whose brightness is 4 times their number."""
    return [np.full((height, width, 3), number * 4 % 256, np.uint8) for number in range(count)]


def clip(
    container: str = "mp4",
    frames: list[NDArray[np.uint8]] | None = None,
    *,
    rate: int = 25,
    codec: str | None = None,
    rotation: int | None = None,
    times: list[int] | None = None,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """A clip of one video stream; `times` are the frames' positions in units of 1 / `rate` seconds."""
    frames = grey_frames(25) if frames is None else frames
    muxer, usual, pixel_format = CODECS[container]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, options=container_options or {}) as output:
        stream = output.add_stream(codec or usual, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format if codec is None else "yuv420p"
        stream.thread_count = 1
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def without_first_packets(content: bytes, container: str, count: int) -> bytes:
    """The same stream from its packet number `count` on, as when a recording is cut out of a longer one."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(content), "r") as source, av.open(buffer, "w", format=container) as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if number >= count and packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return buffer.getvalue()


def growing_clip(container: str, codec: str, small: tuple[int, int], large: tuple[int, int], frames: int = 10) -> bytes:
    """`frames` frames of one size, then as many of another, in one stream that declares the first."""
    muxer, usual, pixel_format = CODECS[container]
    pixel_format = pixel_format if codec == usual else "yuv420p"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = small
        stream.pix_fmt = pixel_format
        for first, (width, height) in ((0, small), (frames, large)):
            encoder = av.CodecContext.create(codec, "w")
            assert isinstance(encoder, av.VideoCodecContext)
            encoder.width, encoder.height, encoder.pix_fmt = width, height, pixel_format
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            packets = []
            for number in range(frames):
                pixels = np.full((height, width, 3), 20 * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
                frame.pts, frame.time_base = first + number, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in (*packets, *encoder.encode(None)):
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()


def sound(container: str = "mp4", *, cover: bool = False, pictures: int = 0) -> bytes:
    """A second of silence, with or without a cover picture or a video stream of `pictures` frames."""
    codec = {"mp4": "aac", "webm": "libopus", "mov": "aac"}[container]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48000)
        assert isinstance(stream, av.AudioStream)
        picture_stream = None
        if cover or pictures:
            picture_stream = output.add_stream("mjpeg", rate=25)
            assert isinstance(picture_stream, av.VideoStream)
            picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuvj420p"
            if cover:
                picture_stream.disposition = av.stream.Disposition.attached_pic
        samples = np.zeros((1, 48000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 48000
        frame.pts = 0
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48000)
        if picture_stream is not None:
            for number, pixels in enumerate(grey_frames(pictures or 1)):
                still = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuvj420p")
                still.pts = number
                output.mux(picture_stream.encode(still))
            output.mux(picture_stream.encode(None))
        for piece in resampler.resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def in_file(folder: Path, content: bytes, name: str = "content") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
