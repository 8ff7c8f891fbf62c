"""Video: a few evenly spaced frames, in order, whatever the file says of itself."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from discern.core.errors import InputTooLarge, UnreadableInput, UnsupportedInput
from discern.inputs.types import InputLimits
from discern.inputs.video import sample_frames
from tests.inputs import media

LIMITS = InputLimits()
CONTAINERS = ["mp4", "mov", "webm", "avi"]


def sampled(
    content: bytes | Path, count: int, limits: InputLimits = LIMITS
) -> list[tuple[float, int, tuple[int, ...]]]:
    """Seconds, number of the frame by its brightness, and shape."""
    return [
        (round(seconds, 2), round(float(rgb[20:, 20:].mean()) / 4), rgb.shape)
        for seconds, rgb in sample_frames(content, count, limits)
    ]


@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_are_evenly_spaced_and_in_order(container: str) -> None:
    frames = sampled(media.clip(container, media.grey_frames(50)), 5)
    assert [seconds for seconds, _, _ in frames] == [0.2, 0.6, 1.0, 1.4, 1.8]
    assert [abs(number - 25 * seconds) <= 1 for seconds, number, _ in frames] == [True] * 5
    assert all(shape == (48, 64, 3) for _, _, shape in frames)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("webm", "libvpx-vp9"), ("webm", "libsvtav1"), ("avi", "mpeg4"), ("mp4", "libx265"), ("mov", "libx264")],
)
def test_other_codecs(container: str, codec: str) -> None:
    assert len(sampled(media.clip(container, media.grey_frames(20), codec=codec), 4)) == 4


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_clip_of_one_frame_gives_one_row(container: str) -> None:
    frames = sampled(media.clip(container, media.grey_frames(1)), 16)
    assert [(seconds, shape) for seconds, _, shape in frames] == [(0.0, (48, 64, 3))]


def test_a_clip_of_fewer_frames_than_asked_gives_each_once() -> None:
    assert [number for _, number, _ in sampled(media.clip("avi", media.grey_frames(7)), 16)] == list(range(7))


def test_samples_are_even_in_play_time_not_in_frame_numbers() -> None:
    times = [*range(10), *range(100, 200, 10)]
    frames = sampled(media.clip("mp4", media.grey_frames(20), times=times), 4)
    assert [(seconds, number) for seconds, number, _ in frames] == [(0.36, 9), (4.4, 11), (6.4, 16)]


def test_path_and_bytes_give_the_same_frames(tmp_path: Path) -> None:
    content = media.clip("mp4")
    one = list(sample_frames(content, 6, LIMITS))
    other = list(sample_frames(media.in_file(tmp_path, content), 6, LIMITS))
    assert [seconds for seconds, _ in one] == [seconds for seconds, _ in other]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


def test_frames_keep_their_pixels_after_the_next_is_decoded() -> None:
    kept = [rgb for _, rgb in sample_frames(media.clip("avi"), 5, LIMITS)]
    again = [rgb.copy() for _, rgb in sample_frames(media.clip("avi"), 5, LIMITS)]
    assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))


def _quarters(seconds_of_clip: int = 3) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    return [np.asarray(media.picture(64, 48)) for _ in range(seconds_of_clip)]


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (-90, -1), (90, 1), (180, 2)])
def test_rotation_of_the_display_matrix_is_honoured(rotation: int, turns: int) -> None:
    content = media.clip("mp4", _quarters(), rotation=rotation)
    (_, rgb), *_ = sample_frames(content, 1, LIMITS)
    expected = np.rot90(np.asarray(media.picture(64, 48)), turns)
    assert rgb.shape == expected.shape
    assert np.abs(rgb[4:-4:8, 4:-4:8].astype(int) - expected[4:-4:8, 4:-4:8]).mean() < 12


def test_mirroring_of_the_display_matrix_is_honoured() -> None:
    content = media.clip("mp4", _quarters(), rotation=0)
    at = content.index(b"tkhd") + 44
    matrix = struct.pack(">9i", -(1 << 16), 0, 0, 0, 1 << 16, 0, 64 << 16, 0, 1 << 30)
    (_, rgb), *_ = sample_frames(content[:at] + matrix + content[at + 36 :], 1, LIMITS)
    expected = np.asarray(media.picture(64, 48))[:, ::-1]
    assert np.abs(rgb[4:-4:8, 4:-4:8].astype(int) - expected[4:-4:8, 4:-4:8]).mean() < 12


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_no_video_stream_is_said(container: str) -> None:
    with pytest.raises(UnreadableInput, match="no video stream"):
        sampled(media.sound(container), 4)


def test_a_cover_picture_is_no_video_stream() -> None:
    content = media.sound("mp4", cover=True)
    with pytest.raises(UnreadableInput, match="no video stream"):
        sampled(content, 4)


def test_sound_beside_the_pictures_changes_nothing() -> None:
    frames = sampled(media.sound("mp4", pictures=20), 4)
    assert [number for _, number, _ in frames] == [2, 7, 12, 17]


def test_threads_sample_the_same_frames() -> None:
    content = media.clip("mp4", media.grey_frames(50))
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: [rgb for _, rgb in sample_frames(content, 5, LIMITS)], range(8)))
    assert all(np.array_equal(run, runs[0]) for run in runs)


def test_a_codec_nobody_sends_is_refused_by_name() -> None:
    content = media.clip("avi", codec="ffv1")
    with pytest.raises(UnsupportedInput, match="ffv1"):
        sampled(content, 4)


def test_an_image_is_not_sampled() -> None:
    with pytest.raises(UnsupportedInput, match="image"):
        sampled(media.encoded(media.picture(), "PNG"), 4)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.95])
def test_a_clip_that_is_cut_short_is_unreadable(container: str, share: float) -> None:
    content = media.clip(container, media.grey_frames(50))
    with pytest.raises(UnreadableInput, match=r"cut short|truncated"):
        sampled(content[: int(len(content) * share)], 5)


@pytest.mark.parametrize("options", [{"moov_size": "5000"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_an_mp4_with_its_index_first_does_not_hide_a_cut(options: dict[str, str]) -> None:
    content = media.clip("mp4", media.grey_frames(50), container_options=options)
    assert len(sampled(content, 5)) == 5
    with pytest.raises(UnreadableInput, match="cut short"):
        sampled(content[: int(len(content) * 0.8)], 5)


def test_a_cut_names_its_second() -> None:
    content = media.clip("avi", media.grey_frames(50, 160, 120))
    with pytest.raises(UnreadableInput, match=r"second 0\.\d\d") as caught:
        sampled(content[: len(content) // 2], 5)
    second = caught.value.facts["second"]
    assert isinstance(second, float)
    assert 0.2 < second < 1


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("noise", [False, True])
def test_damage_before_the_last_sample_is_unreadable_with_its_second(container: str, noise: bool) -> None:
    content = bytearray(media.clip(container, media.grey_frames(50, 160, 120)))
    start, length = len(content) // 3, len(content) // 6
    damage = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes() if noise else bytes(length)
    content[start : start + length] = damage
    with pytest.raises(UnreadableInput, match="corrupt at second") as caught:
        sampled(bytes(content), 5)
    assert caught.value.mend


def test_declared_durations_and_counts_are_not_believed() -> None:
    content = bytearray(media.clip("mp4", media.grey_frames(25)))
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        at = content.index(box)
        content[at + offset : at + offset + 4] = struct.pack(">I", 4_000_000_000)
    assert [seconds for seconds, _, _ in sampled(bytes(content), 5)] == [0.08, 0.28, 0.48, 0.68, 0.88]


def test_a_live_recording_that_declares_no_lengths_is_taken() -> None:
    live = media.clip("webm", media.grey_frames(25), container_options={"live": "1"})
    assert len(sampled(live, 5)) == 5


def test_a_clip_that_begins_between_key_frames_is_taken_from_the_next() -> None:
    whole = media.clip("avi", media.grey_frames(40), codec="mpeg4")
    pictures = {rgb.tobytes() for _, rgb in sample_frames(whole, 40, LIMITS)}
    rows = [rgb.tobytes() for _, rgb in sample_frames(media.without_first_packets(whole, "avi", 5), 5, LIMITS)]
    assert len(rows) == 5
    assert set(rows) <= pictures


def test_more_seconds_than_allowed_are_refused_by_name() -> None:
    content = media.clip("mp4", media.grey_frames(50))
    with pytest.raises(InputTooLarge, match="video_seconds") as caught:
        sampled(content, 5, InputLimits(video_seconds=1.9))
    assert caught.value.facts == {"limit": "video_seconds", "allowed": 1.9, "found": 2.0}
    assert len(sampled(content, 5, InputLimits(video_seconds=2.0))) == 5


def test_more_frames_than_the_seconds_allow_are_refused() -> None:
    content = media.clip("mp4", media.grey_frames(100), rate=1000)
    with pytest.raises(InputTooLarge, match="more than 60 frames"):
        sampled(content, 5, InputLimits(video_seconds=1.0))


def test_more_bytes_than_allowed_are_refused_by_name(tmp_path: Path) -> None:
    path = media.in_file(tmp_path, media.clip("mp4"))
    with pytest.raises(InputTooLarge, match="video_bytes"):
        sampled(path, 5, InputLimits(video_bytes=100))


def test_frames_larger_than_allowed_are_refused_before_decoding() -> None:
    with pytest.raises(InputTooLarge, match="video_pixels") as caught:
        sampled(media.clip("mp4"), 5, InputLimits(video_pixels=64 * 48 - 1))
    assert caught.value.facts == {"limit": "video_pixels", "allowed": 3071, "found": 3072}


GROWING = [
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("webm", "libsvtav1"),
    ("avi", "mjpeg"),
    ("avi", "mpeg4"),
    ("avi", "libx264"),
]


@pytest.mark.parametrize(("container", "codec"), GROWING)
@pytest.mark.parametrize("large", [(128, 128), (640, 480)])
def test_frames_that_grow_in_mid_stream_are_refused(container: str, codec: str, large: tuple[int, int]) -> None:
    content = media.growing_clip(container, codec, (64, 64), large)
    with pytest.raises(InputTooLarge, match="video_pixels") as caught:
        sampled(content, 6, InputLimits(video_pixels=100 * 100))
    assert caught.value.facts["limit"] == "video_pixels"


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libsvtav1", "mjpeg", "mpeg4", "libx264", "libx265"])
def test_frames_of_exactly_the_allowed_size_are_taken(codec: str) -> None:
    container = {"libvpx": "webm", "libvpx-vp9": "webm", "libsvtav1": "webm", "mjpeg": "avi"}.get(codec, "mp4")
    pixels = InputLimits(video_pixels=320 * 240)
    content = media.clip(container, media.grey_frames(5, 320, 240), codec=None if codec == "mjpeg" else codec)
    assert len(sampled(content, 5, pixels)) == 5


@pytest.mark.system
def test_a_frame_that_grows_is_never_allocated(tmp_path: Path) -> None:
    content = media.growing_clip("avi", "mjpeg", (64, 64), (6144, 6144), frames=1)
    path = media.in_file(tmp_path, content)
    done = subprocess.run(
        [sys.executable, "-c", _GROW, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 15_000 < 6144 * 6144 * 3 // 2 // 1024


_GROW = """
import re, sys
from pathlib import Path
from discern.core.errors import InputTooLarge
from discern.inputs.types import InputLimits
from discern.inputs.video import sample_frames

