from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import pytest

from discern.access.types import Principal
from discern.core.errors import DiscernError, Overloaded, UnreadableInput
from discern.core.verdict import Verdict
from discern.detection.service_batches import judged_media, judged_records
from discern.detection.types import BatchRequest, DetectBatch
from discern.inputs.uploads import Member

BATCH = BatchRequest(Principal("local", "default"), "toy", (), "1.0.0")
Answers = list[Verdict | DiscernError]


class Plane:
    """Answers contents with themselves, and fails at the calls in `failing`; `events` tells what happened in order."""

    def __init__(self, *failing: int) -> None:
        self.events: list[str] = []
        self._failing = failing
        self._calls = 0

    async def detect_batch(self, batch: BatchRequest) -> Answers:
        self._calls += 1
        self.events.append(f"asked {len(batch.contents)}")
        if self._calls in self._failing:
            raise Overloaded("Too much.")
        return cast("Answers", list(batch.contents))

    def read(self, number: int) -> bytes:
        self.events.append(f"read {number}")
        if number == 3:
            raise UnreadableInput("No picture.")
        return str(number).encode()


def ask(plane: Plane, sizes: Sequence[int]) -> list[list[object]]:
    members = [Member(str(number), size, partial(plane.read, number)) for number, size in enumerate(sizes)]

    async def all_of_them() -> list[list[object]]:
        detect_batch: DetectBatch = plane.detect_batch
        return [list(answers) async for answers in judged_media(detect_batch, BATCH, members)]

    return asyncio.run(all_of_them())


def test_a_group_is_read_when_the_one_before_it_is_answered() -> None:
    plane = Plane()
    found = ask(plane, [20_000_000, 20_000_000, 1])
    assert found == [[b"0"], [b"1", b"2"]]
    assert plane.events == ["read 0", "asked 1", "read 1", "read 2", "asked 2"]


def test_a_member_that_cannot_be_read_is_its_own_answer() -> None:
    (answers,) = ask(Plane(), [1] * 5)
    assert isinstance(answers[3], UnreadableInput)
    assert answers[:3] + answers[4:] == [b"0", b"1", b"2", b"4"]


def test_what_fails_before_anything_is_judged_fails_the_whole() -> None:
    with pytest.raises(Overloaded):
        ask(Plane(1), [20_000_000] * 3)


def test_what_fails_later_is_the_answer_of_its_items() -> None:
    first, second, third = ask(Plane(2), [20_000_000] * 3)
    assert (first, third) == ([b"0"], [b"2"])
    assert isinstance(second[0], Overloaded)


def records(plane: Plane, count: int) -> list[object]:
    batch = replace(BATCH, contents=[str(number).encode() for number in range(count)])
    return list(asyncio.run(judged_records(plane.detect_batch, batch)))


@pytest.mark.parametrize("count", [1, 1000, 1001, 2500])
def test_records_are_answered_in_order_however_they_are_parted(count: int) -> None:
    plane = Plane()
    assert records(plane, count) == [str(number).encode() for number in range(count)]
    assert len(plane.events) == -(-count // 1000)


def test_a_part_that_fails_is_the_answer_of_its_records() -> None:
    found = records(Plane(2), 2500)
    assert found[999:] == [b"999", *[found[1000]] * 1000, *(str(number).encode() for number in range(2000, 2500))]
    assert isinstance(found[1000], Overloaded)


@pytest.mark.parametrize("count", [5, 2500])
def test_records_of_which_none_could_be_judged_fail_together(count: int) -> None:
    with pytest.raises(Overloaded):
        records(Plane(1, 2, 3), count)
