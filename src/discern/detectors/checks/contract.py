"""The promises, one function each.

- A check returns its evidence in one line, or raises CheckFailed (or any of our errors) with what it found instead.
- A check changes nothing: neither the bundle, nor the detector, nor the process.
- What is said about stages is tried with the early exits off, so that every stage answers for every sample.
"""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.errors import CallerError, DiscernError, InternalError
from discern.core.verdict import InputFacts
from discern.detectors.assessment import Assessment, load_detector
from discern.detectors.bundle import list_files
from discern.detectors.calibration import calibrator
from discern.detectors.checks import samples
from discern.detectors.checks.types import CheckFailed
from discern.detectors.manifest import MANIFEST_NAME, SIGNATURE_NAME
from discern.detectors.manifest_file import dump_manifest, parse_manifest
from discern.detectors.pooling import pool
from discern.detectors.thresholds import decide
from discern.detectors.timeline import TOO_LITTLE_KNOWN
from discern.inputs.faces import Box, FaceParts, frontal_parts
from discern.inputs.prepare import prepare_media, prepare_record_input
from discern.inputs.spec import ImageSpec, RecordSpec
from discern.inputs.types import InputLimits, Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from discern.core.verdict import StageReading, Thresholds
    from discern.detectors.assessment import Detector
    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Manifest, Stage

TOLERANCE = 1e-6
IMAGES = 4
RECORDS = 32
"""How many typical inputs are tried: an image may take tens of milliseconds, a record takes microseconds."""

THREADS = 8
LOWEST_TEMPERATURE = 0.1
HIGHEST_TEMPERATURE = 10.0
LEAST_RUNS = 4
MOST_RUNS = 200
MEMORY_SECONDS = 0.5
MEMORY_GROWTH = 32_000_000
MEMORY_ROUNDS = 3
"""Bytes the process may grow by over as many runs as take half a second (4 to 200), after as many to warm up."""


def check_manifest_round_trip(bundle: Bundle, _detector: Detector) -> str:
    """The manifest on disk is the one in use, and writing and reading it changes nothing."""
    content = (bundle.root / MANIFEST_NAME).read_bytes()
    if hashlib.sha256(content).hexdigest() != bundle.digest:
        raise CheckFailed(f"{MANIFEST_NAME} is not the file that was opened (its SHA-256 differs)")
    if parse_manifest(content) != bundle.manifest:
        raise CheckFailed(f"{MANIFEST_NAME} reads as another manifest than the one in use")
    again = parse_manifest(dump_manifest(bundle.manifest.model_dump(mode="json")))
    if again != bundle.manifest:
        keys = [key for key in type(again).model_fields if getattr(again, key) != getattr(bundle.manifest, key)]
        raise CheckFailed(f"writing and reading the manifest changes {', '.join(keys)}")
    return f"{len(content)} bytes, digest {bundle.digest[:12]}"


def check_files_match_digests(bundle: Bundle, _detector: Detector) -> str:
    """Every listed file is there with the bytes that its SHA-256 names, and nothing else is there."""
    for name, digest in bundle.manifest.files.items():
        if hashlib.sha256(bundle.read(name)).hexdigest() != digest:
            raise CheckFailed(f"{name} is not what the manifest lists (its SHA-256 differs)")
    present = list_files(bundle.root).keys() - {MANIFEST_NAME, SIGNATURE_NAME}
    odd = sorted(present ^ bundle.manifest.files.keys())
    if odd:
        raise CheckFailed(f"listed and present files differ: {', '.join(odd)}")
    return f"{len(present)} files"


def check_input_is_not_mutated(_bundle: Bundle, detector: Detector) -> str:
    """Assessing an input leaves its tensor as it was."""
    rows = _rows(detector)
    before = rows.tobytes()
    _answers(detector.without_exits(), samples.one_by_one(rows))
    if rows.tobytes() != before:
        raise CheckFailed("the input tensor was changed while it was assessed")
    return f"{len(rows)} inputs"


