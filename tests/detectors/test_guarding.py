"""A stage that fails is left alone, one that can be mended is, and inputs are not mistaken for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.core.breakers import Breakers
from discern.detectors.guarding import STAGE_PATIENCE, GuardedModel
from discern.detectors.runtime import StageFailed, StageModel
from tests.detectors import models

GOOD = {"record": np.zeros((2, 3), np.float32)}


class Breaking(StageModel):
    """A real model whose session can be made to break, as one on a lost device does."""

    broken = False

    def compute(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        if self.broken:
            raise MemoryError("the device is gone")
        return super().compute(names, feeds)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A guarded model, what it was told, and what it reopens as."""

    def __init__(self, content: bytes = models.RECORD_FILES["only.onnx"]) -> None:
        self.clock = Clock()
        self.breakers = Breakers(self.clock)
        self.inner = Breaking("only", content)
        self.next: StageModel | None = None
        self.told: list[tuple[str, str]] = []
        guard = self.breakers.guard("stage", "toy/only", STAGE_PATIENCE)
        self.model = GuardedModel(self.inner, guard, self._reopen, lambda *one: self.told.append(one))

    def _reopen(self) -> StageModel:
        if self.next is None:
            raise StageFailed("only", "its file cannot be read again")
        return self.next

    def fail(self, times: int, feeds: Mapping[str, NDArray[Any]] = GOOD) -> None:
        for _ in range(times):
            with pytest.raises(StageFailed):
                self.model.run(feeds)

    @property
    def state(self) -> str:
        return self.breakers.readings()[0].state


def test_a_broken_stage_is_left_alone_and_found_to_be_well_again() -> None:
    stage = Stage()
    stage.model.run(GOOD)
    stage.inner.broken = True
    stage.fail(5)
    assert stage.state == "open"
    stage.inner.broken = False
    with pytest.raises(StageFailed, match="left alone for 15 s more"):
        stage.model.run(GOOD)
    stage.clock.now += 15
    assert len(stage.model.run(GOOD)[stage.model.probability]) == 2
    assert stage.state == "closed"


def test_a_session_that_is_broken_is_replaced_and_the_next_is_answered() -> None:
    stage = Stage()
    before = stage.model.run(GOOD)
    stage.inner.broken = True
    stage.next = StageModel("only", models.RECORD_FILES["only.onnx"])
    stage.fail(5)
    assert stage.state == "closed"
    assert stage.told == [("toy/only", "ONNX Runtime failed: the device is gone")]
    after = stage.model.run(GOOD)
    assert np.array_equal(before[stage.model.probability], after[stage.model.probability])


def test_one_that_breaks_again_at_once_takes_no_place() -> None:
    stage = Stage()
    stage.inner.broken = True
    successor = Breaking("only", models.RECORD_FILES["only.onnx"])
    successor.broken = True
    stage.next = successor
    stage.fail(5)
    assert stage.state == "open"
    assert stage.told == []


def test_inputs_that_break_a_run_do_not_close_it_to_others() -> None:
    stage = Stage(models.poisoned_model())
    poison = {"record": np.ones((1, 3), np.float32)}
    for _ in range(4):
        stage.fail(5, poison)
        assert stage.state == "closed"
        stage.model.run(GOOD)


def test_a_failure_now_and_then_opens_nothing() -> None:
    stage = Stage()
    for _ in range(10):
        stage.inner.broken = True
        stage.fail(4)
        stage.inner.broken = False
        stage.model.run(GOOD)
    assert stage.state == "closed"
