"""Events in time: which belong together, and what follows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from discern.evaluation.events import Event, Recording, event_scores, event_tables, overlaps, pairs_of
from discern.evaluation.types import ClipEvents, Examples, Scored, Spans


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


def test_recordings_of_one_group_count_as_one() -> None:
    recordings = [Recording(600, events((10, 14)), events((11, 15)) if row % 4 else ()) for row in range(80)]
    alone = event_scores(recordings, seed=1, draws=50)
    together = event_scores(recordings, [row // 21 for row in range(80)], seed=1, draws=50)
    assert together.recall.value == alone.recall.value == pytest.approx(0.75)
    assert together.hours == pytest.approx(alone.hours)
    assert together.f1.value == pytest.approx(alone.f1.value)
    assert "only 4 groups" in (together.recall.caveat or "")
    assert "only 4 groups" in (together.f1.caveat or "")
    assert "only" not in (alone.recall.caveat or "")


def test_early_and_late_onsets_do_not_cancel() -> None:
    recordings = [Recording(60, events((10, 14), (30, 34)), events((9, 13), (31, 35))) for _ in range(30)]
    scores = event_scores(recordings, seed=1, draws=50)
    assert scores.delay.value == pytest.approx(0.0)
    assert scores.onset_error.value == pytest.approx(1.0)


def scored(true: dict[int, dict[str, Spans]], seen: dict[int, ClipEvents]) -> Scored:
    """Three clips, of which only events matter."""
    nothing = np.zeros(3)
    examples = Examples("d", "0", ("0", "1", "2"), np.zeros(3, np.int8), np.array([0, 1, 2]), events=true)
    codes = nothing.astype(np.int16), nothing.astype(np.int8), nothing.astype(np.int8)
    return Scored(examples, "toy", "1.0.0", "0", ("only",), nothing, nothing[:, None], *codes, {}, None, seen)


def test_clips_that_were_not_judged_or_have_too_few_frames_are_counted_with_their_events() -> None:
    true: dict[int, dict[str, Spans]] = {
        0: {"yawn": ((5.0, 3.0),), "nod": ()},
        1: {"yawn": ((5.0, 3.0), (20.0, 3.0))},
        2: {"yawn": ((70.0, 3.0),)},
    }
    seen = {0: ClipEvents(60.0, {"yawn": ((6.0, 3.0), (30.0, 2.0))}), 2: ClipEvents(60.0, {"blink": ()})}
    (table,), caveats = event_tables(scored(true, seen), ("blink", "yawn"), seed=1, draws=50)
    assert (table.name, table.not_judged, table.true_not_judged) == ("yawn", 2, 3)
    assert (table.scores.recall.value, table.scores.precision.value) == (1.0, 0.5)
    assert (table.scores.f1.low, table.scores.f1.caveat) == (None, "one group: no interval")
    assert table.scores.onset_error.value == pytest.approx(1.0)
    assert caveats == (
        "Events that the detector does not tell of: nod. It tells of blink, yawn.",
        "Events that the dataset does not name, so nothing is said of them: blink.",
        "1 event starts after the end of the clip: see events.csv.",
    )
    assert event_tables(scored({}, {}), ("blink",), seed=1, draws=50) == ((), ())
