"""Requests that share a batch each have a trace of their own: of what was done for them, and of nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from discern.access.types import Principal
from discern.app import Services
from discern.core.counts import Counts
from discern.core.errors import CallerError, UnreadableInput, UnsupportedInput
from discern.core.tracing import NO_PARENT, Headers, Parent, Trace, current_trace, done_for
from discern.core.verdict import InputFacts
from discern.detection.batching import Batcher, Media
from discern.detection.service import traced_each
from discern.detection.types import DetectionRequest
from discern.detectors.assessment import Detector
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageModel
from discern.inputs.record_reader import RecordReader, RecordRow
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits, Prepared, Record
from tests.detectors import models


def detector_of(manifest: dict[str, Any], files: dict[str, bytes]) -> Detector:
    found = Manifest.model_validate(manifest | {"files": {}})
    return Detector(found, "x", {stage.name: StageModel(stage.name, files[stage.model]) for stage in found.stages})


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(threads=1, most_rows=64, deadline_seconds=0.05, most_waiting_rows=5_000, counts=Counts())
    yield batcher
    batcher.close()


def picture(detector: Detector, brightness: int, gate: threading.Event | None = None) -> Media:
    def prepare() -> Prepared:
        if gate is not None:
            gate.wait(10)
        if brightness < 0:
            raise UnreadableInput("It cannot be read.")
        spec: Any = detector.manifest.input
        tensor = np.full((1, spec.height, spec.width, 3), brightness, np.uint8)
        return Prepared(tensor, InputFacts(kind="image", sha256=str(brightness), bytes=brightness))

    return Media(prepare, 1)


async def ask(batcher: Batcher, detector: Detector, item: RecordRow | Media, trace: Trace | None) -> Any:
    with done_for(trace):
        try:
            return await batcher.assess(detector, item)
        except CallerError as error:
            return error


def names(trace: Trace) -> list[str]:
    return [piece.name for piece in trace.pieces]


def test_each_of_a_batch_gets_the_run_of_its_stages_and_its_own_decoding(batcher: Batcher) -> None:
    cascade = detector_of(models.cascade_manifest(), models.CASCADE_FILES)
    gate = threading.Event()
    first, clear, unclear, broken = (Trace.begun(NO_PARENT) for _ in range(4))

    async def run() -> list[Any]:
        waits = asyncio.create_task(ask(batcher, cascade, picture(cascade, 0, gate), first))
        await asyncio.sleep(0.05)  # it runs, and those that follow gather
        together = [
            asyncio.create_task(ask(batcher, cascade, picture(cascade, brightness), trace))
            for brightness, trace in ((0, clear), (128, unclear), (-1, broken), (255, None))
        ]
        await asyncio.sleep(0.05)
        gate.set()
        return list(await asyncio.gather(waits, *together))

    _, clear_answer, unclear_answer, error, _ = asyncio.run(run())
    assert isinstance(error, UnreadableInput)
    reached = {
        id(trace): [f"stage {reading.name}" for reading in answer.assessment.stages]
        for trace, answer in ((clear, clear_answer), (unclear, unclear_answer))
    }
    assert reached[id(clear)] != reached[id(unclear)]  # or this shows nothing
    assert names(clear) == ["queue", "decode", *reached[id(clear)]]
    assert names(unclear) == ["queue", "decode", *reached[id(unclear)]]
    assert names(broken) == ["queue", "decode"]
    assert [piece.failed for piece in broken.pieces] == ["", "unreadable_input"]
    (screen,), (same,) = ([p for p in trace.pieces if p.name == "stage screen"] for trace in (clear, unclear))
    assert (screen.started, screen.ended) == (same.started, same.ended)  # they ran together
    # How many go together depends on how long one takes.
    assert int(screen.attributes["discern.rows"]) >= 2
    queue = clear.pieces[0]
    assert queue.attributes["discern.batch.inputs"] == queue.attributes["discern.batch.rows"]
    assert int(queue.attributes["discern.batch.inputs"]) >= 2
    assert queue.ended - queue.started > 0.02
    assert names(first) == ["queue", "decode", "stage screen"]


def test_a_stage_that_fails_on_one_input_has_failed_for_that_one_alone(batcher: Batcher) -> None:
    manifest = models.record_manifest()
    roots = detector_of(manifest, dict.fromkeys(models.RECORD_FILES, models.root_model()))
    spec = roots.manifest.input
    assert isinstance(spec, RecordSpec)
    reader = RecordReader(spec, InputLimits())
    rows = [reader.from_record({"a": value, "b": 0.0, "c": 0.0}) for value in (0.25, -1.0)]
    traces = [Trace.begun(NO_PARENT) for _ in rows]

    async def run() -> list[Any]:
        asked = (ask(batcher, roots, row, trace) for row, trace in zip(rows, traces, strict=True))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    answers = asyncio.run(run())
    for trace, answer in zip(traces, answers, strict=True):
        (stage,) = [piece for piece in trace.pieces if piece.name.startswith("stage ")]
        assert bool(stage.failed) == isinstance(answer, Exception)
    assert {isinstance(answer, Exception) for answer in answers} == {True, False}


def test_what_the_event_loop_runs_for_all_is_not_noted_for_whoever_came_first(batcher: Batcher) -> None:
    records = detector_of(models.record_manifest(), models.RECORD_FILES)
    spec = records.manifest.input
    assert isinstance(spec, RecordSpec)
    reader = RecordReader(spec, InputLimits())
    seen: list[Trace | None] = []
    run_rows: Callable[..., Any] = records.assess_rows

    def watched(rows: Any) -> Any:
        seen.append(current_trace())
        return run_rows(rows)

    records.assess_rows = watched  # type: ignore[method-assign]
    trace = Trace.begun(NO_PARENT)

    async def run() -> None:
        for number in range(20):  # by then its rows are known to be quick, and run on the event loop
            await ask(batcher, records, reader.from_record({"a": number / 20, "b": 0.0, "c": 0.0}), None)
        asked = [ask(batcher, records, reader.from_record({"a": 0.5, "b": 0.0, "c": 0.0}), trace)]
        asked += [ask(batcher, records, reader.from_record({"a": n / 9, "b": 1.0, "c": 0.0}), None) for n in range(9)]
        await asyncio.gather(*asked)

    asyncio.run(run())
    assert names(trace) == ["queue", "stage only"]
    assert trace.pieces[1].attributes["discern.rows"] == 10
    assert trace not in seen
    assert seen[-1] is not None


class Everything:
    """Traces all there is, and keeps it."""

    is_on = True

    def __init__(self) -> None:
        self.ended: list[Trace] = []

    def sample(self, headers: Headers = ()) -> Parent | None:
        return NO_PARENT

    def end(self, trace: Trace) -> None:
        self.ended.append(trace)


def test_messages_of_a_stream_are_traced_each_by_itself(services: Services) -> None:
    tracer = Everything()
    detect = traced_each(services.detect, tracer, "stream message")
    principal = Principal("key:test", "default", "owner")

    async def run() -> None:
        for number in range(3):
            content: Record = {"a": number / 3, "b": 0.0, "c": 0.0}
            await detect(DetectionRequest(principal, "toy-record", content, is_live=True))
        with pytest.raises(UnsupportedInput):
            await detect(DetectionRequest(principal, "toy-image", {"a": 1.0}, is_live=True))
        assert current_trace() is None

    asyncio.run(run())
    assert [trace.name for trace in tracer.ended] == ["stream message"] * 4
    assert len({trace.trace_id for trace in tracer.ended}) == 4
    for trace in tracer.ended[:3]:
        assert names(trace)[-3:] == ["queue", "stage only", "ledger"]
        assert trace.attributes["discern.workspace"] == "default"
    assert tracer.ended[3].failed == "unsupported_input"
