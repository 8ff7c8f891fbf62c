"""The one entrance: limits, crops and facts for every kind of input."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from discern.core.errors import EmptyInput, InputTooLarge, InvalidRecord, NoFaceFound, UnreadableInput, UnsupportedInput
from discern.core.verdict import FaceBox
from discern.inputs.faces import Box
from discern.inputs.prepare import prepare_media, prepare_record_input
from discern.inputs.spec import ImageSpec, RecordSpec, VideoSpec
from discern.inputs.types import InputLimits, MediaContent, Prepared
from tests.inputs import media
from tests.inputs.test_record import GOOD, PAYMENT

LIMITS = InputLimits()
FACE = Box(left=10, top=5, width=10, height=10)
VIDEO = VideoSpec(frames=4, top=2)


def image_spec(
    crop: Literal["face", "square", "none"] = "none", no_face: Literal["whole", "refuse"] = "refuse"
) -> ImageSpec:
    return ImageSpec(kind="image", width=16, height=16, crop=crop, face_margin=0, no_face=no_face)


def prepared(
    content: MediaContent,
    spec: ImageSpec | None = None,
    video: VideoSpec | None = None,
    limits: InputLimits = LIMITS,
    box: Box | None = None,
) -> Prepared:
    return prepare_media(content, spec or image_spec(), video, limits, media.FixedLocator(box))


def test_facts_of_an_image() -> None:
    content = media.encoded(media.picture(), "PNG")
    ready = prepared(content)
    assert ready.tensor.shape == (1, 16, 16, 3)
    assert ready.tensor.dtype == np.uint8
    assert ready.seconds == ()
    facts = ready.facts
    assert (facts.kind, facts.format, facts.width, facts.height) == ("image", "png", 40, 30)
    assert (facts.sha256, facts.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (facts.face, facts.face_box, facts.frames, facts.seconds) == (None, None, None, None)


def test_an_image_is_sketched_unless_nobody_asks_for_it() -> None:
    content = media.encoded(media.picture(), "PNG")
    plain = prepare_media(content, image_spec(), None, LIMITS, media.FixedLocator(None), sketched=False)
    ready = prepared(content)
    assert ready.sketch is not None
    assert plain.sketch is None
    assert (plain.facts, plain.tensor.tolist()) == (ready.facts, ready.tensor.tolist())


def test_width_and_height_are_of_the_upright_picture() -> None:
    facts = prepared(media.encoded(media.picture(), "JPEG", exif=media.exif(6))).facts
    assert (facts.width, facts.height) == (30, 40)


@pytest.mark.parametrize("crop", ["face", "square", "none"])
@pytest.mark.parametrize("kind", ["JPEG", "mp4"])
def test_path_and_bytes_give_bit_identical_tensors(
    crop: Literal["face", "square", "none"], kind: str, tmp_path: Path
) -> None:
    content = media.clip() if kind == "mp4" else media.encoded(media.picture(), kind)
    path = media.in_file(tmp_path, content, "misleading.txt")
    one = prepared(content, image_spec(crop), VIDEO, box=FACE)
    other = prepared(path, image_spec(crop), VIDEO, box=FACE)
    assert np.array_equal(one.tensor, other.tensor)
    assert one.facts == other.facts
    assert one.seconds == other.seconds


def test_crops_show_what_they_say() -> None:
    content = media.encoded(media.picture(), "PNG")
    whole = prepared(content, image_spec("none")).tensor
    assert whole[0, 1, 1].tolist() == [250, 10, 10]
    assert whole[0, 14, 14].tolist() == [128, 128, 128]
    face = prepared(content, image_spec("face"), box=Box(left=24, top=2, width=10, height=10)).tensor
    assert np.ptp(face.reshape(-1, 3), axis=0).max() == 0
    assert face[0, 8, 8].tolist() == [10, 250, 10]
    assert prepared(content, image_spec("square")).tensor.shape == (1, 16, 16, 3)


def test_a_picture_of_the_wanted_size_is_not_resampled() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = media.encoded(Image.fromarray(pixels), "PNG")
    assert np.array_equal(prepared(content).tensor[0], pixels)


def test_the_face_and_its_box_are_facts() -> None:
    facts = prepared(media.encoded(media.picture(), "PNG"), image_spec("face"), box=FACE).facts
    assert facts.face == "found"
    assert facts.face_box == FaceBox(left=10, top=5, width=10, height=10)


def test_no_face_is_refused_or_said() -> None:
    content = media.encoded(media.picture(), "PNG")
    with pytest.raises(NoFaceFound, match="No face"):
        prepared(content, image_spec("face", "refuse"))
    ready = prepared(content, image_spec("face", "whole"))
    assert ready.facts.face == "not_found"
    assert ready.facts.face_box is None
    assert np.array_equal(ready.tensor, prepared(content, image_spec("square")).tensor)


@pytest.mark.parametrize("crop", ["square", "none"])
def test_faces_are_looked_for_only_where_the_crop_wants_one(crop: Literal["square", "none"]) -> None:
    locator = media.FixedLocator(FACE)
    prepare_media(media.encoded(media.picture(), "PNG"), image_spec(crop), None, LIMITS, locator)
    assert locator.asked == 0


def test_facts_of_a_video() -> None:
    content = media.clip("mp4", media.grey_frames(50))
    ready = prepared(content, image_spec("square"), VIDEO)
    assert ready.tensor.shape == (4, 16, 16, 3)
    assert [round(second, 2) for second in ready.seconds] == [0.24, 0.72, 1.24, 1.72]
    facts = ready.facts
    assert (facts.kind, facts.format, facts.width, facts.height) == ("video", "mp4", 64, 48)
    assert (facts.seconds, facts.frames, facts.face) == (2.0, 4, None)
    assert (facts.sha256, facts.bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_frames_without_a_face_are_left_out_or_kept_whole() -> None:
    content = media.clip("mp4", media.grey_frames(50))
    refusing = prepare_media(content, image_spec("face", "refuse"), VIDEO, LIMITS, media.BrightLocator())
    assert refusing.facts.frames == len(refusing.seconds) == len(refusing.tensor) == 2
    assert refusing.facts.face == "found"
    assert refusing.tensor.mean(axis=(1, 2, 3)).min() > 100
    going_on = prepare_media(content, image_spec("face", "whole"), VIDEO, LIMITS, media.BrightLocator())
    assert (going_on.facts.frames, going_on.facts.face) == (4, "found")


def test_a_video_without_a_face_in_any_frame() -> None:
    content = media.clip("mp4")
    with pytest.raises(NoFaceFound, match="any of the 4 sampled frames"):
        prepared(content, image_spec("face", "refuse"), VIDEO)
    ready = prepared(content, image_spec("face", "whole"), VIDEO)
    assert (ready.facts.frames, ready.facts.face) == (4, "not_found")


def test_a_detector_of_images_refuses_video_by_saying_so() -> None:
    with pytest.raises(UnsupportedInput, match="takes images only"):
        prepared(media.clip("webm"))


def test_a_video_of_one_frame_and_one_without_pictures() -> None:
    ready = prepared(media.clip("mp4", media.grey_frames(1)), video=VIDEO)
    assert ready.tensor.shape == (1, 16, 16, 3)
    with pytest.raises(UnreadableInput, match="no video stream"):
        prepared(media.sound(), video=VIDEO)


@pytest.mark.parametrize(
    ("setting", "limits", "kind"),
    [
        ("image_bytes", InputLimits(image_bytes=50), "JPEG"),
        ("image_pixels", InputLimits(image_pixels=100), "JPEG"),
        ("video_bytes", InputLimits(video_bytes=50), "mp4"),
        ("video_seconds", InputLimits(video_seconds=0.5), "mp4"),
        ("video_pixels", InputLimits(video_pixels=100), "mp4"),
    ],
)
def test_each_limit_is_refused_by_its_name(setting: str, limits: InputLimits, kind: str, tmp_path: Path) -> None:
    content = media.clip() if kind == "mp4" else media.encoded(media.picture(), kind)
    for source in (content, media.in_file(tmp_path, content)):
        with pytest.raises(InputTooLarge, match=setting) as caught:
            prepared(source, video=VIDEO, limits=limits)
        assert caught.value.facts["limit"] == setting
        assert caught.value.mend is not None
        assert setting in caught.value.mend


def test_a_large_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = media.in_file(tmp_path, media.encoded(media.picture(), "JPEG"))
    os.truncate(path, 1 << 40)
    with pytest.raises(InputTooLarge, match="image_bytes"):
        prepared(path)


def test_nothing_is_refused_as_empty(tmp_path: Path) -> None:
    for source in (b"", media.in_file(tmp_path, b"")):
        with pytest.raises(EmptyInput):
            prepared(source)


def test_paths_that_are_no_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "absent", tmp_path, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(UnreadableInput):
            prepared(path)


def test_a_wrong_type_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedInput, match="PDF"):
        prepared(b"%PDF-1.4\n")


def test_a_record_has_the_digest_of_its_canonical_json() -> None:
    spec = RecordSpec.model_validate(
        {
            "kind": "record",
            "fields": [
                {"name": "b", "type": "number"},
                {"name": "a", "type": "category", "categories": ["ä", "o"]},
                {"name": "c", "type": "number", "missing": "nan"},
            ],
        }
    )
    ready = prepare_record_input({"b": 1.5, "a": "ä", "c": None}, spec)
    canonical = '{"a":"ä","b":1.5}'.encode()
    assert ready.facts.sha256 == hashlib.sha256(canonical).hexdigest()
    assert (ready.facts.kind, ready.facts.bytes) == ("record", len(canonical))
    assert prepare_record_input({"c": None, "a": "ä", "b": 1.5}, spec).facts == ready.facts
    assert ready.tensor[0, :2].tolist() == [1.5, 0]


def test_records_meet_their_faults_and_limit() -> None:
    assert prepare_record_input(GOOD, PAYMENT, LIMITS).tensor.shape == (1, 5)
    with pytest.raises(InvalidRecord, match="2 faults"):
        prepare_record_input(GOOD | {"amount": "12", "extra": 1}, PAYMENT)
    with pytest.raises(InputTooLarge, match="record_bytes"):
        prepare_record_input(GOOD, PAYMENT, InputLimits(record_bytes=10))


def test_numpy_values_are_written_as_plain_ones() -> None:
    assert (
        prepare_record_input(GOOD | {"amount": np.float64(12.5)}, PAYMENT).facts
        == prepare_record_input(GOOD, PAYMENT).facts
    )


PARTS = ImageSpec(kind="image", width=48, height=16, crop="eyes_and_mouth")


def test_eyes_and_mouth_are_one_picture_and_the_face_is_a_fact() -> None:
    ready = prepared(media.encoded(media.picture(), "PNG"), PARTS, box=FACE)
    assert ready.tensor.shape == (1, 16, 48, 3)
    assert (ready.facts.face, ready.facts.face_locator) == ("found", "fixed")
    assert ready.facts.face_box == FaceBox(left=10, top=5, width=10, height=10)
    with pytest.raises(NoFaceFound):
        prepared(media.encoded(media.picture(), "PNG"), PARTS)


def test_the_times_of_frames_without_a_face_are_kept() -> None:
    content = media.clip("mp4", media.grey_frames(50))
    ready = prepare_media(content, PARTS, VIDEO, LIMITS, media.BrightLocator())
    assert ready.tensor.shape == (2, 16, 48, 3)
    assert [round(second, 2) for second in ready.seconds] == [1.24, 1.72]
    assert [round(second, 2) for second in ready.unknown_seconds] == [0.24, 0.72]
    assert ready.facts.frames_without_face == 2
    whole = prepare_media(content, image_spec("face", "whole"), VIDEO, LIMITS, media.BrightLocator())
    assert whole.unknown_seconds == ()


@pytest.mark.parametrize("members", [{"width": 32}, {"width": 48, "no_face": "whole"}])
def test_parts_need_three_squares_and_a_face(members: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="crop eyes_and_mouth"):
        ImageSpec.model_validate({"kind": "image", "height": 16, "crop": "eyes_and_mouth"} | members)
