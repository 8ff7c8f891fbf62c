"""Pictures and clips under conditions."""

from __future__ import annotations

import io
import math
from itertools import pairwise
from statistics import fmean

import av
import numpy as np
import pytest

from discern.core.errors import CallerError
from discern.evaluation.conditions import pictures
from discern.evaluation.conditions.encodings import as_packed_png
from discern.evaluation.conditions.media import MOST_FRAMES, Moved, corrupted, item_seed
from discern.evaluation.conditions.registry import BY_NAME, CONDITIONS, STRENGTHS, Condition, named
from discern.inputs.video import sample_frames
from tests.evaluation.conditions.conftest import LIMITS, exif_jpeg, moving, pixels_of, png, scene

PICTURES = [condition for condition in CONDITIONS if "image" in condition.takes]
CLIPS = [condition for condition in CONDITIONS if "video" in condition.takes]


def under(content: bytes, condition: Condition, strength: int, seed: int = 7) -> bytes:
    return corrupted(content, condition, strength, seed, LIMITS).content


def distance(seed: int, condition: Condition, strength: int) -> float:
    """How near a picture is to what it was, in dB, in its own place and size."""
    before = scene(seed, 240, 320)
    hurt = corrupted(as_packed_png(before), condition, strength, seed, LIMITS)
    after, margin = pixels_of(hurt.content), hurt.moved.offset
    after = after[margin : after.shape[0] - margin, margin : after.shape[1] - margin]
    return pictures.peak_signal_to_noise(before, pictures.resized(after, before.shape[1], before.shape[0]))


@pytest.mark.parametrize("condition", PICTURES, ids=lambda one: one.name)
def test_a_higher_strength_is_further_from_the_picture_as_it_was(condition: Condition) -> None:
    near = [fmean(distance(seed, condition, strength) for seed in range(6)) for strength in STRENGTHS]
    assert all(weaker > stronger + 0.1 for weaker, stronger in pairwise(near)), near
    assert near[0] < 60


@pytest.mark.parametrize("condition", PICTURES, ids=lambda one: one.name)
def test_the_same_item_is_changed_alike_every_time_and_another_one_otherwise(condition: Condition) -> None:
    content = png()
    once = under(content, condition, 3, seed=1)
    assert under(content, condition, 3, seed=1) == once
    drawn = {"motion_blur", "noise", "low_light", "occlusion", "screenshot"}
    assert (under(content, condition, 3, seed=2) != once) == (condition.name in drawn)


@pytest.mark.parametrize("condition", [one for one in PICTURES if one.pixels], ids=lambda one: one.name)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (41, 7)])
def test_pixels_keep_their_size_and_what_was_given_stays_as_it_was(
    condition: Condition, shape: tuple[int, int]
) -> None:
    before = scene(3, *shape)
    before.flags.writeable = False
    kept = before.copy()
    assert condition.pixels is not None
    after = condition.pixels(before, np.random.default_rng(0), **condition.parameters(5))
    assert after.dtype == np.uint8
    assert after.shape == before.shape
    assert np.array_equal(before, kept)


@pytest.mark.parametrize("condition", PICTURES, ids=lambda one: one.name)
def test_a_picture_of_odd_sides_goes_through(condition: Condition) -> None:
    content = under(pixels_png(37, 51), condition, 5)
    height, width = pixels_of(content).shape[:2]
    assert (height, width) >= (37, 51)


def pixels_png(height: int, width: int) -> bytes:
    return as_packed_png(scene(2, height, width))


def test_what_is_shared_has_no_metadata_and_no_side_that_is_too_long() -> None:
    content = exif_jpeg()
    assert b"Camera of somebody" in content
    assert b"taken at home" in content
    shared = under(content, BY_NAME["social_media"], 1)
    assert b"Exif" not in shared
    assert b"taken at home" not in shared
    hurt = corrupted(pixels_png(100, 1440), BY_NAME["social_media"], 5, 0, LIMITS)
    assert pixels_of(hurt.content).shape == (50, 720, 3)
    assert hurt.moved == Moved(0.5)
    assert hurt.moved.box((100, 20, 40, 60)) == (50, 10, 20, 30)


def test_a_clip_that_is_shared_has_no_metadata() -> None:
    out = io.BytesIO()
    with av.open(io.BytesIO(moving()), mode="r") as given, av.open(out, "w", format="mp4") as container:
        container.metadata["comment"] = "taken at home"
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    assert b"taken at home" in out.getvalue()
    assert b"taken at home" not in under(out.getvalue(), BY_NAME["social_media"], 1)


@pytest.mark.parametrize("condition", CLIPS, ids=lambda one: one.name)
def test_a_clip_stays_a_clip_that_ends_when_it_ended(condition: Condition) -> None:
    content = moving()
    hurt = corrupted(content, condition, 2, 5, LIMITS)
    before = list(sample_frames(content, MOST_FRAMES, LIMITS))
    after = list(sample_frames(hurt.content, MOST_FRAMES, LIMITS))
    assert hurt.content == under(content, condition, 2, seed=5)
    if condition.name == "frame_drops":
        assert 1 <= len(after) < len(before)
        assert {second for second, _ in after} <= {second for second, _ in before}
    else:
        assert [second for second, _ in after] == pytest.approx([second for second, _ in before], abs=1e-3)
        assert not np.array_equal(after[3][1], before[3][1])


def test_a_box_stays_in_place_on_every_frame_and_noise_does_not() -> None:
    still = moving(level=90)
    boxes = [frame for _, frame in sample_frames(under(still, BY_NAME["occlusion"], 4), 4, LIMITS)]
    noise = [frame for _, frame in sample_frames(under(still, BY_NAME["noise"], 4), 4, LIMITS)]
    assert np.array_equal(boxes[0], boxes[-1])
    assert not np.array_equal(noise[0], noise[-1])


def test_more_frames_are_lost_at_a_higher_strength() -> None:
    left = [
        len(list(sample_frames(under(moving(frames=60), BY_NAME["frame_drops"], strength), 64, LIMITS)))
        for strength in STRENGTHS
    ]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == len(STRENGTHS)


@pytest.mark.parametrize("strength", [0, 6, -1])
def test_a_strength_that_does_not_exist_is_refused(strength: int) -> None:
    with pytest.raises(CallerError, match="has no strength"):
        under(png(), BY_NAME["blur"], strength)


def test_what_a_condition_does_not_take_is_refused() -> None:
    with pytest.raises(CallerError, match="frame_drops takes video"):
        under(png(), BY_NAME["frame_drops"], 1)
    with pytest.raises(CallerError):
        under(b"no picture at all", BY_NAME["blur"], 1)
    with pytest.raises(CallerError):
        under(png()[:2000], BY_NAME["blur"], 1)


def test_seeds_differ_by_item_condition_strength_and_run() -> None:
    seeds = {item_seed(*one) for one in [("a", "x", 1, 1), ("b", "x", 1, 1), ("a", "y", 1, 1), ("a", "x", 2, 1)]}
    assert len(seeds | {item_seed("a", "x", 1, 2)}) == 5


def test_conditions_are_named_in_one_order_and_unknown_ones_are_refused() -> None:
    assert named("none") == ()
    assert named("blur, jpeg") == ("jpeg", "blur")
    assert named("all")[-1] == "live_stream"
    for words in ("", "fog", "blur,fog"):
        with pytest.raises(CallerError):
            named(words)


def test_equal_pictures_are_infinitely_near() -> None:
    assert math.isinf(pictures.peak_signal_to_noise(scene(), scene()))
