"""Whoever keeps failing is left alone for a while, then tried once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from discern.core.breakers import Breaker, Breakers, BreakerState, Guard, Guards, Patience

PATIENCE = Patience(failures=3, first_seconds=10.0, most_seconds=40.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(guard: Guard) -> None:
    for _ in range(PATIENCE.failures):
        guard.failed("no answer")


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    guard = Guard("store", "ledger", PATIENCE, clock=Clock())
    assert [guard.failed("no answer") for _ in range(2)] == [False, False]
    guard.succeeded()
    assert [guard.failed("no answer") for _ in range(3)] == [False, False, True]
    assert not guard.admits()
    assert guard.reading().state == "open"
    assert guard.reading().reason == "no answer"


def test_after_the_pause_one_is_let_through_and_closes_it() -> None:
    clock = Clock()
    guard = Guard("store", "ledger", PATIENCE, clock=clock)
    opened(guard)
    clock.now += 9.9
    assert not guard.admits()
    clock.now += 0.1
    assert guard.reading().state == "half-open"
    assert guard.admits()
    assert not guard.admits(), "one at a time"
    guard.succeeded()
    assert guard.admits()
    assert guard.reading().state == "closed"


def test_each_pause_is_twice_the_one_before_up_to_the_most() -> None:
    clock = Clock()
    guard = Guard("store", "ledger", PATIENCE, clock=clock)
    opened(guard)
    pauses = []
    for _ in range(4):
        pauses.append(guard.seconds_left())
        clock.now += guard.seconds_left()
        assert guard.admits()
        guard.failed("still not")
    assert pauses == [10.0, 20.0, 40.0, 40.0]


def test_who_never_says_what_came_of_the_try_is_not_waited_for_for_ever() -> None:
    clock = Clock()
    guard = Guard("store", "ledger", PATIENCE, clock=clock)
    opened(guard)
    clock.now += 10
    assert guard.admits()
    clock.now += 10.1
    assert guard.admits()


def test_every_opening_and_closing_is_told_once() -> None:
    clock = Clock()
    told: list[tuple[str, str, BreakerState, str]] = []
    breakers = Breakers(clock)
    guard = breakers.guard("stage", "toy/screen", PATIENCE)
    breakers.listener = lambda *change: told.append(change)
    opened(guard)
    guard.failed("one that was under way")
    clock.now += 10
    assert guard.admits()
    guard.failed("still not")
    clock.now += 20
    assert guard.admits()
    guard.succeeded()
    assert [(state, reason) for _, _, state, reason in told] == [("open", "no answer"), ("closed", "still not")]
    assert [one.state for one in breakers.readings()] == ["closed"]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=50))
def test_whatever_happens_it_lets_somebody_through_again(course: list[tuple[bool, float]]) -> None:
    now, breaker = 0.0, Breaker()
    for went_well, seconds in course:
        now += seconds
        breaker = breaker.succeeded() if went_well else breaker.failed(now, PATIENCE)
        assert breaker.until - now <= PATIENCE.most_seconds
    assert breaker.room(now + PATIENCE.most_seconds, 0)


def test_what_fails_for_one_workspace_is_left_alone_for_that_one() -> None:
    guards = Guards("webhook", 10, PATIENCE, clock=Clock())
    opened(guards.of("ours", "hooks.example:443"))
    assert not guards.of("ours", "hooks.example:443").admits()
    assert guards.of("ours", "other.example:443").admits()
    assert guards.of("theirs", "hooks.example:443").admits()
    assert [(one.workspace, one.name, one.state) for one in guards.readings()] == [
        ("ours", "hooks.example:443", "open")
    ]
    assert guards.worst() == "open"


def test_no_more_are_kept_than_so_many_and_who_names_many_makes_room_among_its_own() -> None:
    guards = Guards("webhook", 10, PATIENCE, clock=Clock())
    opened(guards.of("ours", "hooks.example:443"))
    for number in range(1000):
        opened(guards.of("theirs", f"{number}.example:443"))
    assert len(guards.readings()) == 10
    assert not guards.of("ours", "hooks.example:443").admits()
    assert not guards.of("theirs", "999.example:443").admits()


def test_of_many_the_worst_state_is_told() -> None:
    clock = Clock()
    guards = Guards("webhook", 10, PATIENCE, clock=clock)
    assert guards.worst() == "closed"
    opened(guards.of("ours", "a"))
    clock.now += 11
    assert guards.worst() == "half-open"
    opened(guards.of("ours", "b"))
    assert guards.worst() == "open"
    for name in "ab":
        guards.of("ours", name).succeeded()
    assert (guards.worst(), guards.readings()) == ("closed", [])
