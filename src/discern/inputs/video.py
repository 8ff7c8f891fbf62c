"""Clips become a few evenly spaced RGB frames.

Invariants:

- Decoded in order with one thread, one decoded frame at a time: memory does not grow with the length of a clip.
- A first pass reads the packets' timestamps without decoding. Declared durations and frame counts are never believed.
- Samples are even in play time: the frames that stand in the middle of `count` equal parts of the clip. A clip with
  fewer frames than that gives each frame once.
- Limits are met before decoding where the container says enough, and in the decoder in any case.
- A clip that is cut short or broken in its structure for more than 1 % of its bytes, or whose decoding fails before
  the last sample, is refused with the second. Damage after the last sample is not looked for; a clip may end without
  pictures for a twentieth of its time, at most half a second.
- Pixels are given as they are stored: no correction of an aspect ratio, no tone mapping.
- libav is given the open file and the one demuxer of the sniffed format: nothing in a file can make it open another
  file or an address.
"""

from __future__ import annotations

import errno
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO, NoReturn, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from discern.core.errors import InputTooLarge, UnreadableInput, UnsupportedInput
from discern.inputs.containers import missing_bytes
from discern.inputs.sniffing import TAKEN, SniffedVideo, VideoFormat, sniff
from discern.inputs.source import check_limit, opened
from discern.inputs.types import InputLimits, MediaContent

