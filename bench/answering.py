"""What the way through Discern adds to decoding an input and running the model on it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.starting import start, wait_until_ready
from discern.app import BUILTIN, build_services
from discern.detectors.assessment import Assessment, Detector, load_detector
from discern.detectors.bundle import open_bundle
from discern.detectors.checks.samples import one_by_one
from discern.detectors.trust import TrustStore
from discern.inputs.faces import face_locator
from discern.inputs.prepare import prepare_media, prepare_record_input
from discern.inputs.spec import BooleanField, ImageSpec, RecordSpec
from discern.inputs.types import InputLimits
from discern.settings import load_settings

_TURNS = 15
_EACH = 10


@dataclass
class Samples:
    """Milliseconds of single questions."""

    over_http: list[float] = field(default_factory=list)
    in_process: list[float] = field(default_factory=list)


def compare(folder: Path) -> dict[str, Samples]:
    """Return, for an image and a record, the time over HTTP and the time of decode and model in this process."""
    home = folder / "answering-home"
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    secret = services.keys.issue("default", "bench").secret
    services.close()
    process, url = start(home)
    try:
        wait_until_ready(url)
        with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=60) as client:
            return {
                "image, 640x480 JPEG, `synthetic-face`": _image(client),
                "record, fifteen fields, `card-fraud`": _record(client),
            }
    finally:
        process.terminate()
        process.wait(timeout=30)


def cascade_against_last_stage(_folder: Path) -> tuple[float, float, float]:
    """Return milliseconds a row of the cascade and of all its stages, and the share the first stage decided."""
    detector = _detector("synthetic-face")
    spec = detector.manifest.input
    assert isinstance(spec, ImageSpec)
    pixels = np.random.default_rng(3).integers(0, 256, (32, spec.height, spec.width, 3)).astype(np.uint8)
    rows = one_by_one(pixels)
    everything = detector.without_exits()
    first = detector.manifest.stages[0].name
    ours: list[float] = []
    theirs: list[float] = []
    decided = 0.0
    for _ in range(7):
        ours.append(_milliseconds(lambda: detector.assess_many(rows)) / len(rows))
        theirs.append(_milliseconds(lambda: everything.assess_many(rows)) / len(rows))
        assessments = [one for one in detector.assess_many(rows) if isinstance(one, Assessment)]
        decided = sum(one.decided_by == first for one in assessments) / len(rows)
    return statistics.median(ours), statistics.median(theirs), decided


def _image(client: httpx2.Client) -> Samples:
    detector, locator, limits = _detector("synthetic-face"), face_locator(None), InputLimits()
    content, spec = _photo(), detector.manifest.input
    assert isinstance(spec, ImageSpec)
    return _in_turns(
        lambda: client.post("/v1/detectors/synthetic-face/verdicts", content=content).raise_for_status(),
        lambda: detector.assess(prepare_media(content, spec, detector.manifest.video, limits, locator)),
    )


def _record(client: httpx2.Client) -> Samples:
    detector = _detector("card-fraud")
    spec = detector.manifest.input
    assert isinstance(spec, RecordSpec)
    record: dict[str, Any] = {
        entry.name: False if isinstance(entry, BooleanField) else getattr(entry, "minimum", None) or 0
        for entry in spec.fields
    }
    body = json.dumps(record).encode()
    return _in_turns(
        lambda: client.post("/v1/detectors/card-fraud/verdicts", content=body).raise_for_status(),
        lambda: detector.assess(prepare_record_input(json.loads(body), spec)),
    )


def _in_turns(over_http: Callable[[], object], in_process: Callable[[], object]) -> Samples:
    samples = Samples()
    over_http()
    in_process()
    for _ in range(_TURNS):
        samples.over_http.extend(_milliseconds(over_http) for _ in range(_EACH))
        samples.in_process.extend(_milliseconds(in_process) for _ in range(_EACH))
    return samples


def _detector(name: str) -> Detector:
    return load_detector(open_bundle(BUILTIN / name, TrustStore((BUILTIN.parent / "keys",))), threads=1)


def _photo() -> bytes:
    """A smooth picture with a little noise, which compresses as a photograph does."""
    generator = np.random.default_rng(5)
    coarse = generator.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC), np.int16)
    noisy: NDArray[np.uint8] = np.clip(smooth + generator.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=85)
    return out.getvalue()


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000