def check_same_input_same_score(bundle: Bundle, detector: Detector) -> str:
    """The same input gets the same bits again, from the same session and from one freshly opened."""
    inputs = samples.one_by_one(_rows(detector))
    every_stage = detector.without_exits()
    first = [_result(every_stage.assess(one)) for one in inputs]
    if [_result(every_stage.assess(one)) for one in inputs] != first:
        raise CheckFailed("a second run of the same input gave another answer")
    fresh = load_detector(bundle).without_exits()
    if [_result(fresh.assess(one)) for one in inputs] != first:
        raise CheckFailed("a freshly opened session gave another answer")
    return f"{len(inputs)} inputs, three times, the same to the last bit"


def check_batch_equals_one_by_one(_bundle: Bundle, detector: Detector) -> str:
    """A batch gives every row what the row gets alone."""
    inputs = samples.one_by_one(_rows(detector))
    every_stage = detector.without_exits()
    alone = [every_stage.assess(one) for one in inputs]
    largest = _largest_difference(_answers(every_stage, inputs), alone, "in a batch and alone")
    return f"{len(inputs)} inputs, largest difference {largest:.1e}"


def check_row_order_does_not_matter(_bundle: Bundle, detector: Detector) -> str:
    """Reversing a batch reverses its answers."""
    inputs = samples.one_by_one(_rows(detector))
    every_stage = detector.without_exits()
    backwards = _answers(every_stage, inputs[::-1])[::-1]
    largest = _largest_difference(_answers(every_stage, inputs), backwards, "in one order and in the other")
    return f"{len(inputs)} inputs, largest difference {largest:.1e}"


def check_scores_are_probabilities(_bundle: Bundle, detector: Detector) -> str:
    """Every stage answers typical inputs with a finite score in [0, 1]."""
    inputs = samples.one_by_one(_rows(detector))
    return _all_answered(detector, {f"sample {number}": one for number, one in enumerate(inputs)})


def check_extreme_inputs_are_answered(_bundle: Bundle, detector: Detector) -> str:
    """Every stage answers the most extreme inputs that the manifest lets in."""
    found = samples.extremes(detector.manifest.input)
    return _all_answered(detector, {name: samples.prepared(rows) for name, rows in found.items()})


def check_decisions_follow_the_scores(_bundle: Bundle, detector: Detector) -> str:
    """Each row ends at the first stage whose exit it meets, and the thresholds alone make the decision."""
    manifest = detector.manifest
    inputs = _varied(detector)
    thresholds = _thresholds(manifest, inputs)
    found = _answers(detector, inputs)
    for number, one in enumerate(found):
        last = len(one.stages) - 1
        for position, reading in enumerate(one.stages):
            stage = manifest.stages[position]
            if _leaves(stage, _score(reading)) != (position == last):
                wrong = "went on from" if position < last else "ended at"
                raise CheckFailed(f"sample {number} {wrong} stage {stage.name} with the score {reading.score}")
        if (one.decided_by, one.score) != (one.stages[last].name, one.stages[last].score):
            raise CheckFailed(f"sample {number} says {one.decided_by} decided, but {one.stages[last].name} did")
        expected = decide(one.score, thresholds[number])
        labels = {"flag": manifest.classes.positive, "clear": manifest.classes.negative}
        if (one.decision, one.label) != (expected, labels.get(expected)):
            raise CheckFailed(f"sample {number} scored {one.score}: {expected} is due, {one.decision} was said")
    counts = {decision: sum(one.decision == decision for one in found) for decision in ("clear", "review", "flag")}
    return ", ".join(f"{count} {decision}" for decision, count in counts.items())


def check_stages_add_up(_bundle: Bundle, detector: Detector) -> str:
    """As many rows reach a stage as the stage before left open, and each is accounted for once."""
    stages = detector.manifest.stages
    inputs = _varied(detector)
    found = _answers(detector, inputs)
    reached = len(inputs)
    evidence = []
    for position, stage in enumerate(stages):
        readings = [one.stages[position] for one in found if len(one.stages) > position]
        if len(readings) != reached or sum(reading.rows for reading in readings) != reached:
            raise CheckFailed(f"{reached} rows should have reached stage {stage.name}, {len(readings)} did")
        if any(reading.name != stage.name or not reading.milliseconds >= 0 for reading in readings):
            raise CheckFailed(f"a reading of stage {stage.name} has another name or no time")
        evidence.append(f"{reached} reached {stage.name}")
        reached = sum(not _leaves(stage, _score(reading)) for reading in readings)
    if any(len(one.stages) > len(stages) for one in found):
        raise CheckFailed("there are readings of more stages than the manifest has")
    return ", ".join(evidence)


