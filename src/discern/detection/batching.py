"""Inputs that wait, run together: one queue a detector, one lane a processor core.

- A batch leaves as soon as a lane is free; nobody waits for company. While every lane is busy inputs gather, and of
  several detectors the one goes first whose oldest input has waited longer than the deadline, then one whose batch is
  full, then the one that has waited longest.
- A lane that ends should find its next batch ready, and not idle until the event loop has come to it: beside each
  batch that runs one may lie in hand, if it is a matter of milliseconds; others would stand in the way of what comes.
- Size is counted in rows, not in requests: a clip of sixteen frames is sixteen rows.
- A batch is no larger than it pays: running together saves what a run costs at least, so inputs that take milliseconds
  each are run one by one. Together they would only leave the processor's caches and all wait for the last.
- Every input has its own answer and its own error: a fault of one is never the answer of another, and a batch that
  fails as a whole is run again one by one.
- An input that was given up while it waited is not run; one that was given up later has no effect.
- What waits is bounded by rows.
- Of a batch with inputs of traced requests each of these is told what was done for the whole of it: how long it waited,
  and the stages that its input came to.
- Decoding and models run in the lanes' threads. Rows of numbers that take well under a millisecond run on the event
  loop itself, together with all that arrived in the same turn of it: handing them over would cost more than the model.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from discern.core.counts import Counts
from discern.core.errors import DetectorFailed, DiscernError, Overloaded
from discern.core.tracing import Piece, Trace, code_of, current_trace, done_for, piece
from discern.core.verdict import InputFacts
from discern.detection.ports import Answering
from discern.detectors.assessment import Assessment, Detector
from discern.detectors.cascade import CHUNK_BYTES, CHUNK_ROWS
from discern.inputs.record_reader import RecordRow
from discern.inputs.spec import ImageSpec
from discern.inputs.types import Prepared

T = TypeVar("T")
Reason = Literal["deadline", "full", "idle"]
_RANKS: dict[Reason, int] = {"deadline": 0, "full": 1, "idle": 2}
# What the event loop may be kept from its sockets for.
_INLINE_ROW_MILLISECONDS = 1.0
_INLINE_BATCH_MILLISECONDS = 2.0
# What a batch in a lane should take: of a longer one what each run costs by itself is too small a part to save.
_LANE_BATCH_MILLISECONDS = 4.0
# What may lie in hand for a lane.
_IN_HAND_MILLISECONDS = 20.0
_WEIGHT_OF_THE_LATEST = 0.2


class Assessed(NamedTuple):
    """What became of one input: the assessment, what is kept of the input, and milliseconds from decode to decision.

    `sketch` is that of a picture, `pixels` what the detector saw of it, uint8 [height, width, 3].
    """

    assessment: Assessment
    facts: InputFacts
    milliseconds: float
    sketch: int | None = None
    pixels: NDArray[np.uint8] | None = None


Outcome = Assessed | DiscernError


class Media(NamedTuple):
    """An image or a clip that is not decoded yet; `rows` is how many frames it will be."""

    prepare: Callable[[], Prepared]
    rows: int


class Whole(NamedTuple):
    """A batch that is one already: what to call, and its rows."""

    call: Callable[[], Any]
    rows: int


Item = RecordRow | Media | Whole


@dataclass(slots=True)
class _Waiting:
    item: Item
    answer: Answering[Any]
    since: float
    alone: bool = False
    trace: Trace | None = None

    @property
    def rows(self) -> int:
        return _rows(self.item)


@dataclass(slots=True)
class _Queue:
    """What waits for one detector. `row_milliseconds` is what a row took of late in processor time, None at first."""

    detector: Detector
    most_rows: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    rows: int = 0
    row_milliseconds: float | None = None


class Batcher:
    """Runs inputs in batches. `threads` lanes; at most `most_rows` rows a batch; for one event loop at a time."""

    def __init__(
        self, *, threads: int, most_rows: int, deadline_seconds: float, most_waiting_rows: int, counts: Counts
    ) -> None:
        self._lanes = ThreadPoolExecutor(threads, thread_name_prefix="detect")
        self._threads = threads
        self._running = 0
        self._most_rows = most_rows
        self._deadline = deadline_seconds
        self._most_waiting_rows = most_waiting_rows
        self._counts = counts
        self._note_rows = counts.measures.noting("discern_batch_rows")
        self._note_waiting = counts.measures.noting("discern_waiting_seconds")
        counts.measures.gauges["discern_waiting_rows"] = lambda: self._rows
        self._queues: dict[tuple[int, bool], _Queue] = {}
        self._rows = 0
        self._turn: asyncio.AbstractEventLoop | None = None

    async def assess(self, detector: Detector, item: RecordRow | Media) -> Assessed:
        """Return what the detector makes of one input.

        Raises what preparing or assessing it raises, and Overloaded when too many rows wait.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Assessed] = loop.create_future()
        self._enqueue(detector, _Waiting(item, answer, time.monotonic(), trace=current_trace()), loop)
        return await answer

    def submit(self, detector: Detector, item: RecordRow | Media, answer: Answering[Assessed]) -> None:
        """Do the same for `answer`. Raises Overloaded, and then `answer` gets nothing."""
        loop = asyncio.get_running_loop()
        self._enqueue(detector, _Waiting(item, answer, time.monotonic()), loop)

    def _enqueue(self, detector: Detector, waiting: _Waiting, loop: asyncio.AbstractEventLoop) -> None:
        # What is a batch already must not stand in the way of rows that the event loop runs itself.
        key = id(detector), isinstance(waiting.item, Whole)
        queue = self._queues.get(key)
        if queue is None:
            # Versions come and go while a server runs; what nobody waits for needs no queue.
            self._queues = {other: open_ for other, open_ in self._queues.items() if open_.waiting}
            queue = self._queues[key] = _Queue(detector, min(self._most_rows, _rows_together(detector)))
        if self._rows and self._rows + waiting.rows > self._most_waiting_rows:
            self._counts.add("limits.max_waiting_rows")
            raise _overloaded(self._most_waiting_rows)
        queue.waiting.append(waiting)
        queue.rows += waiting.rows
        self._rows += waiting.rows
        self._schedule(loop)

    async def run(self, detector: Detector, call: Callable[[], T], rows: int) -> T:
        """Return what `call` returns, which runs in a lane: a batch that is one already. Raises likewise."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._enqueue(detector, _Waiting(Whole(call, rows), answer, time.monotonic(), trace=current_trace()), loop)
        return await answer

    def close(self) -> None:
        """End the threads; what is in work is finished first."""
        self._lanes.shutdown(cancel_futures=True)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start what can be started. Runs on the event loop, at most once a turn of it."""
        self._turn = None
        for quick in [queue for queue in self._queues.values() if queue.waiting and _is_quick(queue)]:
            self._run_here(quick, loop)
        while (queue := self._next(time.monotonic())) is not None and self._has_room_for(queue):
            reason = self._reason(queue, time.monotonic())
            # With several lanes what waits is shared out among them: two halves end sooner than one whole.
            share = -(-queue.rows // self._threads)
            batch = self._take(queue, min(queue.most_rows, share, _worthwhile(queue, _LANE_BATCH_MILLISECONDS)))
            if batch:
                self._count(batch, reason)
                self._running += 1
                done = self._lanes.submit(_run, queue.detector, [waiting.item for waiting in batch], _traced(batch))
                done.add_done_callback(partial(self._left_the_lane, loop, queue, batch))

    def _run_here(self, queue: _Queue, loop: asyncio.AbstractEventLoop) -> None:
        reason = self._reason(queue, time.monotonic())
        batch = self._take(queue, min(queue.most_rows, _worthwhile(queue, _INLINE_BATCH_MILLISECONDS)))
        if queue.waiting:  # the rest in the next turn: the sockets are looked after in between
            self._schedule(loop)
        if not batch:
            return
        self._count(batch, reason)
        done: Future[_Ran] = Future()
        try:
            done.set_result(_run(queue.detector, [waiting.item for waiting in batch], _traced(batch)))
        except Exception as defect:
            done.set_exception(defect)
            self._answer(queue, batch, done, loop)
            raise
        self._answer(queue, batch, done, loop)

    def _next(self, now: float) -> _Queue | None:
        """Return the queue whose batch goes next."""
        queues = (queue for queue in self._queues.values() if queue.waiting)
        return min(queues, key=lambda queue: (_RANKS[self._reason(queue, now)], queue.waiting[0].since), default=None)

    def _has_room_for(self, queue: _Queue) -> bool:
        if self._running < self._threads:
            return True
        took = queue.row_milliseconds
        is_brief = took is not None and took * queue.waiting[0].rows <= _IN_HAND_MILLISECONDS
        return is_brief and self._running < 2 * self._threads

    def _reason(self, queue: _Queue, now: float) -> Reason:
        if now - queue.waiting[0].since >= self._deadline:
            return "deadline"
        return "full" if queue.rows >= queue.most_rows else "idle"

    def _take(self, queue: _Queue, most: int) -> list[_Waiting]:
        """Take up to `most` rows out of the queue, one input at least, and leave out those that were given up."""
        batch: list[_Waiting] = []
        rows = 0
        while queue.waiting:
            first = queue.waiting[0]
            if batch and (rows + first.rows > most or _goes_alone(first) or _goes_alone(batch[0])):
                break
            queue.waiting.popleft()
            queue.rows -= first.rows
            self._rows -= first.rows
            if first.answer.done():
                self._counts.add("batches.given_up")
                continue
            batch.append(first)
            rows += first.rows
        return batch

    def _left_the_lane(
        self, loop: asyncio.AbstractEventLoop, queue: _Queue, batch: list[_Waiting], done: Future[_Ran]
    ) -> None:
        """Runs in the lane's thread: everything else is done on the event loop."""
        if loop.is_closed():  # whoever asked is gone, and the loop with them
            self._running -= 1
            return
        loop.call_soon_threadsafe(self._back_from_the_lane, loop, queue, batch, done)

    def _back_from_the_lane(
        self, loop: asyncio.AbstractEventLoop, queue: _Queue, batch: list[_Waiting], done: Future[_Ran]
    ) -> None:
        self._running -= 1
        self._answer(queue, batch, done, loop)
        self._dispatch(loop)

    def _answer(
        self, queue: _Queue, batch: list[_Waiting], done: Future[_Ran], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Give every input of a batch that has run its own answer."""
        defect = done.exception()
        if defect is not None and len(batch) > 1:
            self._again_one_by_one(queue, batch, loop)
            return
        if defect is not None:
            if not batch[0].answer.done():
                batch[0].answer.set_exception(defect)
            return
        outcomes, row_milliseconds = done.result()
        before = queue.row_milliseconds
        queue.row_milliseconds = (
            row_milliseconds if before is None else before + _WEIGHT_OF_THE_LATEST * (row_milliseconds - before)
        )
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, DetectorFailed | list):
                self._count_failures(queue.detector, outcome)
            if waiting.answer.done():
                continue
            if isinstance(outcome, DiscernError):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)

    def _again_one_by_one(self, queue: _Queue, batch: list[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """A defect met one input, nobody knows which: each is run by itself, so that only that one gets it."""
        self._counts.add("batches.split")
        for waiting in reversed(batch):
            waiting.alone = True
            queue.waiting.appendleft(waiting)
            queue.rows += waiting.rows
            self._rows += waiting.rows
        self._schedule(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._turn is not loop:
            self._turn = loop
            loop.call_soon(self._dispatch, loop)

    def _count(self, batch: list[_Waiting], reason: Reason) -> None:
        rows = sum(waiting.rows for waiting in batch)
        self._counts.add(f"batches.{reason}")
        # Sizes are counted by the power of two they reach.
        self._counts.add(f"batches.rows_to_{1 << (rows - 1).bit_length()}")
        self._counts.add("rows", rows)
        self._note_rows(rows)
        now = time.monotonic()
        for waiting in batch:
            self._note_waiting(now - waiting.since)

    def _count_failures(self, detector: Detector, outcome: DetectorFailed | list[object]) -> None:
        """Count inputs that come to no verdict, for their first stage failed; of others the verdict tells."""
        failed = sum(isinstance(one, DetectorFailed) for one in (outcome if isinstance(outcome, list) else [outcome]))
        if failed:
            manifest = detector.manifest
            stage = manifest.stages[0].name
            self._counts.measures.count("discern_stage_failures_total", manifest.name, stage, amount=failed)


class _Ran(NamedTuple):
    """What a batch gave: one outcome an input, and the processor time of a row."""

    outcomes: list[Any]
    row_milliseconds: float


def _traced(batch: Sequence[_Waiting]) -> Sequence[_Waiting]:
    """Return a batch where one of its inputs is a traced request's, and else nothing."""
    return batch if any([waiting.trace for waiting in batch]) else ()  # noqa: C419 - a list is quicker, for a few


def _run(detector: Detector, items: list[Item], traced: Sequence[_Waiting]) -> _Ran:
    """Run one batch in this thread; `traced` is all of it or nothing.

    A DiscernError of one input is its outcome; anything else raises.
    """
    # The event loop has this called on behalf of whoever came first, and a trace of theirs is not everybody's.
    if traced or current_trace() is not None:
        _note_waiting(traced)
        with done_for(None):
            return _outcomes(detector, items, [waiting.trace for waiting in traced])
    return _outcomes(detector, items, [])


def _note_waiting(traced: Sequence[_Waiting]) -> None:
    clock, now = time.perf_counter(), time.monotonic()
    about = {"discern.batch.inputs": len(traced), "discern.batch.rows": sum(waiting.rows for waiting in traced)}
    for waiting in traced:
        if waiting.trace is not None:
            waiting.trace.add(Piece("queue", clock - (now - waiting.since), clock, about))


def _outcomes(detector: Detector, items: list[Item], traces: list[Trace | None]) -> _Ran:
    """Do so; `traces` are those of the items, or none."""
    started = time.thread_time()
    first = items[0]
    outcomes: list[Any]
    if isinstance(first, Whole):
        outcomes = [_done_for(traces[0], first.call) if traces else first.call()]
    elif isinstance(first, RecordRow):
        outcomes = _run_records(detector, cast("list[RecordRow]", items), traces)
    else:
        outcomes = _run_media(detector, cast("list[Media]", items), traces)
    return _Ran(outcomes, (time.thread_time() - started) * 1000 / sum(map(_rows, items)))


def _done_for(trace: Trace | None, call: Callable[[], T]) -> T:
    with done_for(trace):
        return call()


def _run_records(detector: Detector, items: list[RecordRow], traces: list[Trace | None]) -> list[Outcome]:
    started = time.perf_counter()
    rows = np.array([item.values for item in items], dtype=np.float32)
    results = _judged(partial(detector.assess_rows, rows), traces)
    milliseconds = _since(started)
    return [
        result if isinstance(result, DiscernError) else Assessed(result, item.facts, milliseconds)
        for item, result in zip(items, results, strict=True)
    ]


def _run_media(detector: Detector, items: list[Media], traces: list[Trace | None]) -> list[Outcome]:
    outcomes: list[Outcome | None] = []
    ready: list[tuple[Prepared, float]] = []
    judged: list[Trace | None] = []
    for place, item in enumerate(items):
        started = time.perf_counter()
        try:
            prepared = _decoded(item, traces[place]) if traces else item.prepare()
        except DiscernError as error:
            outcomes.append(error)
            continue
        ready.append((prepared, _since(started)))
        judged += traces[place : place + 1]
        outcomes.append(None)
    started = time.perf_counter()
    call = partial(detector.assess_many, [prepared for prepared, _ in ready])
    results = _judged(call, judged) if ready else []
    running = _since(started)
    answers = iter(
        result
        if isinstance(result, DiscernError)
        else Assessed(result, prepared.facts, decoding + running, prepared.sketch, _pixels(prepared))
        for (prepared, decoding), result in zip(ready, results, strict=True)
    )
    return [next(answers) if outcome is None else outcome for outcome in outcomes]


def _decoded(item: Media, trace: Trace | None) -> Prepared:
    with done_for(trace), piece("decode", **{"discern.rows": item.rows}):
        return item.prepare()


def _judged(
    call: Callable[[], list[Assessment | DiscernError]], traces: list[Trace | None]
) -> list[Assessment | DiscernError]:
    """Return what `call` makes of inputs; note in their traces what each of them came to of what was done for all."""
    if not any(traces):
        return call()
    shared = Trace()
    with done_for(shared):
        results = call()
    for trace, result in zip(traces, results, strict=True):
        if trace is not None:
            _note_stages(trace, shared.pieces, result)
    return results


def _note_stages(trace: Trace, pieces: Sequence[Piece], result: Assessment | DiscernError) -> None:
    """Note the stages that an input came to, and which of them failed on it: on others' inputs is not its matter."""
    readings = {} if isinstance(result, DiscernError) else {reading.name: reading for reading in result.stages}
    for one in pieces:
        stage = one.attributes.get("discern.stage", "")
        if isinstance(result, DiscernError):
            trace.add(one._replace(failed=code_of(result)))
        elif stage in readings:
            trace.add(one._replace(failed="stage_failed") if readings[str(stage)].error is not None else one)


def _pixels(prepared: Prepared) -> NDArray[np.uint8] | None:
    return None if prepared.seconds else cast("NDArray[np.uint8]", prepared.tensor[0])


def _rows(item: Item) -> int:
    return 1 if isinstance(item, RecordRow) else item.rows


def _goes_alone(waiting: _Waiting) -> bool:
    return waiting.alone or isinstance(waiting.item, Whole)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _is_quick(queue: _Queue) -> bool:
    """Tell whether a row takes so little that the event loop runs it itself."""
    took = queue.row_milliseconds
    return took is not None and took < _INLINE_ROW_MILLISECONDS and isinstance(queue.waiting[0].item, RecordRow)


def _worthwhile(queue: _Queue, milliseconds: float) -> int:
    """Return how many rows take about so long, one at least; of a detector that has not run yet nothing is known."""
    took = queue.row_milliseconds
    return queue.most_rows if took is None else max(1, int(milliseconds / max(took, 1e-6)))


def _rows_together(detector: Detector) -> int:
    """Return how many rows are worth running together: of what runs per pixel few, of records many."""
    spec = detector.manifest.input
    row_bytes = spec.width * spec.height * 3 if isinstance(spec, ImageSpec) else 4 * len(spec.fields)
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // row_bytes))


def _overloaded(allowed: int) -> Overloaded:
    return Overloaded(
        f"As many rows as `max_waiting_rows` allows ({allowed}) are waiting.",
        mend="Try again in a second.",
        retry_after=1.0,
        limit="max_waiting_rows",
        allowed=allowed,
    )