def peak():
    # Not ru_maxrss: a child inherits that of the process it was forked from.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
try:
    list(sample_frames(Path(sys.argv[1]), 16, InputLimits(video_pixels=100 * 100)))
except InputTooLarge:
    print(peak() - before)
"""


def _with_table(content: bytes, sample_bytes: int, samples: int) -> bytes:
    at = content.index(b"stsz") + 8
    return content[:at] + struct.pack(">II", sample_bytes, samples) + content[at + 8 :]


@pytest.mark.parametrize(("sample_bytes", "samples"), [(1, 150_000_000), (0, 150_000_000)])
def test_sample_tables_out_of_proportion_are_refused(sample_bytes: int, samples: int) -> None:
    with pytest.raises(UnreadableInput, match="index declares"):
        sampled(_with_table(media.clip("mp4"), sample_bytes, samples), 5)


def test_texts_that_contain_the_name_of_a_table_are_harmless() -> None:
    content = media.clip("mp4", media.grey_frames(5))
    text = b"a trunk of a tree, stszabcdefghijklmn, trunk road".ljust(60)
    assert len(sampled(content + struct.pack(">I4s", 8 + len(text), b"uuid") + text, 5)) == 5


@pytest.mark.parametrize(
    "playlist",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n%s\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '%s'\n",
        b'<?xml version="1.0"?><MPD><BaseURL>%s</BaseURL></MPD>',
    ],
)
def test_playlists_are_not_followed(playlist: bytes, tmp_path: Path) -> None:
    clip = media.in_file(tmp_path, media.clip("mp4"), "clip.mp4")
    with pytest.raises(UnsupportedInput):
        sampled(playlist % os.fsencode(clip), 5)
    # Dressed as a container it reaches libav, which tries the one demuxer it is told.
    for disguise in (b"\0\0\0\x10ftypisom\0\0\0\0", b"RIFF\x40\0\0\0AVI ", b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"):
        with pytest.raises(UnreadableInput):
            sampled(disguise + playlist % os.fsencode(clip), 5)


def _external_reference(folder: Path) -> bytes:
    """A MOV whose pictures stand in another file that its data reference names, as QuickTime aliases do."""
    content = media.clip("mov", media.grey_frames(10))
    media.in_file(folder, content, "other.mov")
    name = os.fsencode(folder / "other.mov")
    record = bytearray(150)
    record[10:38] = b"\x01v".ljust(28, b"\0")
    record[50:114] = b"\x09other.mov".ljust(64, b"\0")
    record[130:132] = struct.pack(">h", -1)
    items = struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    alias = b"\0\0\0\0" + bytes(record) + items
    alias_box = struct.pack(">I4s", 8 + len(alias), b"alis") + alias
    start = content.index(b"dref") - 4
    (old,) = struct.unpack_from(">I", content, start)
    new = struct.pack(">I4sII", 16 + len(alias_box), b"dref", 0, 1) + alias_box
    changed = bytearray(content[:start] + new + content[start + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = changed.rindex(box, 0, start) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", changed, at)[0] + len(new) - old)
    data = changed.index(b"mdat") + 4
    end = changed.index(b"moov") - 4
    changed[data:end] = bytes(end - data)
    return bytes(changed)


def test_references_to_other_files_are_not_followed(tmp_path: Path) -> None:
    content = _external_reference(tmp_path)
    path = media.in_file(tmp_path, content, "reference.mov")
    follow = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), format="mov", options=follow) as container:
        assert len(list(container.decode(video=0))) == 10
    for source in (content, path):
        with pytest.raises(UnreadableInput):
            sampled(source, 5)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    content = media.clip("mp4", media.grey_frames(50, 160, 120))
    capfd.readouterr()
    damaged = bytearray(content)
    damaged[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    for broken in (bytes(damaged), content[: len(content) // 2], content):
        try:
            sampled(broken, 3)
        except UnreadableInput:
            continue
    assert capfd.readouterr() == ("", "")


_MEASURE = """
import re, sys
from pathlib import Path
from discern.inputs.types import InputLimits
from discern.inputs.video import sample_frames

def peak():
    # Not ru_maxrss: a child inherits that of the process it was forked from.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

list(sample_frames(Path(sys.argv[1]), 4, InputLimits()))
before = peak()
rows = list(sample_frames(Path(sys.argv[2]), 4, InputLimits()))
print(len(rows), peak() - before)
"""


@pytest.mark.system
def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    short = media.in_file(tmp_path, media.clip("avi", [frame] * 10), "short.avi")
    long = media.in_file(tmp_path, media.clip("avi", [frame] * 400), "long.avi")
    decoded_kilobytes = 400 * frame.nbytes // 1024
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(short), str(long)], capture_output=True, text=True, check=True, timeout=60
    )
    rows, grown_kilobytes = (int(value) for value in done.stdout.split())
    assert rows == 4
    assert grown_kilobytes < 30_000 < decoded_kilobytes / 5