def check_bad_input_is_refused(_bundle: Bundle, detector: Detector) -> str:
    """What is no input of this detector is refused with our error, and what is one gets through to an answer."""
    manifest = detector.manifest
    good: Prepared
    bad: dict[str, Callable[[], Prepared]]
    if isinstance(manifest.input, ImageSpec):
        good, bad = _image_preparations(manifest, manifest.input)
    else:
        good, bad = _record_preparations(manifest.input)
    for name, prepare in bad.items():
        try:
            prepare()
        except CallerError:
            continue
        raise CheckFailed(f"{name} was taken as an input")
    detector.assess(good)
    twice = [np.repeat(good.tensor, 2, axis=axis) for axis in (0, -1)]
    wrong: list[NDArray[Any]] = [*twice, good.tensor[:0], good.tensor.astype(np.float64)]
    facts = InputFacts(kind=good.facts.kind, sha256="0" * 64, bytes=0)
    for tensor in wrong:
        try:
            detector.assess(Prepared(tensor, facts))
        except InternalError:
            continue
        raise CheckFailed(f"a tensor of {tensor.dtype} {list(tensor.shape)} was taken")
    return f"{len(bad)} bad inputs, {len(wrong)} bad tensors"


def check_temperatures_are_sane(_bundle: Bundle, detector: Detector) -> str:
    """Temperatures are in [0.1, 10], and the last stage can reach every decision its thresholds provide for."""
    manifest = detector.manifest
    for stage in manifest.stages:
        temperature = stage.calibration.temperature
        if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
            raise CheckFailed(
                f"stage {stage.name} has temperature {temperature}, outside "
                f"[{LOWEST_TEMPERATURE:g}, {HIGHEST_TEMPERATURE:g}]: fit it on held-out predictions"
            )
    low, high = calibrator(manifest.stages[-1].calibration)([0.0, 1.0]).tolist()
    for rule in manifest.decision.all_thresholds:
        if high < rule.flag_from < 1 or 0 < rule.review_from <= low:
            raise CheckFailed(
                f"the last stage's scores lie in [{low:.3g}, {high:.3g}], which never reaches a threshold "
                f"({rule.review_from:g}, {rule.flag_from:g})"
            )
    return ", ".join(f"{stage.name} {_calibrated_by(stage)}" for stage in manifest.stages)


def check_memory_is_bounded(_bundle: Bundle, detector: Detector) -> str:
    """Runs of changing batch sizes do not make the process grow."""
    every_stage = detector.without_exits()
    rows = samples.one_by_one(_rows(detector))

    def run(times: int) -> float:
        started = time.perf_counter()
        for number in range(times):
            _answers(every_stage, rows[: 1 + number % len(rows)])
        return (time.perf_counter() - started) / times

    each = run(LEAST_RUNS)
    runs = max(LEAST_RUNS, min(MOST_RUNS, int(MEMORY_SECONDS / each)))
    run(runs)
    # The allocator may take a large block once; what leaks takes more every time.
    rounds: list[float] = []
    while len(rounds) < MEMORY_ROUNDS:
        before = _resident_bytes()
        run(runs)
        grown = _resident_bytes() - before
        if grown <= MEMORY_GROWTH:
            return f"grew by {max(0, grown) / 1e6:.1f} MB over {runs} runs, {MEMORY_GROWTH / 1e6:.0f} allowed"
        rounds.append(grown)
    listed = ", ".join(f"{one / 1e6:.0f}" for one in rounds)
    raise CheckFailed(f"each {runs} runs made the process grow, by {listed} MB")


def check_threads_get_their_own_answers(_bundle: Bundle, detector: Detector) -> str:
    """Threads that ask at once each get what they would get alone."""
    inputs = samples.one_by_one(samples.typical(detector.manifest.input, THREADS))
    expected = [_result(detector.assess(one)) for one in inputs]
    with ThreadPoolExecutor(THREADS) as threads:
        found = [_result(one) for one in threads.map(detector.assess, inputs)]
    if found != expected:
        raise CheckFailed(f"{THREADS} threads at once did not get the answers that they get one after the other")
    return f"{THREADS} threads"


