"""What the detector takes of one core, from the bytes of a frame to its scores, and for a window."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from discern.detectors.assessment import load_detector
from discern.detectors.bundle import open_bundle
from discern.detectors.packing import pack
from discern.detectors.timeline import Judge, Sample
from discern.inputs.faces import CascadeFaceLocator, cut_parts
from discern.inputs.image import decode_image
from discern.inputs.prepare import prepare_media
from discern.inputs.spec import ImageSpec
from discern.inputs.types import InputLimits
from recipes.driver_drowsiness.data import SIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from discern.detectors.assessment import Detector

_FRAMES_A_SECOND = 25


def detector_of(folder: Path, packed: Path) -> Detector:
    """The detector of a working folder, packed but not signed, on one thread."""
    pack(folder, packed)
    return load_detector(open_bundle(packed, None), threads=1)


def milliseconds(contents: Sequence[bytes], detector: Detector) -> dict[str, float]:
    """Mean time of each step over frames in which a face is found, and of whole frames over all, in CPU time."""
    cv2.setNumThreads(1)
    locator, limits, spec = CascadeFaceLocator(), InputLimits(), detector.manifest.input
    assert isinstance(spec, ImageSpec)
    pictures = [decode_image(content, "jpeg", limits) for content in contents]
    found = [(rgb, parts) for rgb in pictures if (parts := locator.locate_parts(rgb)) is not None]
    tiles = [cut_parts(rgb, parts, side=SIDE)[np.newaxis] for rgb, parts in found]
    prepared = [
        prepare_media(content, spec, None, limits, locator)
        for content, rgb in zip(contents, pictures, strict=True)
        if locator.locate_parts(rgb) is not None
    ]
    steps = {
        "decode": _mean([lambda c=content: decode_image(c, "jpeg", limits) for content in contents]),
        "find": _mean([lambda p=rgb: locator.locate_parts(p) for rgb in pictures]),
        "cut": _mean([lambda p=pair: cut_parts(*p, side=SIDE) for pair in found]),
        "stages": _mean([lambda p=one: detector.assess(p) for one in prepared]),
    }
    return steps | {"frame": sum(steps.values()), "rows": float(len(tiles))}


def window_milliseconds(detector: Detector, *, seed: int) -> float:
    """Time to judge one full window of frames at 25 a second, half of its scores high."""
    rule = detector.manifest.stream
    assert rule is not None
    scores = np.random.default_rng(seed).random((round(rule.window_seconds * _FRAMES_A_SECOND), 2))
    samples = [
        Sample(at / _FRAMES_A_SECOND, {"eyes": float(eyes), "mouth": float(mouth)})
        for at, (eyes, mouth) in enumerate(scores)
    ]
    judge = Judge(rule)
    return _mean([lambda: judge.judge(samples, 0.0, rule.window_seconds)] * 20)


def _mean(calls: Sequence[Callable[[], object]]) -> float:
    calls[0]()
    started = time.process_time()
    for call in calls:
        call()
    return (time.process_time() - started) * 1000 / len(calls)
