"""The one entrance for inputs: untrusted content in, a tensor and the facts that are kept out.

Invariants:

- The same bytes give bit-identical tensors, whether they come as bytes or as a path.
- The type is the content's; a name or a declared type is never asked.
- Byte limits are checked before content is read, pixel and time limits before it is decoded; each refusal names its
  setting.
- Facts hold a digest, sizes and positions, never content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.core.errors import NoFaceFound, UnsupportedInput
from discern.core.verdict import FaceBox, InputFacts
from discern.inputs.faces import Box, FaceLocator, FaceParts, crop_square, cut_parts
from discern.inputs.image import decode_image
from discern.inputs.record import prepare_record
from discern.inputs.sketches import sketch_of
from discern.inputs.sniffing import ImageFormat, VideoFormat, sniff
from discern.inputs.source import Source, check_limit, opened
from discern.inputs.spec import ImageSpec, RecordSpec, VideoSpec
from discern.inputs.types import InputLimits, MediaContent, Prepared
from discern.inputs.video import survey


def prepare_media(
    content: MediaContent,
    spec: ImageSpec,
    video: VideoSpec | None,
    limits: InputLimits,
    locator: FaceLocator,
    frames: Sequence[int] | None = None,
    *,
    sketched: bool = True,
) -> Prepared:
    """An image, or the sampled frames of a video, as uint8 [rows, height, width, 3] RGB.

    Each row is cropped as `spec` says; for a video each frame on its own face. Where `spec.no_face` is "refuse", frames
    without a face are left out, and their times said in `unknown_seconds`. Of a video `frames` are taken by their
    numbers, without it as `video` says. With `sketched` an image has a sketch.

    Raises `EmptyInput`, `UnsupportedInput` (also for a video without a `video` section), `UnreadableInput`,
    `InputTooLarge` and `NoFaceFound`.
    """
    with opened(content) as source:
        sniffed = sniff(source.head)
        if sniffed.kind == "image":
            return _image(source, sniffed.format, spec, limits, locator, sketched=sketched)
        if video is None:
            raise UnsupportedInput(
                f"The input is a video ({sniffed.format.upper()}); this detector takes images only.",
                mend="Send one frame as an image, or use a detector whose manifest has a video section.",
                found=sniffed.format,
            )
        return _video(source, sniffed.format, spec, video, limits, locator, frames)


def prepare_record_input(record: Mapping[str, object], spec: RecordSpec, limits: InputLimits | None = None) -> Prepared:
    """A record as float32 [1, fields]; its digest and bytes are of its canonical JSON.

    Canonical JSON is what msgspec writes with sorted keys and without nulls: no spaces, UTF-8, the shortest digits of a
    number. Raises `InvalidRecord`, and `InputTooLarge` for a record whose JSON has more than `limits.record_bytes`
    (checked only where limits are given).
    """
    tensor = prepare_record(record, spec)
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in record.items()
        if value is not None
    }
    encoded = msgspec.json.encode(plain, order="sorted")
    if limits is not None:
        check_limit("record_bytes", limits.record_bytes, len(encoded), "bytes")
    digest = hashlib.sha256(encoded).hexdigest()
    return Prepared(tensor=tensor, facts=InputFacts(kind="record", sha256=digest, bytes=len(encoded)))


def _image(
    source: Source,
    image_format: ImageFormat,
    spec: ImageSpec,
    limits: InputLimits,
    locator: FaceLocator,
    *,
    sketched: bool,
) -> Prepared:
    source.check_bytes("image_bytes", limits.image_bytes)
    content = source.read()
    rgb = decode_image(content, image_format, limits)
    face = _located(rgb, spec, locator)
    box = face.face if isinstance(face, FaceParts) else face
    if _of_a_face(spec) and face is None and spec.no_face == "refuse":
        raise NoFaceFound("No face was found in the image.", mend="Send a picture that shows a face from the front.")
    height, width = rgb.shape[:2]
    facts = InputFacts(
        kind="image",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        format=image_format,
        width=width,
        height=height,
        face=_face(spec, found=face is not None),
        face_box=None if box is None else FaceBox(left=box.left, top=box.top, width=box.width, height=box.height),
        face_locator=locator.name if _of_a_face(spec) else None,
    )
    cropped = _cropped(rgb, face, spec)
    return Prepared(tensor=cropped[np.newaxis], facts=facts, sketch=sketch_of(cropped) if sketched else None)


def _video(
    source: Source,
    video_format: VideoFormat,
    spec: ImageSpec,
    video: VideoSpec,
    limits: InputLimits,
    locator: FaceLocator,
    named: Sequence[int] | None,
) -> Prepared:
    source.check_bytes("video_bytes", limits.video_bytes)
    digest = source.sha256()
    clip = survey(source.file, source.size, video_format, video.frames, limits, named)
    rows: list[NDArray[np.uint8]] = []
    seconds: list[float] = []
    unknown: list[float] = []
    width = height = sampled = faces = 0
    for second, rgb in clip.frames():
        sampled += 1
        if sampled == 1:
            height, width = rgb.shape[:2]
        face = _located(rgb, spec, locator)
        faces += face is not None
        if _of_a_face(spec) and face is None and spec.no_face == "refuse":
            unknown.append(second)
            continue
        rows.append(_cropped(rgb, face, spec))
        seconds.append(second)
    if not rows:
        raise NoFaceFound(
            f"No face was found in any of the {sampled} sampled frames.",
            mend="Send a clip that shows a face from the front.",
            frames=sampled,
        )
    facts = InputFacts(
        kind="video",
        sha256=digest,
        bytes=source.size,
        format=video_format,
        width=width,
        height=height,
        seconds=clip.seconds,
        frames=len(rows),
        face=_face(spec, found=faces > 0),
        face_locator=locator.name if _of_a_face(spec) else None,
        frames_without_face=sampled - faces if _of_a_face(spec) else None,
    )
    return Prepared(tensor=np.stack(rows), facts=facts, seconds=tuple(seconds), unknown_seconds=tuple(unknown))


def _of_a_face(spec: ImageSpec) -> bool:
    return spec.crop in {"face", "eyes_and_mouth"}


def _located(rgb: NDArray[np.uint8], spec: ImageSpec, locator: FaceLocator) -> Box | FaceParts | None:
    if spec.crop == "eyes_and_mouth":
        return locator.locate_parts(rgb)
    return locator.locate(rgb) if spec.crop == "face" else None


def _cropped(rgb: NDArray[np.uint8], face: Box | FaceParts | None, spec: ImageSpec) -> NDArray[np.uint8]:
    if isinstance(face, FaceParts):
        return cut_parts(rgb, face, side=spec.height)
    if spec.crop != "none":
        return crop_square(rgb, face, margin=spec.face_margin, width=spec.width, height=spec.height)
    rows, columns = rgb.shape[:2]
    if (rows, columns) == (spec.height, spec.width):
        return rgb
    shrinking = spec.width * spec.height < rows * columns
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cast("NDArray[np.uint8]", cv2.resize(rgb, (spec.width, spec.height), interpolation=interpolation))


def _face(spec: ImageSpec, *, found: bool) -> Literal["found", "not_found"] | None:
    if not _of_a_face(spec):
        return None
    return "found" if found else "not_found"