_DEMUXERS: dict[VideoFormat, str] = {"mp4": "mov", "mov": "mov", "webm": "matroska", "avi": "avi"}
# The codecs that cameras, telephones and browsers write; libav has hundreds more that nobody needs to be open to.
_CODECS = frozenset(
    {"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "mpeg1video", "mpeg2video"}
    | {"mjpeg", "prores", "dnxhd", "rawvideo"}
)
_MOST_FRAMES_A_SECOND = 60
_EMPTY_TAIL_SECONDS = 0.5
_EMPTY_TAIL_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Clip:
    """What the timestamps of a clip say, and which frames are to be taken.

    `wanted` are positions in units of `unit` seconds, like `start`. `leading` packets stand before the first key frame.
    """

    file: BinaryIO
    format: VideoFormat
    limits: InputLimits
    seconds: float
    frame_seconds: float
    wanted: tuple[int, ...]
    start: int
    unit: Fraction
    leading: int

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (seconds from the start, upright RGB uint8 [height, width, 3]) for each wanted frame, in order.

        Raises `UnreadableInput` when decoding fails before the last one, `InputTooLarge` when a frame is over a limit.
        """
        with _container(self.file, self.format, self.limits) as container:
            stream = _video_stream(container, self.limits)
            _check_size(stream.width, stream.height, self.limits)
            yield from _Sampling(self).run(container, stream)


def sample_frames(content: MediaContent, count: int, limits: InputLimits) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield at most `count` evenly spaced frames of a video; see `Clip.frames` and `survey` for what is raised."""
    with opened(content) as source:
        sniffed = sniff(source.head)
        if not isinstance(sniffed, SniffedVideo):
            raise UnsupportedInput(f"The input is an image, not a video; taken are {TAKEN}.", found=sniffed.format)
        source.check_bytes("video_bytes", limits.video_bytes)
        yield from survey(source.file, source.size, sniffed.format, count, limits).frames()


def survey(
    file: BinaryIO,
    size: int,
    video_format: VideoFormat,
    count: int,
    limits: InputLimits,
    frames: Sequence[int] | None = None,
) -> Clip:
    """Read the timestamps of a clip of `size` bytes and choose `count` evenly spaced frames, or `frames` by number.

    Frames are numbered from 0 in the order in which they are shown. Nothing is decoded but what libav itself probes of
    the first packets.

    Raises `UnreadableInput` for a file that is corrupt, cut short, without a video stream or with fewer frames than are
    named, `UnsupportedInput` for a codec that is not taken, `InputTooLarge` for more seconds or pixels than `limits`
    allow.
    """
    missing = missing_bytes(file, size, video_format)
    timeline = _Timeline(limits)
    try:
        with _container(file, video_format, limits) as container:
            stream = _video_stream(container, limits)
            _check_size(stream.width, stream.height, limits)
            broken = timeline.read(container, stream)
    except (UnreadableInput, UnsupportedInput) as error:
        if missing:
            raise _cut_short(missing, None) from error
        raise
    positions, end = timeline.positions()
    seconds = float((end - positions[0]) * timeline.unit) if positions else 0.0
    if missing or broken or not positions:
        raise _cut_short(missing, seconds)
    check_limit("video_seconds", limits.video_seconds, round(seconds, 3), "seconds")
    if frames is not None and not all(0 <= frame < len(positions) for frame in frames):
        raise UnreadableInput(f"The video has {len(positions)} frames, and frame {max(frames)} is asked for.")
    return Clip(
        file=file,
        format=video_format,
        limits=limits,
        seconds=seconds,
        frame_seconds=seconds / len(positions),
        wanted=_evenly(positions, end, count) if frames is None else tuple(sorted({positions[f] for f in frames})),
        start=positions[0],
        unit=timeline.unit,
        leading=timeline.leading,
    )


def _cut_short(missing: int, seconds: float | None) -> UnreadableInput:
    where = "" if seconds is None else f" at second {seconds:.2f}"
    what = "a part of its bytes is missing or out of order" if missing else "its packets cannot be read further"
    return UnreadableInput(
        f"The video is cut short or corrupt{where}: {what}.",
        mend="Send the whole file.",
        second=None if seconds is None else round(seconds, 3),
    )


@dataclass
class _Timeline:
    """The timestamps of one stream's packets, from its first key frame on, in `unit` seconds."""

    limits: InputLimits
    times: list[int] = field(default_factory=list)
    unit: Fraction = Fraction(1)
    leading: int = 0
    _latest: int = 0
    _latest_duration: int = 0

    def read(self, container: InputContainer, stream: VideoStream) -> bool:
        """Read all packets; True when they end in an error of the demuxer."""
        most = int(self.limits.video_seconds * _MOST_FRAMES_A_SECOND)
        self.unit = stream.time_base or self.unit
        key_seen = False
        packets = 0
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                packets += 1
                if packets > most:
                    self._refuse(most)
                if packet.is_keyframe and not key_seen:
                    key_seen = True
                    self.leading = packets - 1
                    self.times.clear()
                if not packet.is_discard:
                    self._add(packet)
        except av.FFmpegError:
            return True
        return False

    def positions(self) -> tuple[list[int], int]:
        """Sorted positions of the frames and the position where the clip ends."""
        if not self.times:
            return [], 0
        ordered = sorted(set(self.times))
        usual = (ordered[-1] - ordered[0]) // max(1, len(ordered) - 1)
        return ordered, ordered[-1] + max(1, self._latest_duration or usual)

    def _add(self, packet: Packet[VideoStream]) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or (self.times and time < self.times[0]):
            # One without a time is shown with another; one before the first key frame depends on a picture not there.
            return
        if not self.times or time >= self._latest:
            self._latest, self._latest_duration = time, packet.duration or 0
        self.times.append(time)

    def _refuse(self, most: int) -> NoReturn:
        raise InputTooLarge(
            f"The video has more than {most:,} frames, {_MOST_FRAMES_A_SECOND} for each second of video_seconds.",
            mend="Send a shorter clip, or have the operator raise video_seconds.",
            limit="video_seconds",
            allowed=self.limits.video_seconds,
            found=f"more than {most} frames",
        )


class _Sampling:
    """One pass of decoding: gives out the wanted frames as they come by."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._wanted = list(reversed(clip.wanted))
        self._frames_seen = 0
        self._position = clip.start
        self._latest: VideoFrame | None = None

    def run(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        packets = 0
        for packet in self._packets(container, stream):
            packets += packet.size > 0
            if packet.size and packets <= self._clip.leading:
                continue
            for frame in self._decode(stream, packet):
                if self._take(frame):
                    yield self._second(), _upright(frame)
                if not self._wanted:
                    return
        if self._frames_seen == 0 or self._behind() > self._empty_tail():
            self._fail("there are no more pictures")
        if self._latest is not None:
            yield self._second(), _upright(self._latest)

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        try:
            yield from container.demux(stream)
        except av.FFmpegError as error:
            self._fail("its packets cannot be read further", error)

    def _decode(self, stream: VideoStream, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if packet.is_corrupt:
            self._fail("a packet is incomplete")
        try:
            frames = stream.decode(packet)
        except av.FFmpegError as error:
            self._refuse_growth(stream, error)
            self._fail("a picture cannot be decoded", error)
        return frames

    def _refuse_growth(self, stream: VideoStream, error: av.FFmpegError) -> None:
        """Raise `InputTooLarge` when the decoder gave up because a frame is larger than it may be."""
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_size(width, height, self._clip.limits)
        # libav forgets the size it refuses; libdav1d and the older decoders of libav say so by their error.
        if width == 0 or error.errno in (errno.ENOMEM, errno.ERANGE):
            allowed = self._clip.limits.video_pixels
            raise InputTooLarge(
                f"The video grows at second {self._second():.2f} beyond the {allowed:,} pixels of video_pixels.",
                mend="Send a smaller one, or have the operator raise video_pixels.",
                limit="video_pixels",
                allowed=allowed,
                found=f"more than {allowed}",
            ) from error

    def _take(self, frame: VideoFrame) -> bool:
        _check_size(frame.width, frame.height, self._clip.limits)
        if frame.pts is not None:
            self._position = frame.pts
        self._frames_seen += 1
        self._latest = frame
        taken = False
        while self._wanted and self._wanted[-1] <= self._position:
            self._wanted.pop()
            taken = True
        if taken:
            self._latest = None
        return taken

    def _second(self) -> float:
        return max(0.0, float((self._position - self._clip.start) * self._clip.unit))

    def _empty_tail(self) -> float:
        return max(self._clip.frame_seconds, min(_EMPTY_TAIL_SECONDS, _EMPTY_TAIL_SHARE * self._clip.seconds))

    def _behind(self) -> float:
        return float((self._wanted[0] - self._position) * self._clip.unit)

    def _fail(self, reason: str, error: Exception | None = None) -> NoReturn:
        raise UnreadableInput(
            f"The video is corrupt at second {self._second():.2f} of {self._clip.seconds:.2f}: {reason}.",
            mend="Send a clip that plays to its end.",
            second=round(self._second(), 3),
        ) from error


def _container(file: BinaryIO, video_format: VideoFormat, limits: InputLimits) -> InputContainer:
    file.seek(0)
    try:
        return av.open(
            file,
            mode="r",
            format=_DEMUXERS[video_format],
            options={"max_pixels": str(_decoder_pixels(limits)), "threads": "1"},
            container_options={"protocol_whitelist": "none", "format_whitelist": _WHITELISTS[video_format]},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise UnreadableInput(
            f"The {video_format.upper()} cannot be opened; it is truncated or corrupt.", mend="Send the whole file."
        ) from error


_WHITELISTS: dict[VideoFormat, str] = {
    "mp4": "mov,mp4,m4a,3gp,3g2,mj2",
    "mov": "mov,mp4,m4a,3gp,3g2,mj2",
    "webm": "matroska,webm",
    "avi": "avi",
}


def _video_stream(container: InputContainer, limits: InputLimits) -> VideoStream:
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise UnreadableInput("There is no video stream in the file.", mend="Send a clip with pictures in it.")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in moving else moving[0]
    context = stream.codec_context
    # No decoder at all leaves the stream without a context, whatever its annotation says.
    name = getattr(context, "codec", None) and context.codec.canonical_name
    if name not in _CODECS:
        raise UnsupportedInput(
            f"The video is coded as {name or 'something unknown'}; taken are {', '.join(sorted(_CODECS))}.",
            mend="Convert it to H.264 in MP4.",
            found=name or None,
        )
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    context.thread_count = 1
    context.options = {"max_pixels": str(_decoder_pixels(limits))}
    return stream


def _decoder_pixels(limits: InputLimits) -> int:
    """What the decoder may allocate for; some count the edges they add, so the exact check is of the frame itself."""
    return 2 * limits.video_pixels + 65_536


def _check_size(width: int, height: int, limits: InputLimits) -> None:
    check_limit("video_pixels", limits.video_pixels, width * height, "pixels a frame")


def _evenly(positions: list[int], end: int, count: int) -> tuple[int, ...]:
    """Positions of the frames shown at the middles of `count` equal parts, each once."""
    start = positions[0]
    middles = (start + Fraction((2 * part + 1) * (end - start), 2 * count) for part in range(count))
    chosen = {positions[bisect_right(positions, middle) - 1] for middle in middles}
    return tuple(sorted(chosen))


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """Pixels of a frame, turned and mirrored as its display matrix says (ISO/IEC 14496-12, section 6.2.2)."""
    rgb = np.asarray(frame.to_ndarray(format="rgb24", threads=1), dtype=np.uint8)
    matrix = _display_matrix(frame)
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    if a < 0:
        rgb = rgb[:, ::-1]
    if d < 0:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    for side_data in cast("Iterable[SideData]", frame.side_data):
        if side_data.type is SideDataType.DISPLAYMATRIX:
            a, b, _, c, d = struct.unpack_from("=5i", bytes(side_data))
            return a, b, c, d
    return None
