"""Faces: found in drawn pictures, close-ups included, and cut without leaving the picture."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from discern.core.errors import InvalidSettings
from discern.inputs.faces import Box, CascadeFaceLocator, YuNetFaceLocator, crop_square, face_locator

Picture = NDArray[np.uint8]


def drawn_face(side: int, centre: tuple[int, int], radius: int) -> Picture:
    """A shaded oval with brows, eyes, nose and mouth: enough for the cascade, no person."""
    picture = np.full((side, side, 3), 120, np.uint8)
    x, y = centre
    r = radius / 100

    def oval(dx: float, dy: float, wide: float, high: float, shade: int) -> None:
        axes = (max(1, round(wide * r)), max(1, round(high * r)))
        cv2.ellipse(picture, (round(x + dx * r), round(y + dy * r)), axes, 0, 0, 360, (shade, shade, shade), -1)

    oval(0, 0, 82, 112, 205)
    for way in (-1, 1):
        oval(way * 36, -26, 26, 14, 110)
        oval(way * 36, -44, 26, 6, 60)
        oval(way * 36, -24, 15, 8, 40)
        oval(way * 10, 26, 5, 3, 110)
        oval(way * 45, 20, 18, 14, 220)
    oval(0, 5, 9, 26, 225)
    oval(0, 58, 32, 9, 90)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(0.8, 2.2 * r)), np.uint8)


def test_a_face_is_found_where_it_was_drawn() -> None:
    box = CascadeFaceLocator().locate(drawn_face(400, (180, 210), 100))
    assert box is not None
    assert abs(box.left + box.width / 2 - 180) < 30
    assert abs(box.top + box.height / 2 - 210) < 40
    assert 100 < box.width < 260


def test_a_close_up_that_fills_the_picture_is_found() -> None:
    box = CascadeFaceLocator().locate(drawn_face(256, (128, 128), 150))
    assert box is not None
    assert box.width > 180


def test_the_largest_face_is_the_prominent_one() -> None:
    picture = np.concatenate([drawn_face(400, (200, 200), 70), drawn_face(400, (200, 200), 130)], axis=1)
    box = CascadeFaceLocator().locate(picture)
    assert box is not None
    assert box.left + box.width / 2 > 400


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (300, 200, 3)])
def test_a_picture_without_a_face_gives_none(shape: tuple[int, int, int]) -> None:
    assert CascadeFaceLocator().locate(np.full(shape, 90, np.uint8)) is None


def test_one_locator_serves_many_threads_with_the_same_answer() -> None:
    locator = face_locator(None)
    picture = drawn_face(300, (150, 150), 90)
    with ThreadPoolExecutor(8) as pool:
        boxes = list(pool.map(lambda _: locator.locate(picture), range(24)))
    assert len(set(boxes)) == 1
    assert boxes[0] is not None


def test_a_missing_or_foreign_yunet_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    foreign = tmp_path / "face.onnx"
    foreign.write_bytes(b"not a network")
    for model in (tmp_path / "absent.onnx", foreign):
        locator = face_locator(model)
        assert isinstance(locator, YuNetFaceLocator)
        with pytest.raises(InvalidSettings, match=model.name):
            locator.locate(picture)


def gradient(rows: int, columns: int) -> Picture:
    picture = np.zeros((rows, columns, 3), np.uint8)
    picture[..., 0] = np.arange(columns) % 256
    picture[..., 1] = (np.arange(rows) % 256)[:, None]
    return picture


def test_a_crop_of_the_wanted_size_is_not_resampled() -> None:
    picture = gradient(200, 240)
    crop = crop_square(picture, Box(100, 80, 40, 40), margin=0.5, width=80, height=80)
    np.testing.assert_array_equal(crop, picture[60:140, 80:160])


def test_without_a_box_the_largest_centred_square_is_taken() -> None:
    picture = gradient(100, 160)
    crop = crop_square(picture, None, margin=0.3, width=100, height=100)
    np.testing.assert_array_equal(crop, picture[:, 30:130])


@pytest.mark.parametrize(
    ("box", "corner"),
    [(Box(-50, -50, 60, 60), (0, 0)), (Box(230, 190, 60, 60), (140, 180)), (Box(900, 900, 60, 60), (140, 180))],
)
def test_a_box_at_or_past_the_edge_is_shifted_into_the_picture(box: Box, corner: tuple[int, int]) -> None:
    picture = gradient(200, 240)
    crop = crop_square(picture, box, margin=0.0, width=60, height=60)
    top, left = corner
    np.testing.assert_array_equal(crop, picture[top : top + 60, left : left + 60])


@pytest.mark.parametrize("side", [1, 37, 224, 500])
def test_every_crop_has_the_asked_size_and_leaves_its_source_alone(side: int) -> None:
    picture = gradient(120, 90)
    before = picture.copy()
    crop = crop_square(picture, Box(10, 10, 400, 30), margin=0.6, width=side, height=side)
    assert crop.shape == (side, side, 3)
    assert crop.dtype == np.uint8
    crop[:] = 0
    np.testing.assert_array_equal(picture, before)


def test_an_empty_target_or_a_negative_margin_is_refused() -> None:
    picture = gradient(10, 10)
    with pytest.raises(ValueError, match="at least one pixel"):
        crop_square(picture, None, margin=0.1, width=0, height=10)
    with pytest.raises(ValueError, match="margin"):
        crop_square(picture, None, margin=-0.1, width=5, height=5)
