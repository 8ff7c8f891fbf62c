"""Finds the most prominent face of a picture, cuts a square around it, and says where its eyes and mouth are.

Invariants:

- Arrays that come in are never written to, and what goes out is a copy.
- A locator may be shared by any number of threads: OpenCV's classifiers are not thread-safe, so each thread
  builds its own on first use.
- Constructors read no file; a model that cannot be used is reported by the first `locate` of a thread.
- `crop_square` answers for every picture of at least one pixel and for every box, inside the picture or not, and
  a square that already has the wanted size is copied without resampling.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import cv2
import numpy as np

from discern.core.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CASCADE_SIDE = 240
_NETWORK_SIDE = 320
_PADDING = 0.4
_NETWORK_CONFIDENCE = 0.6
_PARTS_SIDE = 160
_PARTS_SMALLEST = 24
_EYE_SIDE = 0.36
_MOUTH_SIDE = 0.65


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; its corners may lie outside the picture."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class FaceParts:
    """A face with the squares around its eyes and mouth. `right_eye` is the person's own, the left one in a picture.

    Of a face that is seen from the side, both are the eye that shows.
    """

    face: Box
    right_eye: Box
    left_eye: Box
    mouth: Box


class FaceLocator(Protocol):
    """Anything that can say where a face is. `name` tells one way of looking from another in a verdict."""

    @property
    def name(self) -> str:
        """Short and stable; it changes where the boxes may."""
        ...

    def locate(self, rgb: NDArray[np.uint8]) -> Box | None:
        """Box in pixels of the most prominent face of an H x W x 3 RGB picture, or None when there is none."""
        ...

    def locate_parts(self, rgb: NDArray[np.uint8]) -> FaceParts | None:
        """Where the eyes and the mouth of that face are, seen from the front or the side; None when there is none."""
        ...


class _Pass(NamedTuple):
    """One search of the cascade: which classifier, on which gray levels, how fine and how sure."""

    classifier: str
    equalised: bool
    step: float
    neighbours: int


_PASSES = (
    _Pass("haarcascade_frontalface_alt2.xml", equalised=False, step=1.1, neighbours=3),
    _Pass("haarcascade_frontalface_default.xml", equalised=False, step=1.1, neighbours=3),
    _Pass("haarcascade_frontalface_default.xml", equalised=True, step=1.05, neighbours=2),
)


class _Pose(NamedTuple):
    """One search for a face with its parts: which classifier, mirrored or not, and where in its box the parts are.

    Each part is given by its centre as shares of the box.
    """

    classifier: str
    mirrored: bool
    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    mouth: tuple[float, float]


_FRONT = _Pose("haarcascade_frontalface_alt2.xml", False, (0.31, 0.41), (0.69, 0.41), (0.50, 0.80))
_SIDE = "haarcascade_profileface.xml"
# The classifier knows faces that look to the left of the picture; the near eye is the one that is always seen.
_POSES = (
    _FRONT,
    _Pose(_SIDE, True, (0.46, 0.43), (0.46, 0.43), (0.63, 0.79)),
    _Pose(_SIDE, False, (0.54, 0.43), (0.54, 0.43), (0.37, 0.79)),
)


class CascadeFaceLocator:
    """Frontal face cascades that come inside the OpenCV wheel (Viola and Jones, CVPR 2001).

    The picture is brought to 240 pixels on its longer side and padded by 40 % with replicated edges, because a
    cascade needs background around a face and misses close-ups without it. Three searches run until one finds
    a face: two classifiers, then the second again on equalised gray levels with fewer agreeing windows.
    """

    name = "opencv-cascade"

    def __init__(self) -> None:
        self._local = threading.local()

    def locate(self, rgb: NDArray[np.uint8]) -> Box | None:
        """Largest face that the first successful search finds; see `FaceLocator.locate`.

        Raises `InvalidSettings` when the installed OpenCV comes without the cascades.
        """
        small, scale, pad = _padded(rgb, _CASCADE_SIDE)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        smallest = max(24, round(0.25 * (max(gray.shape) - 2 * pad)))
        equalised = None
        for search in _PASSES:
            if search.equalised and equalised is None:
                equalised = cv2.equalizeHist(gray)
            boxes = self._classifier(search.classifier).detectMultiScale(
                equalised if search.equalised and equalised is not None else gray,
                scaleFactor=search.step,
                minNeighbors=search.neighbours,
                minSize=(smallest, smallest),
            )
            if len(boxes) > 0:
                left, top, width, height = (float(value) for value in max(boxes, key=_area))
                return _unscaled(left - pad, top - pad, width, height, scale)
        return None

    def locate_parts(self, rgb: NDArray[np.uint8]) -> FaceParts | None:
        """Parts of the largest face from the front, else from either side; see `FaceLocator.locate_parts`.

        The picture is brought to 160 pixels on its longer side, its gray levels equalised by parts; the head must stand
        whole in it. The parts are where they are in most faces, for what looks for open eyes finds no closed ones.
        Raises `InvalidSettings` when the installed OpenCV comes without the cascades.
        """
        rows, columns = rgb.shape[:2]
        scale = _PARTS_SIDE / max(rows, columns)
        small = _resized(rgb, max(1, round(columns * scale)), max(1, round(rows * scale)))
        gray = cv2.createCLAHE(2.0, (4, 4)).apply(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        for pose in _POSES:
            boxes = self._classifier(pose.classifier).detectMultiScale(
                cv2.flip(gray, 1) if pose.mirrored else gray,
                scaleFactor=1.1,
                minNeighbors=3,
                minSize=(_PARTS_SMALLEST, _PARTS_SMALLEST),
            )
            if len(boxes) > 0:
                left, top, width, height = (float(value) for value in max(boxes, key=_area))
                if pose.mirrored:
                    left = gray.shape[1] - left - width
                return _parts(_unscaled(left, top, width, height, scale), pose)
        return None

    def _classifier(self, name: str) -> cv2.CascadeClassifier:
        built: dict[str, cv2.CascadeClassifier] | None = getattr(self._local, "classifiers", None)
        if built is None:
            built = self._local.classifiers = {}
        if name not in built:
            model = Path(cv2.__file__).parent / "data" / name
            classifier = cv2.CascadeClassifier(str(model)) if model.is_file() else None
            if classifier is None or classifier.empty():
                raise InvalidSettings(
                    f"OpenCV {cv2.__version__} comes without {name}.",
                    mend="Install opencv-python-headless 4.x, or name a YuNet face model in the settings.",
                )
            built[name] = classifier
        return built[name]


class YuNetFaceLocator:
    """The YuNet network (Wu, Peng and Yu, Machine Intelligence Research 2023), from the operator's ONNX file."""

    def __init__(self, model_path: Path) -> None:
        self._model = model_path
        self._local = threading.local()

    @cached_property
    def name(self) -> str:
        """`yunet:` and the beginning of the model file's SHA-256."""
        try:
            return f"yunet:{hashlib.sha256(self._model.read_bytes()).hexdigest()[:12]}"
        except OSError as error:
            raise self._unusable() from error

    def locate(self, rgb: NDArray[np.uint8]) -> Box | None:
        """Face with the largest area weighted by the network's confidence; see `FaceLocator.locate`.

        Raises `InvalidSettings` when the model file is missing or not a YuNet model.
        """
        found = self._most_prominent(rgb)
        return None if found is None else _box(*found)

    def locate_parts(self, rgb: NDArray[np.uint8]) -> FaceParts | None:
        """Parts of that face by the network's landmarks; see `FaceLocator.locate_parts`.

        Where the nose stands beyond an eye, the face is seen from the side and the other eye counts alone.
        """
        found = self._most_prominent(rgb)
        if found is None:
            return None
        values, scale = found
        box = _box(values, scale)
        points = [(values[at] / scale, values[at + 1] / scale) for at in range(4, 14, 2)]
        right, left, nose, *corners = points
        if nose[0] <= right[0]:
            right = left
        elif nose[0] >= left[0]:
            left = right
        mouth = sum(x for x, _ in corners) / 2, sum(y for _, y in corners) / 2
        return FaceParts(
            box,
            _square(right, _EYE_SIDE * box.width),
            _square(left, _EYE_SIDE * box.width),
            _square(mouth, _MOUTH_SIDE * box.width),
        )

    def _most_prominent(self, rgb: NDArray[np.uint8]) -> tuple[list[float], float] | None:
        """Box and five landmarks, ten numbers, of the face in pixels of the scaled picture; and the scale."""
        small, scale, pad = _padded(rgb, _NETWORK_SIDE)
        height, width = small.shape[:2]
        detector = self._detector()
        try:
            detector.setInputSize((width, height))
            _, faces = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise self._unusable() from error
        if faces is None or len(faces) == 0:
            return None
        best = max(faces, key=lambda face: _area(face) * float(face[14]))
        values = [float(value) for value in best[:14]]
        moved = [value if at in {2, 3} else value - pad for at, value in enumerate(values)]
        return moved, scale

    def _detector(self) -> cv2.FaceDetectorYN:
        built: cv2.FaceDetectorYN | None = getattr(self._local, "detector", None)
        if built is None:
            if not self._model.is_file():
                raise self._unusable()
            try:
                built = cv2.FaceDetectorYN.create(
                    str(self._model), "", (_NETWORK_SIDE, _NETWORK_SIDE), score_threshold=_NETWORK_CONFIDENCE
                )
            except cv2.error as error:
                raise self._unusable() from error
            self._local.detector = built
        return built

    def _unusable(self) -> InvalidSettings:
        return InvalidSettings(
            f"The face model {self._model} is missing or is not a YuNet model that OpenCV {cv2.__version__} can run.",
            mend="Name an ONNX file of YuNet, or remove the setting to use the cascade.",
            file=str(self._model),
        )