def check_video_pools_its_frames(_bundle: Bundle, detector: Detector) -> str:
    """A clip scores what the pool of its frames' own scores is; one that is judged by windows, what its window does."""
    video = detector.manifest.video
    if video is None:
        return "takes no video"
    rows = samples.typical(detector.manifest.input, min(IMAGES, video.frames))
    seconds = tuple(float(second) for second in range(len(rows)))
    prepared = samples.prepared(rows, seconds)
    clip = detector.assess(prepared) if video.pool == "windows" else _answers(detector, [prepared])[0]
    alone = [detector.assess(one) for one in samples.one_by_one(rows)]
    if [frame.seconds for frame in clip.frames] != list(seconds):
        raise CheckFailed(f"the clip has {len(rows)} frames, the answer lists {len(clip.frames)}")
    apart = max(abs(frame.score - one.score) for frame, one in zip(clip.frames, alone, strict=True))
    expected = pool([one.score for one in alone], video)
    if video.pool == "windows":
        expected = clip.score
        if clip.degraded not in {None, TOO_LITTLE_KNOWN}:
            raise CheckFailed(f"the clip got a degraded answer: stage {clip.degraded} failed")
        if clip.timeline is None and detector.manifest.stream is not None and detector.manifest.stream.events:
            raise CheckFailed("the answer does not tell of the events of the clip")
    if not max(apart, abs(clip.score - expected)) <= TOLERANCE:
        raise CheckFailed(f"the clip scores {clip.score}, the pool of its frames {expected} (frames differ by {apart})")
    if clip.stages[0].rows != len(rows):
        raise CheckFailed(f"the first stage counts {clip.stages[0].rows} rows for {len(rows)} frames")
    return f"{len(rows)} frames, {video.pool} {clip.score:.3f}"


_MOST_NAMED = 6


def _answers(detector: Detector, inputs: Sequence[Prepared]) -> list[Assessment]:
    """Return all answers. Raises CheckFailed when an input got none, or a degraded one."""
    found = []
    for number, one in enumerate(detector.assess_many(inputs)):
        if isinstance(one, DiscernError):
            raise CheckFailed(f"sample {number} got no answer: {one}")
        if one.degraded:
            errors = "; ".join(reading.error for reading in one.stages if reading.error)
            raise CheckFailed(f"sample {number} got a degraded answer: stage {one.degraded} failed: {errors}")
        found.append(one)
    return found


def _all_answered(detector: Detector, inputs: dict[str, Prepared]) -> str:
    every_stage = detector.without_exits()
    scores: list[float] = []
    for name, one in inputs.items():
        try:
            (found,) = _answers(every_stage, [one])
        except CheckFailed as failure:
            raise CheckFailed(f"{name}: {failure.detail}") from failure
        for score in (found.score, *(_score(reading) for reading in found.stages)):
            if not 0.0 <= score <= 1.0:
                raise CheckFailed(f"{name}: {score} is not a score in [0, 1]")
            scores.append(score)
    named = ", ".join(inputs) if len(inputs) <= _MOST_NAMED else f"{len(inputs)} inputs"
    return f"{named}: scores in [{min(scores):.3g}, {max(scores):.3g}]"


def _varied(detector: Detector) -> list[Prepared]:
    spec = detector.manifest.input
    return [*samples.one_by_one(_rows(detector)), *map(samples.prepared, samples.extremes(spec).values())]


def _rows(detector: Detector) -> samples.Rows:
    spec = detector.manifest.input
    return samples.typical(spec, IMAGES if isinstance(spec, ImageSpec) else RECORDS)


def _result(one: Assessment) -> tuple[object, ...]:
    """Return everything an assessment says but its times."""
    readings = tuple((reading.name, reading.score, reading.rows, reading.error) for reading in one.stages)
    return one.score, one.decision, one.label, one.decided_by, one.degraded, readings, one.frames


