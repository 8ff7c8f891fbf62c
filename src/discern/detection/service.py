"""The plane: `detect(request) -> verdict`, under every door.

- The verdict depends on the content, the bundle and the settings alone, so every door gives the same one.
- The steps have one signature, `Question -> Verdict`, and stand around each other in one list in `app.py`: the quota
  and the ledger outside, the answers that are known, the batcher inside.
- `on_ledger` answers only after the ledger has the verdict; when the ledger fails there is no answer.
- Many records at once are a batch already: they are read, run and put into words in one go.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from anyio import to_thread

from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, DetectorFailed, DiscernError, Overloaded, UnsupportedInput
from discern.core.ids import uuid7_text
from discern.core.tracing import Trace, Tracer, current_trace, piece, traced
from discern.core.verdict import Verdict
from discern.detection.batching import Assessed, Batcher, Media
from discern.detection.caching import AnswerCache, AnswerKey
from discern.detection.committing import Committer
from discern.detection.ports import DetectorSource
from discern.detection.service_probing import ProbingWatch
from discern.detection.types import BatchRequest, Detect, DetectBatch, DetectionRequest, LedgerEntry, Seen
from discern.detectors.assessment import Assessment, Detector
from discern.inputs.faces import FaceLocator
from discern.inputs.prepare import prepare_media
from discern.inputs.record_reader import RecordReader, RecordRow
from discern.inputs.source import is_video
from discern.inputs.spec import ImageSpec, RecordSpec
from discern.inputs.types import Held, InputLimits, MediaContent, Record
from discern.quotas.ports import Meter
from discern.quotas.types import Amount

# Above it a thread reads the record: the event loop has others to look after.
_READ_HERE_BYTES = 64 * 1024
_HASH_HERE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Question:
    """A request on its way: the detector that answers it, and what is known of the input by now.

    `seen` is what the detector was shown, for those who watch; None as long as nothing was judged.
    """

    request: DetectionRequest
    detector: Detector
    item: RecordRow | Media
    started: float
    seen: Seen | None = None


Answer = Callable[[Question], Awaitable[Verdict]]
"""What every step of the plane is."""


class Plane:
    """Turns requests into questions, and questions into verdicts."""

    def __init__(
        self,
        detectors: DetectorSource,
        limits: InputLimits,
        locator: FaceLocator,
        batcher: Batcher,
        watch: ProbingWatch,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self.watch = watch
        self._detectors = detectors
        self._limits = limits
        self._locator = locator
        self._batcher = batcher
        self._clock = clock
        self._readers: dict[str, RecordReader] = {}

    def asking(self, answer: Answer) -> Detect:
        """Return `detect`: it makes a question of a request and has `answer` answer it."""

        async def detect(request: DetectionRequest) -> Verdict:
            detector = await self._detector(request.detector, request.version)
            started = time.perf_counter()
            return await answer(Question(request, detector, await self._item(detector, request.content), started))

        return detect

    async def assess(self, question: Question) -> Verdict:
        """Answer a question by running the detector. Raises CallerError for an input that cannot be judged."""
        request, detector = question.request, question.detector
        found = await self._batcher.assess(detector, question.item)
        if request.is_sampled:
            question.seen = _seen(question.item, found)
        if not request.is_live:
            if isinstance(question.item, RecordRow):
                self.watch.see_record(request.principal, request.detector, question.item.values)
            elif found.sketch is not None:
                self.watch.see_picture(request.principal, request.detector, found.sketch)
        return self.verdict(request, detector, found)

    def asking_many(self, detect: Detect, committer: Committer, meter: Meter) -> DetectBatch:
        """Return `detect_batch`: media are asked about one by one and together, records run as the batch they are."""

        async def answer(request: DetectionRequest) -> Verdict | DiscernError:
            try:
                return await detect(request)
            except (CallerError, DetectorFailed, Overloaded) as error:
                return error

        async def detect_batch(batch: BatchRequest) -> list[Verdict | DiscernError]:
            detector = await self._detector(batch.detector, batch.version)
            if isinstance(detector.manifest.input, RecordSpec):
                return await self._records(batch, detector, committer, meter)
            # The version stays the one that was found, also where another one is added meanwhile.
            version = detector.manifest.version
            return await asyncio.gather(
                *(
                    _itself(content)
                    if isinstance(content, DiscernError)
                    else answer(
                        DetectionRequest(batch.principal, batch.detector, content, version, subject=batch.subject)
                    )
                    for content in batch.contents
                )
            )

        return detect_batch

    async def _records(
        self, batch: BatchRequest, detector: Detector, committer: Committer, meter: Meter
    ) -> list[Verdict | DiscernError]:
        workspace, rows = batch.principal.workspace, len(batch.contents)
        await _take(meter, workspace, Amount(rows))
        try:
            found = await self._batcher.run(detector, partial(self._run_records, batch, detector), rows)
            entries = [
                LedgerEntry(one, batch.principal.id, batch.subject, row.values)
                for row, one in found
                if isinstance(one, Verdict) and isinstance(row, RecordRow)
            ]
            if entries:
                await committer.write(entries)
        except Exception:
            meter.give_back(workspace, Amount(rows))
            raise
        if len(entries) < rows:
            meter.give_back(workspace, Amount(rows - len(entries)))
        return [answer for _, answer in found]

    def verdict(
        self,
        request: DetectionRequest | BatchRequest,
        detector: Detector,
        found: Assessed,
        created_at: datetime | None = None,
    ) -> Verdict:
        """Put an assessment into the words of a verdict, with an id and a time: the present, unless one is given."""
        manifest, assessment = detector.manifest, found.assessment
        asked = request.verdict_id if isinstance(request, DetectionRequest) else None
        return Verdict(
            id=uuid7_text() if asked is None else str(asked),
            workspace=request.principal.workspace,
            detector=manifest.name,
            version=manifest.version,
            decision=assessment.decision,
            label=assessment.label,
            score=assessment.score,
            thresholds=assessment.thresholds or manifest.decision.thresholds,
            decided_by=assessment.decided_by,
            stages=assessment.stages,
            input=found.facts,
            created_at=created_at or self._clock(),
            milliseconds=round(found.milliseconds, 3),
            degraded=assessment.degraded,
            frames=assessment.frames,
            timeline=assessment.timeline,
            variant=msgspec.UNSET if detector.variant is None else detector.variant,
        )

    async def _detector(self, name: str, version: str | None) -> Detector:
        # Loading one takes a thread; one that is loaded is at hand.
        loaded = self._detectors.loaded(name, version)
        if loaded is not None:
            return loaded
        with piece("load"):
            return await to_thread.run_sync(self._detectors.get, name, version)

    async def _item(self, detector: Detector, content: MediaContent | Record) -> RecordRow | Media:
        manifest = detector.manifest
        if isinstance(manifest.input, ImageSpec):
            if isinstance(content, dict):
                raise UnsupportedInput(f"{manifest.name} takes an image, not a record.", mend="Send the image's bytes.")
            prepare = partial(prepare_media, content, manifest.input, manifest.video, self._limits, self._locator)
            clip = manifest.video is not None and (not isinstance(content, bytes) or is_video(content))
            return Media(prepare, manifest.video.frames if manifest.video is not None and clip else 1)
        with piece("decode", **{"discern.rows": 1}):
            return await self._row(self.reader(detector, manifest.input), content)

    async def _row(self, reader: RecordReader, content: MediaContent | Record) -> RecordRow:
        if isinstance(content, Path | Held) or (isinstance(content, bytes) and len(content) > _READ_HERE_BYTES):
            return await to_thread.run_sync(reader.from_content, content)
        return reader.from_content(content)

    def reader(self, detector: Detector, spec: RecordSpec) -> RecordReader:
        """Return what reads the records of a detector."""
        reader = self._readers.get(detector.digest)
        if reader is None:
            reader = self._readers[detector.digest] = RecordReader(spec, self._limits)
        return reader

    def _run_records(
        self, batch: BatchRequest, detector: Detector
    ) -> list[tuple[RecordRow | DiscernError, Verdict | DiscernError]]:
        """Read, run and conclude many records in this thread; return each as it was read, and its answer."""
        started = time.perf_counter()
        spec = detector.manifest.input
        assert isinstance(spec, RecordSpec)  # noqa: S101 - asked before
        reader = self.reader(detector, spec)
        with piece("decode", **{"discern.rows": len(batch.contents)}):
            rows = [_read(reader, content) for content in batch.contents]
        good = [row for row in rows if isinstance(row, RecordRow)]
        for row in good:
            self.watch.see_record(batch.principal, batch.detector, row.values)
        results: list[Assessment | DiscernError] = []
        if good:
            results = detector.assess_rows(np.array([row.values for row in good], dtype=np.float32))
        # Every record's share of the way they went together.
        share = (time.perf_counter() - started) * 1000 / max(1, len(good))
        now = self._clock()
        answers = iter(
            result
            if isinstance(result, DiscernError)
            else self.verdict(batch, detector, Assessed(result, row.facts, share), now)
            for row, result in zip(good, results, strict=True)
        )
        return [(row, row if isinstance(row, DiscernError) else next(answers)) for row in rows]


def from_cache(answer: Answer, cache: AnswerCache, locator: FaceLocator, clock: Clock = utc_now) -> Answer:
    """Wrap a step so that a question which was answered before is answered by what is known."""

    async def answer_or_recall(question: Question) -> Verdict:
        # What is known of a person is sealed on the ledger, and lies nowhere else.
        input_sha256 = await _digest(question) if question.request.subject is None else None
        if input_sha256 is None:
            return await answer(question)
        request = question.request
        key = answer_key(request, question.detector, input_sha256, locator)
        with piece("cache"):
            known = await cache.get(key)
        if known is None:
            verdict = await answer(question)
            cache.put(key, verdict)
            return verdict
        return recalled(known, request, clock, question.started)

    return answer if cache.is_off else answer_or_recall


def answer_key(request: DetectionRequest, detector: Detector, input_sha256: str, locator: FaceLocator) -> AnswerKey:
    """Return the key of a question."""
    manifest = detector.manifest
    workspace = request.principal.workspace
    return AnswerKey(
        workspace,
        manifest.name,
        manifest.version,
        detector.digest,
        input_sha256,
        locator.name,
        detector.variant,
    )


def recalled(known: Verdict, request: DetectionRequest, clock: Clock, started: float) -> Verdict:
    """Return a known answer as a verdict of its own. `started` is when the question was, by `perf_counter`."""
    return msgspec.structs.replace(
        known,
        id=uuid7_text() if request.verdict_id is None else str(request.verdict_id),
        created_at=clock(),
        milliseconds=round((time.perf_counter() - started) * 1000, 3),
        cached=True,
    )


async def _digest(question: Question) -> str | None:
    """Return the digest of the input; None for a file, which would have to be read for it."""
    if isinstance(question.item, RecordRow):
        return question.item.facts.sha256
    content = question.request.content
    if not isinstance(content, bytes):
        return None
    if len(content) > _HASH_HERE_BYTES:
        return await to_thread.run_sync(lambda: hashlib.sha256(content).hexdigest())
    return hashlib.sha256(content).hexdigest()


def on_ledger(answer: Answer, committer: Committer) -> Answer:
    """Wrap a step so that an answer leaves only after the ledger has it."""

    async def answer_and_record(question: Question) -> Verdict:
        verdict = await answer(question)
        request = question.request
        await committer.write([LedgerEntry(verdict, request.principal.id, request.subject, question.seen)])
        trace = current_trace()
        if trace is not None:
            _say_what_came_of_it(trace, verdict)
        return verdict

    return answer_and_record


def _say_what_came_of_it(trace: Trace, verdict: Verdict) -> None:
    """Have a trace found by its verdict. Of several verdicts of one request it names the first that was written."""
    if "discern.verdict" not in trace.attributes:
        trace.attributes |= {
            "discern.verdict": verdict.id,
            "discern.detector": verdict.detector,
            "discern.version": verdict.version,
            "discern.decided_by": verdict.decided_by,
            "discern.cached": verdict.cached,
        }


def traced_each(detect: Detect, tracer: Tracer, name: str) -> Detect:
    """Return a `detect` that traces some of its questions, each by itself: for what is no request of its own."""

    async def detect_traced(request: DetectionRequest) -> Verdict:
        sampled = tracer.sample() if tracer.is_on else None
        if sampled is None:
            return await detect(request)
        with traced(tracer, sampled, name) as trace:
            trace.attributes["discern.workspace"] = request.principal.workspace
            return await detect(request)

    return detect_traced


def within_quota(answer: Answer, meter: Meter) -> Answer:
    """Wrap a step so that a question is counted, and only answered within the quota of whoever asks.

    A question that comes to no verdict does not count; one that nobody waits for any more does, for it may come to one.
    """

    async def answer_within(question: Question) -> Verdict:
        workspace, amount = question.request.principal.workspace, Amount(1, _media_bytes(question))
        await _take(meter, workspace, amount)
        try:
            return await answer(question)
        except Exception:
            meter.give_back(workspace, amount)
            raise

    return answer_within


async def _take(meter: Meter, workspace: str, amount: Amount) -> None:
    if not meter.take_at_once(workspace, amount):
        with piece("quota"):
            await to_thread.run_sync(meter.take, workspace, amount)


def _media_bytes(question: Question) -> int:
    content = question.request.content
    if isinstance(question.item, RecordRow) or isinstance(content, dict):
        return 0
    if isinstance(content, bytes):
        return len(content)
    if isinstance(content, Held):
        return content.size
    try:
        return content.stat().st_size
    except OSError:  # whoever reads it says what is wrong
        return 0


def _seen(item: RecordRow | Media, found: Assessed) -> Seen:
    if isinstance(item, RecordRow):
        return item.values
    return () if found.pixels is None else found.pixels


async def _itself(error: DiscernError) -> DiscernError:
    return error


def _read(reader: RecordReader, content: MediaContent | Record | DiscernError) -> RecordRow | DiscernError:
    if isinstance(content, DiscernError):
        return content
    try:
        return reader.from_content(content)
    except CallerError as error:
        return error