def face_locator(model: Path | None) -> FaceLocator:
    """YuNet on the operator's `model` file, or the cascade of the OpenCV wheel when there is none."""
    return CascadeFaceLocator() if model is None else YuNetFaceLocator(model)


def try_locator(locator: FaceLocator) -> None:
    """Raise `InvalidSettings` unless `locator` can be used: constructors read no file, so only a search tells."""
    locator.locate(np.zeros((64, 64, 3), np.uint8))


def crop_square(
    rgb: NDArray[np.uint8], box: Box | None, *, margin: float, width: int, height: int
) -> NDArray[np.uint8]:
    """Square around a face, resized to height x width x 3.

    The side is the box's longer side times (1 + 2 `margin`), at most the picture's shorter side; the square is
    centred on the box and shifted into the picture. With `box` None it is the largest centred square of the
    picture. Shrinking averages areas, growing interpolates linearly.

    Raises `ValueError` for an empty picture or target, or a negative margin.
    """
    rows, columns = rgb.shape[:2]
    if min(rows, columns, width, height) < 1 or margin < 0:
        raise ValueError("a crop needs a picture and a target of at least one pixel and a margin of 0 or more")
    side = min(rows, columns)
    centre_x, centre_y = columns / 2, rows / 2
    if box is not None:
        wanted = max(box.width, box.height, 1) * (1 + 2 * margin)
        side = max(1, min(side, round(wanted)))
        centre_x, centre_y = box.left + box.width / 2, box.top + box.height / 2
    left = min(max(round(centre_x - side / 2), 0), columns - side)
    top = min(max(round(centre_y - side / 2), 0), rows - side)
    return _resized(rgb[top : top + side, left : left + side], width, height)