def _largest_difference(found: Sequence[Assessment], expected: Sequence[Assessment], between: str) -> float:
    """Return the largest difference between scores of the same stages. Raises CheckFailed when it is over 1e-6."""
    largest = 0.0
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        if [reading.name for reading in one.stages] != [reading.name for reading in other.stages]:
            raise CheckFailed(f"sample {number} reached other stages {between}")
        pairs = [(_score(a), _score(b)) for a, b in zip(one.stages, other.stages, strict=True)]
        apart = max(abs(a - b) for a, b in [(one.score, other.score), *pairs])
        if not apart <= TOLERANCE:
            raise CheckFailed(f"sample {number} scored {one.score} and {other.score} {between}")
        largest = max(largest, apart)
    return largest


def _leaves(stage: Stage, score: float) -> bool:
    return stage.exits is None or score < stage.exits.clear_below or score >= stage.exits.flag_above


def _calibrated_by(stage: Stage) -> str:
    found = stage.calibration
    return "beta" if found.beta else "isotonic" if found.isotonic else f"{found.temperature:g}"


def _thresholds(manifest: Manifest, inputs: Sequence[Prepared]) -> list[Thresholds]:
    """Return which thresholds apply to each input, read from the manifest by itself."""
    bands, spec = manifest.decision.bands, manifest.input
    if bands is None or not isinstance(spec, RecordSpec):
        return [manifest.decision.thresholds] * len(inputs)
    position = [field.name for field in spec.fields].index(bands.field)
    found = []
    for one in inputs:
        value = one.tensor[0, position]
        reached = sum(value >= np.float32(step.from_) for step in bands.steps)
        found.append(manifest.decision.all_thresholds[reached])
    return found


def _score(reading: StageReading) -> float:
    if reading.score is None:
        raise CheckFailed(f"stage {reading.name} gave no score: {reading.error}")
    return reading.score


class _FixedLocator:
    """Says that the face fills the middle of every image, so that no sample fails for want of a face."""

    name = "fixed"

    def locate(self, rgb: NDArray[np.uint8]) -> Box | None:
        height, width, _ = rgb.shape
        return Box(width // 4, height // 4, width // 2, height // 2)

    def locate_parts(self, rgb: NDArray[np.uint8]) -> FaceParts | None:
        height, width, _ = rgb.shape
        return frontal_parts(Box(width // 4, height // 4, width // 2, height // 2))


def _image_preparations(manifest: Manifest, spec: ImageSpec) -> tuple[Prepared, dict[str, Callable[[], Prepared]]]:
    picture = samples.png(samples.typical(spec, 1)[0].astype(np.uint8))
    noise = np.random.default_rng(samples.SEED).bytes(4096)
    contents = {
        "an empty body": b"",
        "random bytes": noise,
        "text": b"not a picture\n" * 20,
        "a PNG cut in half": picture[: len(picture) // 2],
        "a PNG header followed by nothing": picture[:33],
        "a ZIP archive": b"PK\x03\x04" + noise,
    }

    def prepare(content: bytes) -> Prepared:
        return prepare_media(content, spec, manifest.video, InputLimits(), _FixedLocator())

    return prepare(picture), {name: partial(prepare, content) for name, content in contents.items()}


def _record_preparations(spec: RecordSpec) -> tuple[Prepared, dict[str, Callable[[], Prepared]]]:
    good = samples.record(spec)
    first = spec.fields[0].name
    records: dict[str, dict[str, object]] = {
        "a record with an unknown field": {**good, "no_such_field_": 1},
        "a record with a list in a field": {**good, first: ["1"]},
        "a record with a text in every field": dict.fromkeys(good, "no such value "),
        "a record with an infinite number": {**good, first: float("inf")},
        "a record with a number beyond float32": {**good, first: 1e300},
    }
    required = [field.name for field in spec.fields if field.missing == "refuse"]
    if required:
        records |= {
            "a record without a required field": {name: good[name] for name in good if name != required[0]},
            "a record with null in a required field": {**good, required[0]: None},
            "a record with NaN in a required field": {**good, required[0]: float("nan")},
        }
    return prepare_record_input(good, spec), {
        name: partial(prepare_record_input, one, spec) for name, one in records.items()
    }


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
