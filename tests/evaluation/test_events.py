"""Events in time: which belong together, and what follows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from discern.evaluation.events import Event, Recording, event_scores, overlaps, pairs_of


def events(*spans: tuple[float, float]) -> tuple[Event, ...]:
    return tuple(Event(*span) for span in spans)


def test_each_event_is_paired_once_and_as_many_as_can_be() -> None:
    # The long one overlaps both; the short one only the first.
    assert pairs_of(events((0, 10), (20, 30)), events((5, 25), (1, 3)), 0.0) == [(0, 1), (1, 0)]
    assert pairs_of(events((0, 10)), events((1, 3), (4, 9)), 0.0) == [(0, 1)]
    assert pairs_of(events((0, 10)), events((1, 3)), 0.5) == []
    assert pairs_of(events((0, 10)), events((10, 12)), 0.0) == []
    assert pairs_of((), events((1, 2)), 0.0) == []


def test_the_pairing_is_the_best_there_is() -> None:
    random = Generator(PCG64(1))
    for _ in range(30):
        true, found = (events(*((s, s + random.uniform(1, 6)) for s in random.uniform(0, 20, 4))) for _ in range(2))
        overlap = overlaps(true, found)
        worths = []
        for order in itertools.permutations(range(4)):
            enough = [overlap[i, j] for i, j in enumerate(order) if overlap[i, j] > 0.2]
            worths.append((len(enough), sum(enough)))
        pairs = pairs_of(true, found, 0.2)
        assert (len(pairs), sum(overlap[pair] for pair in pairs)) == pytest.approx(max(worths))


def test_scores_of_events_by_hand() -> None:
    recordings = [
        Recording(1800, events((10, 14), (60, 63)), events((11, 15), (100, 101))),
        Recording(5400, events((5, 8)), events((5, 8), (30, 31), (40, 41))),
    ]
    scores = event_scores(recordings, seed=1, draws=50)
    assert (scores.true_events, scores.found_events, scores.hours) == (3, 5, 2.0)
    assert scores.recall.value == pytest.approx(2 / 3)
    assert scores.precision.value == pytest.approx(2 / 5)
    assert scores.f1.value == pytest.approx(4 / 8)
    assert scores.false_events_an_hour.value == pytest.approx(1.5)
    assert scores.delay.value == pytest.approx(0.5)
    assert "only 2 groups" in (scores.recall.caveat or "")


def test_recordings_without_events_say_how_few_false_ones_there_may_be() -> None:
    scores = event_scores([Recording(3600, (), ()) for _ in range(40)], seed=1, draws=50)
    assert (scores.recall.value, scores.precision.value, scores.f1.value) == (None, None, None)
    assert scores.false_events_an_hour.value == 0.0
    assert scores.false_events_an_hour.high == pytest.approx(3.689 / 40, abs=1e-4)
    assert event_scores([], seed=1).false_events_an_hour.value is None


def test_events_that_cannot_be_are_refused() -> None:
    for spans in (((3.0, 1.0),), ((np.nan, 2.0),)):
        with pytest.raises(ValueError, match="an event ends"):
            event_scores([Recording(60, events(*spans), ())], seed=1)
    with pytest.raises(ValueError, match="a recording has a length"):
        event_scores([Recording(0, (), ())], seed=1)
