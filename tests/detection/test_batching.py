"""Nobody ever gets another's answer, error or silence, however many ask at once and whatever becomes of the others."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.core.counts import Counts
from discern.core.errors import DetectorFailed, DiscernError, Overloaded, UnreadableInput
from discern.core.verdict import InputFacts
from discern.detection.batching import Assessed, Batcher, Media
from discern.detectors.assessment import Assessment, Detector
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageModel
from discern.inputs.record_reader import RecordReader, RecordRow
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits, Prepared
from tests.detectors import models

FIELDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def records() -> Detector:
    manifest = Manifest.model_validate(models.record_manifest() | {"files": {}})
    stage = manifest.stages[0]
    return Detector(manifest, "records", {stage.name: StageModel(stage.name, models.RECORD_FILES[stage.model])})


@pytest.fixture(scope="module")
def images() -> Detector:
    manifest = Manifest.model_validate(models.image_manifest() | {"files": {}})
    stage = manifest.stages[0]
    return Detector(manifest, "images", {stage.name: StageModel(stage.name, models.IMAGE_FILES[stage.model])})


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def batcher(counts: Counts) -> Iterator[Batcher]:
    batcher = Batcher(threads=2, most_rows=64, deadline_seconds=0.05, most_waiting_rows=5_000, counts=counts)
    yield batcher
    batcher.close()


def row(detector: Detector, values: tuple[float, ...]) -> RecordRow:
    spec = detector.manifest.input
    assert isinstance(spec, RecordSpec)
    return RecordReader(spec, InputLimits()).from_record(dict(zip(FIELDS, values, strict=True)))


def picture(detector: Detector, brightness: int, fate: str, gate: threading.Event | None = None) -> Media:
    """An image of one colour whose preparation does what `fate` says."""

    def prepare() -> Prepared:
        if gate is not None:
            gate.wait(10)
        if fate == "unreadable":
            raise UnreadableInput(f"picture {brightness}")
        if fate == "defect":
            raise RuntimeError(f"picture {brightness}")
        spec: Any = detector.manifest.input
        tensor = np.full((1, spec.height, spec.width, 3), brightness, np.uint8)
        return Prepared(tensor, InputFacts(kind="image", sha256=str(brightness), bytes=brightness))

    return Media(prepare, 1)


def assessed(detector: Detector, tensor: Any) -> Assessment:
    return detector.assess(Prepared(tensor, InputFacts(kind="image", sha256="", bytes=0)))


async def outcome(ask: Callable[[], Awaitable[Assessed]], patience: float) -> Any:
    """What a caller sees: the facts and the score, an error, or that it has lost its patience."""
    try:
        async with asyncio.timeout(patience):
            found = await ask()
    except (DiscernError, RuntimeError, TimeoutError) as error:
        return error
    return found.facts, found.assessment.score


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32), patience=st.sampled_from([0.0, 0.002, 5.0]))
def test_hundreds_of_callers_each_get_their_own(
    records: Detector, images: Detector, seed: int, patience: float
) -> None:
    chance = random.Random(seed)
    batcher = Batcher(threads=2, most_rows=32, deadline_seconds=0.01, most_waiting_rows=5_000, counts=Counts())
    fates = [chance.choices(["good", "unreadable", "defect"], [8, 1, 1])[0] for _ in range(256)]
    values = [tuple(chance.uniform(-3, 3) for _ in FIELDS) for _ in range(300)]

    async def caller(ask: Callable[[], Awaitable[Assessed]]) -> Any:
        await asyncio.sleep(chance.uniform(0, 0.01))
        return await outcome(ask, patience if chance.random() < 0.3 else 5.0)

    async def run() -> tuple[list[Any], list[Any], int]:
        given_up = [
            asyncio.create_task(caller(partial(batcher.assess, records, row(records, one)))) for one in values[:40]
        ]
        pictures = [caller(partial(batcher.assess, images, picture(images, at, fate))) for at, fate in enumerate(fates)]
        rows = [caller(partial(batcher.assess, records, row(records, one))) for one in values]
        asyncio.get_running_loop().call_later(0.004, lambda: [task.cancel() for task in given_up])
        found = await asyncio.gather(*pictures, *rows)
        cancelled = await asyncio.gather(*given_up, return_exceptions=True)
        return list(found[:256]), list(found[256:]), len(cancelled)

    of_pictures, of_rows, cancelled = asyncio.run(run())
    batcher.close()
    assert cancelled == 40
    for at, (fate, found) in enumerate(zip(fates, of_pictures, strict=True)):
        if isinstance(found, TimeoutError):
            continue
        if fate == "good":
            spec: Any = images.manifest.input
            alone = assessed(images, np.full((1, spec.height, spec.width, 3), at, np.uint8))
            assert found == (InputFacts(kind="image", sha256=str(at), bytes=at), alone.score)
        else:
            assert isinstance(found, UnreadableInput if fate == "unreadable" else RuntimeError)
            assert f"picture {at}" in str(found)
    for one, found in zip(values, of_rows, strict=True):
        if not isinstance(found, TimeoutError):
            mine = row(records, one)
            score = records.assess(Prepared(np.array([mine.values], np.float32), mine.facts)).score
            assert found[0] == mine.facts
            assert found[1] == pytest.approx(score, abs=1e-6)


def while_the_lanes_are_busy(
    batcher: Batcher, images: Detector, then: Callable[[], Awaitable[list[asyncio.Task[Any]]]]
) -> list[Any]:
    """Have every lane wait for a gate while `then` starts tasks; return what became of the tasks."""
    gate = threading.Event()

    async def run() -> list[Any]:
        busy = [asyncio.create_task(batcher.assess(images, picture(images, 1, "good", gate))) for _ in range(2)]
        await asyncio.sleep(0.05)
        try:
            started = await then()
        finally:
            gate.set()
        await asyncio.gather(*busy)
        return await asyncio.gather(*started, return_exceptions=True)

    return asyncio.run(run())


def test_one_input_alone_does_not_wait_for_company(batcher: Batcher, images: Detector, counts: Counts) -> None:
    asyncio.run(batcher.assess(images, picture(images, 3, "good")))
    assert counts.snapshot() == {"batches.idle": 1, "batches.rows_to_1": 1, "rows": 1}


def test_what_gathers_while_the_lanes_are_busy_goes_together(
    batcher: Batcher, images: Detector, counts: Counts
) -> None:
    async def gather() -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(batcher.assess(images, picture(images, at, "good"))) for at in range(8)]
        await asyncio.sleep(0.1)
        return tasks

    answered = while_the_lanes_are_busy(batcher, images, gather)
    assert [one.facts.bytes for one in answered] == list(range(8))
    found = counts.snapshot()
    # All eight had waited longer than the deadline when a lane came free, and were shared out between two.
    assert found["batches.deadline"] >= 1
    assert found["rows"] == 10
    assert found["batches.rows_to_4"] >= 1


def test_an_input_that_was_given_up_is_not_run(batcher: Batcher, images: Detector, counts: Counts) -> None:
    prepared: list[int] = []

    def prepare() -> Prepared:
        prepared.append(1)
        raise UnreadableInput("it was run")

    async def give_up() -> list[asyncio.Task[Any]]:
        task = asyncio.create_task(batcher.assess(images, Media(prepare, 1)))
        await asyncio.sleep(0.01)
        task.cancel()
        return [task]

    while_the_lanes_are_busy(batcher, images, give_up)
    assert prepared == []
    assert counts.snapshot()["batches.given_up"] == 1


def test_inputs_that_take_long_run_one_by_one(batcher: Batcher, images: Detector, counts: Counts) -> None:
    """Together they would gain nothing, and all would wait for the last."""
    easy = picture(images, 7, "good").prepare

    def laborious() -> Prepared:
        until = time.thread_time() + 0.006
        while time.thread_time() < until:
            pass
        return easy()

    async def run() -> None:
        await batcher.assess(images, Media(laborious, 1))
        await asyncio.gather(*(batcher.assess(images, Media(laborious, 1)) for _ in range(8)))

    asyncio.run(run())
    assert counts.snapshot()["batches.rows_to_1"] == 9


def test_a_lane_goes_on_to_its_next_batch_while_the_event_loop_is_busy(images: Detector) -> None:
    batcher = Batcher(threads=1, most_rows=1, deadline_seconds=1, most_waiting_rows=10, counts=Counts())
    second_began = threading.Event()
    easy = picture(images, 7, "good").prepare

    def second() -> Prepared:
        second_began.set()
        return easy()

    async def run() -> bool:
        await batcher.assess(images, Media(easy, 1))  # now it is known how long one takes
        asks = [asyncio.ensure_future(batcher.assess(images, Media(prepare, 1))) for prepare in (easy, second)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        went_on = second_began.wait(10)  # the event loop stands still
        await asyncio.gather(*asks)
        return went_on

    assert asyncio.run(run())
    batcher.close()


def test_more_rows_than_may_wait_are_refused_by_the_name_of_the_limit(images: Detector) -> None:
    counts = Counts()
    small = Batcher(threads=1, most_rows=4, deadline_seconds=1, most_waiting_rows=3, counts=counts)
    gate = threading.Event()

    async def run() -> list[Any]:
        asks = []
        for at in range(3):
            asks.append(
                asyncio.create_task(outcome(partial(small.assess, images, picture(images, at, "good", gate)), 10))
            )
            await asyncio.sleep(0.02)
        # One is in the lane and two wait; a clip of two frames would make four.
        asks.append(
            asyncio.create_task(
                outcome(partial(small.assess, images, Media(picture(images, 9, "good").prepare, 2)), 10)
            )
        )
        await asyncio.sleep(0.02)
        gate.set()
        return await asyncio.gather(*asks)

    *answered, refused = asyncio.run(run())
    small.close()
    assert isinstance(refused, Overloaded)
    assert refused.facts["limit"] == "max_waiting_rows"
    assert [facts.bytes for facts, _ in answered] == [0, 1, 2]
    assert counts.snapshot()["limits.max_waiting_rows"] == 1


def test_a_model_that_fails_fails_its_own_callers_only(batcher: Batcher, images: Detector) -> None:
    broken = Detector(images.manifest, "broken", {name: _Broken(model) for name, model in images._models.items()})

    async def run() -> tuple[Any, Any]:
        return await asyncio.gather(
            outcome(partial(batcher.assess, broken, picture(images, 5, "good")), 5),
            outcome(partial(batcher.assess, images, picture(images, 5, "good")), 5),
        )

    failed, good = asyncio.run(run())
    assert isinstance(failed, DetectorFailed)
    assert good[0].bytes == 5


class _Broken(StageModel):
    """A stage whose model answers NaN."""

    def __init__(self, model: StageModel) -> None:
        self.name, self.inputs, self.outputs, self.probability = (
            model.name,
            model.inputs,
            model.outputs,
            model.probability,
        )

    def run(self, feeds: Any, outputs: Any = ()) -> dict[str, Any]:
        rows = len(next(iter(feeds.values())))
        return {self.probability: np.full(rows, np.nan, np.float32)}
