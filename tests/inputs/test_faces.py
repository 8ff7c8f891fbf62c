"""Faces: found in drawn pictures, close-ups included, and cut without leaving the picture."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from discern.core.errors import InvalidSettings
from discern.inputs.faces import (
    Box,
    CascadeFaceLocator,
    FaceParts,
    YuNetFaceLocator,
    crop_square,
    cut_parts,
    face_locator,
    frontal_parts,
)

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


def holds(box: Box, point: tuple[float, float]) -> bool:
    return box.left < point[0] < box.left + box.width and box.top < point[1] < box.top + box.height


def test_eyes_and_mouth_are_where_they_were_drawn() -> None:
    parts = CascadeFaceLocator().locate_parts(drawn_face(400, (200, 200), 100))
    assert parts is not None
    assert holds(parts.right_eye, (164, 174))
    assert holds(parts.left_eye, (236, 174))
    assert holds(parts.mouth, (200, 258))
    assert parts.right_eye.left + parts.right_eye.width <= parts.left_eye.left + 10
    assert not holds(parts.mouth, (164, 174))


def test_a_small_face_off_the_middle_has_its_parts_too() -> None:
    picture = np.full((240, 320, 3), 120, np.uint8)
    picture[60:180, 170:290] = drawn_face(120, (60, 60), 36)
    parts = CascadeFaceLocator().locate_parts(picture)
    assert parts is not None
    assert holds(parts.mouth, (230, 141))


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (300, 200, 3)])
def test_a_picture_without_a_face_has_no_parts(shape: tuple[int, int, int]) -> None:
    assert CascadeFaceLocator().locate_parts(np.full(shape, 90, np.uint8)) is None


def test_parts_stand_beside_each_other_as_squares() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[20:30, 10:20], picture[20:30, 60:70], picture[60:80, 35:55] = (9, 0, 0), (0, 9, 0), (0, 0, 9)
    parts = FaceParts(Box(0, 0, 100, 100), Box(10, 20, 10, 10), Box(60, 20, 10, 10), Box(35, 60, 20, 20))
    tiles = cut_parts(picture, parts, side=16)
    assert tiles.shape == (16, 48, 3)
    assert [tiles[8, column].tolist() for column in (8, 24, 40)] == [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
    assert [int(tiles[:, start : start + 16].std(axis=(0, 1)).max()) for start in (0, 16, 32)] == [0, 0, 0]


@pytest.mark.parametrize("box", [Box(-40, -40, 30, 30), Box(90, 95, 30, 30), Box(-10, 40, 200, 200), Box(0, 0, 1, 1)])
def test_parts_beyond_the_picture_repeat_its_edge_and_nothing_is_written(box: Box) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    before = picture.copy()
    tiles = cut_parts(picture, frontal_parts(box), side=8)
    assert tiles.shape == (8, 24, 3)
    assert np.array_equal(picture, before)
    corner = cut_parts(picture, FaceParts(box, *[Box(-9, -9, 5, 5)] * 3), side=5)
    assert np.array_equal(corner, np.broadcast_to(picture[0, 0], (5, 15, 3)))


class Landmarks(YuNetFaceLocator):
    """YuNet as if its network had answered: the box, then right eye, left eye, nose and the corners of the mouth."""

    def __init__(self, nose: float) -> None:
        super().__init__(Path("nowhere.onnx"))
        self.nose = nose

    def _most_prominent(self, rgb: Picture) -> tuple[list[float], float] | None:
        return [20, 20, 50, 50, 30, 40, 60, 40, self.nose, 50, 35, 60, 55, 62], 0.5


def test_parts_by_landmarks_stand_round_them_and_of_a_turned_face_the_near_eye_counts_alone() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    front, right, left = (Landmarks(nose).locate_parts(picture) for nose in (45, 29, 61))
    assert front is not None
    assert right is not None
    assert left is not None
    assert (holds(front.right_eye, (60, 80)), holds(front.left_eye, (120, 80))) == (True, True)
    assert holds(front.mouth, (90, 122))
    assert right.right_eye == right.left_eye == front.left_eye
    assert left.right_eye == left.left_eye == front.right_eye
