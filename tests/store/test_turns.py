"""One process at a time has a turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from discern.app import Services
from discern.store.turns import Turn


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(two_workspaces: Services, clock: Clock) -> tuple[Turn, Turn]:
    database = two_workspaces.database
    first, second = (Turn(database, "alerts", seconds=15, clock=clock) for _ in range(2))
    return first, second


def test_one_has_it_and_goes_on_having_it(pair: tuple[Turn, Turn], clock: Clock) -> None:
    first, second = pair
    for _ in range(10):
        assert first.take()
        assert not second.take()
        clock.wait(4)


def test_who_died_is_waited_for_until_the_turn_runs_out(pair: tuple[Turn, Turn], clock: Clock) -> None:
    first, second = pair
    assert first.take()
    clock.wait(14.9)
    assert not second.take()
    clock.wait(0.1)
    assert second.take()
    assert not first.take(), "the first was away too long, and the second has it"


def test_what_is_given_back_another_has_at_once(pair: tuple[Turn, Turn]) -> None:
    first, second = pair
    assert first.take()
    second.give_back()
    assert not second.take(), "only the holder can give it back"
    first.give_back()
    assert second.take()


def test_a_clock_that_goes_back_is_no_reason_to_believe_the_turn_is_ours(pair: tuple[Turn, Turn], clock: Clock) -> None:
    first, second = pair
    assert first.take()
    clock.wait(20)
    assert second.take()
    clock.wait(-19)
    assert not first.take()


def test_who_died_before_the_clock_was_put_back_by_a_day_is_not_waited_for_a_day(
    pair: tuple[Turn, Turn], clock: Clock
) -> None:
    first, second = pair
    assert first.take()
    clock.wait(-86_400)
    assert second.take()
    assert not first.take(), "it is the second's, as any other turn would be"


def test_who_has_the_turn_writes_it_anew_after_the_clock_was_put_back(pair: tuple[Turn, Turn], clock: Clock) -> None:
    first, second = pair
    assert first.take()
    clock.wait(-86_400)
    assert first.take()
    assert not second.take()
    clock.wait(15)
    assert second.take(), "the first has died, and its turn has run out"


def test_turns_of_other_names_are_others(two_workspaces: Services, clock: Clock) -> None:
    assert Turn(two_workspaces.database, "alerts", clock=clock).take()
    assert Turn(two_workspaces.database, "drift", clock=clock).take()
