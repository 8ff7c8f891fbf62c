"""No bytes raise anything but an error the caller can act on."""

from __future__ import annotations

import functools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discern.core.errors import CallerError, InvalidRecord
from discern.inputs.image import decode_image
from discern.inputs.prepare import prepare_media
from discern.inputs.record import prepare_record
from discern.inputs.sniffing import ImageFormat, sniff
from discern.inputs.spec import ImageSpec, VideoSpec
from discern.inputs.types import InputLimits
from tests.inputs import media
from tests.inputs.test_record import PAYMENT

LIMITS = InputLimits(image_pixels=1_000_000, video_pixels=1_000_000, video_seconds=60)
SPEC = ImageSpec(kind="image", width=16, height=16)
STARTS = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBPVP8X",
    b"RIFF\0\0\0\0AVI ",
    b"\0\0\0\x10ftypisom\0\0\0\0",
    b"\0\0\0\x14ftypqt  ",
    b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67",
]
FORMATS: list[ImageFormat] = ["jpeg", "png", "gif", "webp"]
quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def sources() -> list[bytes]:
    pictures = [
        media.encoded(media.picture(), name, **options)
        for name, options in (
            ("JPEG", {"exif": media.exif(6)}),
            ("JPEG", {"progressive": True}),
            ("PNG", {"exif": media.exif(3)}),
            ("GIF", {"save_all": True, "append_images": [media.picture()]}),
            ("WEBP", {"exif": media.exif(6)}),
            ("WEBP", {"lossless": True}),
        )
    ]
    clips = [media.clip(name, media.grey_frames(6)) for name in ("mp4", "mov", "webm", "avi")]
    fragmented = media.clip("mp4", media.grey_frames(6), container_options={"movflags": "frag_keyframe+empty_moov"})
    return [*pictures, *clips, fragmented]


def check_it_is_answered_or_refused(content: bytes) -> None:
    try:
        ready = prepare_media(content, SPEC, VideoSpec(frames=3, top=1), LIMITS, media.FixedLocator(None))
    except CallerError:
        return
    assert ready.tensor.shape[1:] == (16, 16, 3)
    assert len(ready.tensor) >= 1


@quick
@given(st.binary(max_size=400))
def test_random_bytes_are_answered_or_refused(content: bytes) -> None:
    check_it_is_answered_or_refused(content)


@quick
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_random_bytes_behind_a_known_beginning_are_answered_or_refused(start: bytes, rest: bytes) -> None:
    check_it_is_answered_or_refused(start + rest)


@settings(quick, max_examples=120)
@given(st.data())
def test_mutated_pictures_and_clips_are_answered_or_refused(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(sources())))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "repeat", "word"]))
        if kind == "byte":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "word":
            content[at : at + 4] = data.draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]))
        elif kind == "repeat":
            content[at:at] = content[at : at + 40]
        else:
            del content[at : at + data.draw(st.integers(1, 200))]
        if not content:
            break
    check_it_is_answered_or_refused(bytes(content))


@quick
@given(st.integers(0, 5), st.sampled_from(FORMATS))
def test_a_picture_taken_for_another_format(number: int, taken_for: ImageFormat) -> None:
    content = sources()[number]
    right = sniff(content).format == taken_for
    try:
        rgb = decode_image(content, taken_for, LIMITS)
    except CallerError:
        assert not right
        return
    assert right
    assert rgb.size == 40 * 30 * 3


texts = st.text("ab\0\n\x1b\u00e4\ud800\U0001f600'\"", max_size=12)
values = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.lists(st.none(), max_size=1)


@quick
@given(st.dictionaries(st.sampled_from(["amount", "hour", "abroad", "channel", "age"]) | texts, values))
def test_random_records(record: dict[str, object]) -> None:
    try:
        row = prepare_record(record, PAYMENT)
    except InvalidRecord:
        return
    assert row.shape == (1, 5)
