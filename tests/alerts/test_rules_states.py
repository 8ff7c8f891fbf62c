"""An alert begins, holds and ends as its rule says, whatever the value and the clock do."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.alerts.rules_states import MOST_OF_A_RULE, OVERFLOW, begun, key_of, next_states, shifted
from discern.alerts.types import Alert, Labels, Rule
from discern.core.ids import uuid7
from tests.alerts.parts import START, rule

A: Labels = (("name", "a"),)


class World:
    """The alerts of one rule, evaluated step by step."""

    def __init__(self, said: Rule) -> None:
        self.rule = said
        self.known: dict[Labels, Alert] = {}
        self.over: list[Alert] = []
        self.now = START

    def step(self, value: float | None = None, after: float = 5.0, **values: float) -> str:
        self.now += timedelta(seconds=after)
        observed: dict[Labels, float] = {(("name", name),): one for name, one in values.items()}
        if value is not None:
            observed[A] = value
        self.observe(observed)
        return self.known[A].state if A in self.known else "resolved" if self.over else "inactive"

    def observe(self, observed: dict[Labels, float]) -> None:
        changes = list(next_states(self.rule, observed, self.known, self.now, self._begin))
        for alert, is_gone, _ in changes:
            key = key_of(self.rule, alert)
            self.known[key] = alert
            if is_gone or alert.state == "resolved":
                del self.known[key]
                self.over.extend([] if is_gone else [alert])

    def _begin(self, said: Rule, labels: Labels, value: float) -> Alert:
        return begun(uuid7(), said, labels, value, self.now, workspace=None)


def test_it_fires_once_it_was_broken_for_as_long_as_the_rule_says() -> None:
    world = World(rule(lasting=10))
    assert [world.step(11) for _ in range(4)] == ["pending", "pending", "firing", "firing"]
    alert = world.known[A]
    assert alert.fired_at is not None
    assert alert.fired_at - alert.began_at == timedelta(seconds=10)
    assert alert.summary == "a is 11"


def test_what_is_well_again_before_that_leaves_nothing() -> None:
    world = World(rule(lasting=10))
    assert [world.step(one) for one in (11, 11, 9, 11, 11)] == [
        "pending",
        "pending",
        "inactive",
        "pending",
        "pending",
    ]
    assert world.over == []


def test_what_swings_about_the_threshold_is_one_alert() -> None:
    plain, steady = World(rule()), World(rule(clear=5.0))
    values = [11, 9, 11, 8, 12, 6] * 5
    for value in values:
        plain.step(value)
        steady.step(value)
    assert len(plain.over) == 15
    assert steady.over == []
    assert steady.step(5) == "resolved"
    assert len(steady.over) == 1


def test_it_goes_on_firing_for_as_long_as_the_rule_says() -> None:
    world = World(rule(keep_firing=12))
    assert [world.step(one) for one in (11, 1, 1, 1, 1)] == ["firing", "firing", "firing", "firing", "resolved"]
    assert [world.step(one) for one in (11, 1, 11, 1, 1, 1, 1)][-2:] == ["firing", "resolved"]


def test_a_value_that_must_not_be_low_is_held_against_below() -> None:
    world = World(rule(below=2.0, clear=4.0))
    assert [world.step(one) for one in (3, 1, 3, 4)] == ["inactive", "firing", "firing", "resolved"]


def test_what_cannot_be_measured_changes_nothing_for_a_minute() -> None:
    world = World(rule())
    world.step(11)
    assert {world.step(None) for _ in range(12)} == {"firing"}
    assert world.step(None) == "resolved"
    pending = World(rule(lasting=300))
    pending.step(11)
    assert pending.step(None) == "pending"
    assert pending.step(11) == "pending"
    assert pending.known[A].missing_since is None


def test_a_clock_that_was_put_back_makes_nothing_wait_for_hours() -> None:
    world = World(rule(lasting=10, keep_firing=10))
    world.step(11)
    assert [world.step(11, after=one) for one in (-7200, 5, 5)] == ["pending", "pending", "firing"]
    world.step(1)
    assert [world.step(1, after=one) for one in (-7200, 5, 5)] == ["firing", "firing", "resolved"]


def test_a_jump_of_the_clock_is_taken_out_of_the_times() -> None:
    world = World(rule(lasting=3600))
    world.step(11)
    jump = timedelta(hours=2)
    world.known[A] = shifted(world.known[A], jump)
    world.now += jump
    assert world.step(11) == "pending"
    assert world.step(11, after=3590) == "pending"
    assert world.step(11) == "firing"


def test_of_one_rule_there_are_a_thousand_alerts_and_one_for_the_rest() -> None:
    world = World(rule())
    many: dict[Labels, float] = {(("name", f"n{number:05}"),): 20.0 + number for number in range(10_000)}
    world.observe(many)
    assert len(world.known) == MOST_OF_A_RULE + 1
    rest = world.known[(("name", ""), (OVERFLOW, "true"))]
    assert "beyond 1000 alerts" in rest.description
    assert rest.value == 20.0 + 9_999
    world.now += timedelta(seconds=5)
    world.observe(many)
    assert len(world.known) == MOST_OF_A_RULE + 1
    world.observe(dict.fromkeys(many, 0.0))
    assert len(world.known) == 1, "the one for the rest is missing, and waited for"
    world.now += timedelta(seconds=70)
    world.observe(dict.fromkeys(many, 0.0))
    world.now += timedelta(seconds=70)
    world.observe(dict.fromkeys(many, 0.0))
    assert world.known == {}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 20)), st.floats(-100, 100)), max_size=60),
    st.sampled_from([0.0, 10.0]),
    st.sampled_from([0.0, 10.0]),
    st.sampled_from([None, 5.0]),
)
def test_whatever_happens_an_alert_that_fires_was_broken_and_one_that_ended_was_well(
    steps: list[tuple[float | None, float]], lasting: float, keep: float, clear: float | None
) -> None:
    world = World(rule(lasting=lasting, keep_firing=keep, clear=clear))
    for value, after in steps:
        before = world.known.get(A)
        world.step(value, after=after)
        alert = world.known.get(A)
        if alert is not None and alert.state == "firing" and (before is None or before.state == "pending"):
            assert value is not None
            assert value > 10
        if before is not None and before.state == "firing" and alert is None:
            assert value is None or value <= (10.0 if clear is None else clear)
        times = [] if alert is None else [alert.began_at, alert.quiet_since, alert.missing_since]
        assert all(at is None or at <= world.now for at in times)


def test_an_alert_of_a_series_has_its_labels_and_those_of_all() -> None:
    said = rule(by=("workspace", "name"))
    made = begun(uuid7(), said, (("workspace", ""), ("name", "a")), 1.0, START, workspace=None, machine="box")
    expected = {
        "name": "a",
        "alertname": "DiscernLevelHigh",
        "severity": "warning",
        "kind": "metric",
        "instance": "box",
    }
    assert made.labels == expected
    assert made.everywhere
    assert isinstance(made.id, UUID)
    assert isinstance(made.began_at, datetime)


@pytest.mark.parametrize("function", ["absent", "stopped"])
def test_functions_without_a_threshold_fire_on_what_they_find(function: str) -> None:
    world = World(rule(function=function, above=None))
    assert [world.step(one) for one in (0, 1, 0)] == ["inactive", "firing", "resolved"]
