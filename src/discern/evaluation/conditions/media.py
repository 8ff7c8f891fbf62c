"""A picture or a clip under a condition: bytes in, other bytes out.

- What is drawn follows from the item's digest, the condition, the strength and the seed of the run alone.
- What is written holds pixels and times only. Conditions that are not compression are written without loss.
- Of a clip at most `MOST_FRAMES` frames, evenly spaced, are taken along, or those that its dataset names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from discern.core.errors import CallerError
from discern.evaluation.conditions import encodings, pictures
from discern.inputs.image import decode_image
from discern.inputs.sniffing import sniff
from discern.inputs.source import opened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from discern.evaluation.conditions.encodings import Clip
    from discern.evaluation.conditions.registry import Condition
    from discern.inputs.types import InputLimits, MediaContent

    Pixels = NDArray[np.uint8]

MOST_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a place (x, y) of the original lies: (scale * x + offset, scale * y + offset)."""

    scale: float = 1.0
    offset: int = 0

    def box(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return where a box (left, top, width, height) lies."""
        left, top, width, height = (value * self.scale for value in box)
        return (
            round(left) + self.offset,
            round(top) + self.offset,
            max(1, round(width)),
            max(1, round(height)),
        )


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A file under a condition, how far its picture has moved in it, and how many frames a clip has left."""

    content: bytes
    moved: Moved = Moved()
    frames: int = 0


def item_seed(sha256: str, condition: str, strength: int, seed: int) -> int:
    """Return the seed of one item under one condition."""
    return int.from_bytes(hashlib.sha256(f"{sha256} {condition} {strength} {seed}".encode()).digest()[:16], "big")


def corrupted(
    content: MediaContent,
    condition: Condition,
    strength: int,
    seed: int,
    limits: InputLimits,
    frames: Sequence[int] | None = None,
) -> Corrupted:
    """Return a picture or a clip under a condition; `seed` is the item's. Of a clip, `frames` name those to take.

    Raises CallerError for a strength that does not exist and for content that the condition does not take, and what
    decoding raises.
    """
    parameters = condition.parameters(strength)
    with opened(content) as source:
        sniffed = sniff(source.head)
        if sniffed.kind not in condition.takes:
            raise CallerError(
                f"{condition.name} takes {' and '.join(condition.takes)}, not {sniffed.kind}.", mend="Name another."
            )
        if sniffed.kind == "image":
            source.check_bytes("image_bytes", limits.image_bytes)
            return _picture(decode_image(source.read(), sniffed.format, limits), condition, parameters, seed)
    clip = encodings.decode_clip(content, limits, MOST_FRAMES, frames)
    if condition.name == "frame_drops":
        clip = encodings.kept(clip, _generator(seed).random(len(clip.frames)) >= parameters["share"])
    return replace(_clip(clip, condition, parameters, seed), frames=len(clip.frames))


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _picture(rgb: Pixels, condition: Condition, parameters: Mapping[str, float], seed: int) -> Corrupted:
    if condition.pixels is not None:
        return Corrupted(encodings.as_packed_png(condition.pixels(rgb, _generator(seed), **parameters)))
    match condition.name:
        case "jpeg":
            return Corrupted(encodings.as_jpeg(rgb, int(parameters["quality"])))
        case "h264":
            return Corrupted(encodings.as_packed_png(encodings.through_h264(rgb, int(parameters["crf"]))))
        case "social_media":
            shared = _within(rgb, int(parameters["longest"]))
            content = encodings.as_jpeg(shared, int(parameters["quality"]))
            for _ in range(1, int(parameters["times"])):
                content = encodings.as_jpeg(encodings.from_jpeg(content), int(parameters["quality"]))
            return Corrupted(content, Moved(shared.shape[1] / rgb.shape[1]))
        case _:
            framed, margin = _screenshot(rgb, parameters, seed)
            return Corrupted(encodings.as_packed_png(framed), Moved(offset=margin))


def _clip(clip: Clip, condition: Condition, parameters: Mapping[str, float], seed: int) -> Corrupted:
    pixels = condition.pixels
    if pixels is not None:
        moving = _generator(seed)
        hurt = encodings.changed(
            clip, lambda rgb: pixels(rgb, moving if condition.each_frame else _generator(seed), **parameters)
        )
        return Corrupted(encodings.lossless_mp4(hurt))
    match condition.name:
        case "jpeg":
            quality = int(parameters["quality"])
            again = encodings.changed(clip, lambda rgb: encodings.from_jpeg(encodings.as_jpeg(rgb, quality)))
            return Corrupted(encodings.lossless_mp4(again))
        case "h264":
            return Corrupted(encodings.as_mp4(clip, {"crf": str(int(parameters["crf"])), "preset": "medium"}))
        case "social_media":
            return _shared_clip(clip, parameters)
        case "frame_drops":
            return Corrupted(encodings.lossless_mp4(clip))
        case _:
            margin = _screenshot(clip.frames[0], parameters, seed)[1]
            shot = encodings.changed(clip, lambda rgb: _screenshot(rgb, parameters, seed)[0])
            return Corrupted(encodings.lossless_mp4(shot), Moved(offset=margin))


def _shared_clip(clip: Clip, parameters: Mapping[str, float]) -> Corrupted:
    shared = encodings.changed(clip, lambda rgb: _within(rgb, int(parameters["longest"])))
    moved = Moved(shared.frames[0].shape[1] / clip.frames[0].shape[1])
    options = {"crf": str(int(parameters["crf"])), "preset": "medium"}
    content = encodings.as_mp4(shared, options)
    for _ in range(1, int(parameters["times"])):
        frames = tuple(encodings.frames_of(content))
        content = encodings.as_mp4(encodings.Clip(shared.seconds, frames), options)
    return Corrupted(content, moved)


def _within(rgb: Pixels, longest: int) -> Pixels:
    """Return the picture with no side longer than `longest`."""
    height, width = rgb.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return pictures.resized(rgb, max(1, round(width * scale)), max(1, round(height * scale)))


def _screenshot(rgb: Pixels, parameters: Mapping[str, float], seed: int) -> tuple[Pixels, int]:
    shown = pictures.photographed_screen(
        rgb, _generator(seed), scale=parameters["scale"], gamma=parameters["gamma"], moire=parameters["moire"]
    )
    return pictures.bordered(shown, parameters["border"])
