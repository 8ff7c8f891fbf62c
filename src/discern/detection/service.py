"""The plane: `detect(request) -> verdict`, under every door.

- Decoding and inference run off the event loop, at most `threads` at a time, in threads that live as long as the plane.
- The verdict depends on the content, the bundle and the settings alone, so every door gives the same one.
- `on_ledger` answers only after the ledger has the verdict; when the ledger fails there is no answer.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from anyio import CapacityLimiter, to_thread

from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, DiscernError, UnsupportedInput
from discern.core.ids import uuid7
from discern.core.verdict import Verdict
from discern.detection.ports import DetectorSource, Ledger
from discern.detection.records import record_in
from discern.detection.types import BatchRequest, Detect, DetectBatch, DetectionRequest
from discern.detectors.assessment import Detector
from discern.inputs.faces import FaceLocator
from discern.inputs.prepare import prepare_media, prepare_record_input
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits, MediaContent, Prepared, Record

_WRITERS = 8


class Plane:
    """Turns requests into verdicts. `threads` is how many inputs are in work at the same time."""

    def __init__(
        self,
        detectors: DetectorSource,
        limits: InputLimits,
        locator: FaceLocator,
        *,
        threads: int,
        clock: Clock = utc_now,
    ) -> None:
        self._detectors = detectors
        self._limits = limits
        self._locator = locator
        self._clock = clock
        # Threads of its own: face locators are built once a thread, and a slow detector keeps nobody from the database.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="detect")

    async def detect(self, request: DetectionRequest) -> Verdict:
        """Return the verdict on one input. Raises CallerError for an input that cannot be judged."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._detect, request)

    def close(self) -> None:
        """End the threads; what is in work is finished first."""
        self._threads.shutdown(cancel_futures=True)

    def _detect(self, request: DetectionRequest) -> Verdict:
        detector = self._detectors.get(request.detector, request.version)
        started = time.perf_counter()
        prepared = self._prepare(detector, request)
        assessment = detector.assess(prepared)
        manifest = detector.manifest
        return Verdict(
            id=str(uuid7()),
            workspace=request.principal.workspace,
            detector=manifest.name,
            version=manifest.version,
            decision=assessment.decision,
            label=assessment.label,
            score=assessment.score,
            thresholds=manifest.decision.thresholds,
            decided_by=assessment.decided_by,
            stages=assessment.stages,
            input=prepared.facts,
            created_at=self._clock(),
            milliseconds=round((time.perf_counter() - started) * 1000, 3),
            degraded=assessment.degraded,
            frames=assessment.frames,
        )

    def _prepare(self, detector: Detector, request: DetectionRequest) -> Prepared:
        manifest, content = detector.manifest, request.content
        if isinstance(manifest.input, RecordSpec):
            record = content if isinstance(content, dict) else record_in(content, self._limits)
            return prepare_record_input(record, manifest.input, self._limits)
        if isinstance(content, dict):
            raise UnsupportedInput(f"{manifest.name} takes an image, not a record.", mend="Send the image's bytes.")
        return prepare_media(content, manifest.input, manifest.video, self._limits, self._locator)


def on_ledger(detect: Detect, ledger: Ledger) -> Detect:
    """Wrap `detect` so that an answer leaves only after the ledger has it."""
    # Writers take turns in the database; those that wait must not take the threads that answer who is asking.
    writers = CapacityLimiter(_WRITERS)

    async def detect_and_record(request: DetectionRequest) -> Verdict:
        verdict = await detect(request)
        await to_thread.run_sync(ledger.append, [(verdict, request.principal.id)], limiter=writers)
        return verdict

    return detect_and_record


def in_batches(detect: Detect) -> DetectBatch:
    """Return what answers many inputs at once by asking `detect` for each."""

    async def answer(request: BatchRequest, content: MediaContent | Record | DiscernError) -> Verdict | DiscernError:
        if isinstance(content, DiscernError):
            return content
        try:
            return await detect(DetectionRequest(request.principal, request.detector, content, request.version))
        except CallerError as error:
            return error

    async def detect_batch(request: BatchRequest) -> list[Verdict | DiscernError]:
        return [await answer(request, content) for content in request.contents]

    return detect_batch