def frontal_parts(face: Box) -> FaceParts:
    """Where the eyes and the mouth are in most faces that look into the camera."""
    return _parts(face, _FRONT)


def _parts(face: Box, pose: _Pose) -> FaceParts:
    def part(centre: tuple[float, float], share: float) -> Box:
        point = face.left + centre[0] * face.width, face.top + centre[1] * face.height
        return _square(point, share * face.width)

    return FaceParts(
        face, part(pose.right_eye, _EYE_SIDE), part(pose.left_eye, _EYE_SIDE), part(pose.mouth, _MOUTH_SIDE)
    )


def _square(centre: tuple[float, float], side: float) -> Box:
    whole = max(1, round(side))
    return Box(round(centre[0] - side / 2), round(centre[1] - side / 2), whole, whole)


def cut_parts(rgb: NDArray[np.uint8], parts: FaceParts, *, side: int) -> NDArray[np.uint8]:
    """Right eye, left eye and mouth beside each other, each `side` pixels square: uint8 [side, 3 side, 3].

    Where a square reaches beyond the picture, its edge is repeated.
    """
    tiles = [_resized(_cut(rgb, box), side, side) for box in (parts.right_eye, parts.left_eye, parts.mouth)]
    return np.concatenate(tiles, axis=1)


def _cut(rgb: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    rows, columns = rgb.shape[:2]
    if box.left >= 0 and box.top >= 0 and box.left + box.width <= columns and box.top + box.height <= rows:
        return rgb[box.top : box.top + box.height, box.left : box.left + box.width]
    down = np.clip(np.arange(box.top, box.top + box.height), 0, rows - 1)
    across = np.clip(np.arange(box.left, box.left + box.width), 0, columns - 1)
    return rgb[down[:, None], across]


def _area(box: Sequence[float]) -> float:
    return float(box[2]) * float(box[3])


def _padded(rgb: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float, int]:
    """Copy with `side` pixels on the longer side and replicated edges, its scale, and the padding in pixels."""
    rows, columns = rgb.shape[:2]
    scale = side / max(rows, columns)
    small = _resized(rgb, max(1, round(columns * scale)), max(1, round(rows * scale)))
    pad = round(_PADDING * side)
    padded = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    return cast("NDArray[np.uint8]", padded), scale, pad


def _box(values: Sequence[float], scale: float) -> Box:
    left, top, width, height = values[:4]
    return _unscaled(left, top, width, height, scale)


def _unscaled(left: float, top: float, width: float, height: float, scale: float) -> Box:
    return Box(
        left=round(left / scale),
        top=round(top / scale),
        width=max(1, round(width / scale)),
        height=max(1, round(height / scale)),
    )


def _resized(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Copy of the picture with the given size; no resampling when it has that size already."""
    rows, columns = rgb.shape[:2]
    if (rows, columns) == (height, width):
        return np.array(rgb, order="C")
    shrinking = width * height < rows * columns
    resized = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return cast("NDArray[np.uint8]", resized)
