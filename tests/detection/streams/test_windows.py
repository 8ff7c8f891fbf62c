"""What a window says follows from the inputs that came in its time, and from nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.verdict import InputFacts, StageReading, Verdict
from discern.detection.streams.rules import Window, Windows
from discern.detectors.manifest import StreamRule
from tests.detection.test_ledger import verdict


def rule(**members: Any) -> StreamRule:
    return StreamRule(**({"window_seconds": 10, "measure": "mean", "flag_at": 0.6} | members))


def scored(score: float, **members: Any) -> Verdict:
    return msgspec.structs.replace(verdict(), score=score, **members)


def closed(windows: Windows, scores: Sequence[tuple[float, float]]) -> list[Window]:
    return [window for at, score in scores for window in windows.add(scored(score), at)]


def test_a_window_closes_with_the_first_input_after_its_end_and_holds_those_before() -> None:
    found = closed(Windows(rule()), [(0, 0.2), (9.999, 0.4), (10, 1.0), (19, 1.0), (20, 0.0)])
    assert [(round(window.measure, 9), window.decision, window.inputs) for window in found] == [
        (0.3, "clear", 2),
        (1.0, "flag", 2),
    ]


@pytest.mark.parametrize(
    ("measure", "expected"), [({"measure": "mean"}, 0.5), ({"measure": "maximum"}, 0.9), (None, 2 / 3)]
)
def test_measures(measure: dict[str, Any] | None, expected: float) -> None:
    windows = Windows(rule(**(measure or {"measure": "fraction_above", "from": 0.5})))
    (window,) = closed(windows, [(0, 0.1), (1, 0.5), (2, 0.9), (11, 0.0)])
    assert window.measure == pytest.approx(expected)


def test_one_that_was_flagged_stays_so_until_it_falls_below_the_lower_threshold() -> None:
    windows = Windows(rule(clear_below=0.4, review_at=0.2))
    scores = [(0, 0.5), (10, 0.7), (20, 0.5), (30, 0.39), (40, 0.5), (50, 0.1), (60, 0.0)]
    found = closed(windows, scores)
    assert [window.decision for window in found] == ["review", "flag", "flag", "review", "review", "clear"]
    assert [window.judged.thresholds.flag_from for window in found] == [0.6, 0.6, 0.4, 0.4, 0.6, 0.6]
    for window in found:
        assert (window.decision == "flag") == (window.measure >= window.judged.thresholds.flag_from)


def test_the_score_of_a_stage_is_measured_where_the_rule_says_so_and_others_do_not_count() -> None:
    windows = Windows(rule(of="eyes"))
    windows.add(scored(0.9, stages=(StageReading("eyes", 0.1, 1.0),)), 0)
    windows.add(scored(0.9, stages=(StageReading("mouth", 0.9, 1.0),)), 1)
    (window,) = windows.add(scored(0.9, stages=(StageReading("eyes", 0.1, 1.0),)), 10)
    assert (window.inputs, window.measure) == (1, 0.1)


def test_too_few_inputs_give_no_window_and_a_long_pause_begins_anew() -> None:
    windows = Windows(rule(least=2))
    assert closed(windows, [(0, 1.0), (10, 1.0), (20, 1.0), (5000, 1.0), (5001, 1.0)]) == []
    (window,) = closed(windows, [(5010, 0.0)])
    assert window.inputs == 2


def test_a_window_that_would_be_clear_is_for_review_where_a_stage_failed_in_it() -> None:
    windows = Windows(rule())
    windows.add(scored(0.1, degraded="expert"), 0)
    (window,) = windows.add(scored(0.1), 10)
    assert (window.decision, window.degraded) == ("review", "expert")


def test_the_digest_is_of_the_digests() -> None:
    windows = Windows(rule())
    windows.add(verdict(), 0)
    windows.add(verdict(), 1)
    (window,) = windows.add(verdict(), 10)
    assert window.sha256 == hashlib.sha256(("ab" * 32 * 2).encode()).hexdigest()
    assert window.bytes == 34


@given(
    gaps=st.lists(st.floats(0, 40), min_size=1, max_size=40),
    scores=st.lists(st.floats(0, 1), min_size=40, max_size=40),
    every=st.sampled_from([None, 1.0, 2.5, 10.0]),
)
def test_a_window_is_a_run_of_inputs_that_came_within_its_time(
    gaps: list[float], scores: list[float], every: float | None
) -> None:
    windows = Windows(rule(measure="maximum", every_seconds=every))
    inputs: list[tuple[float, float, str]] = []
    at = 0.0
    for number, (gap, score) in enumerate(zip(gaps, scores, strict=False)):
        at += gap
        digest = f"{number:064x}"
        facts = InputFacts(kind="image", sha256=digest, bytes=1)
        for window in windows.add(scored(score, input=facts), at):
            runs = (inputs[start : start + window.inputs] for start in range(len(inputs)))
            (inside,) = [run for run in runs if window.sha256 == digest_of(run)]
            assert inside[-1][0] - inside[0][0] < 10
            assert window.measure == max(value for _, value, _ in inside)
        inputs.append((at, score, digest))


def digest_of(inputs: list[tuple[float, float, str]]) -> str:
    return hashlib.sha256("".join(digest for _, _, digest in inputs).encode()).hexdigest()


def test_what_is_remembered_is_bounded_by_the_window() -> None:
    windows = Windows(rule(every_seconds=1))
    for second in range(1000):
        windows.add(scored(0.5), float(second))
    assert len(windows._seen) <= 12


def test_what_is_not_known_closes_windows_and_keeps_them_from_being_clear() -> None:
    windows = Windows(rule(known_from=0.5, least=2))
    windows.add(scored(0.1), 0)
    windows.add_unknown(1)
    windows.add_unknown(2)
    (window,) = windows.add_unknown(10)
    assert (window.decision, window.degraded, window.inputs) == ("review", "known", 1)
    windows.add(scored(0.1), 11)
    windows.add(scored(0.1), 12)
    (window,) = windows.add(scored(0.1), 20)
    assert (window.decision, window.degraded, window.inputs) == ("clear", None, 2)


def test_a_window_that_shows_nobody_is_for_review_and_its_digest_is_of_nothing() -> None:
    windows = Windows(rule(known_from=0.5))
    windows.add_unknown(0)
    (window,) = windows.add_unknown(10)
    assert (window.decision, window.inputs, window.bytes) == ("review", 0, 0)
    assert window.sha256 == hashlib.sha256(b"").hexdigest()


def test_a_rule_that_does_not_ask_how_much_is_known_leaves_the_unknown_out() -> None:
    windows = Windows(rule())
    windows.add_unknown(0)
    windows.add(scored(0.1), 1)
    (window,) = windows.add_unknown(10)
    assert (window.decision, window.inputs, window.judged.timeline) == ("clear", 1, None)


def test_events_of_a_window_begin_in_it() -> None:
    yawn = {"name": "yawn", "of": "mouth", "from": 0.5, "shortest_seconds": 2}
    windows = Windows(rule(events=[yawn], also=[{"event": "yawn", "measure": "count", "flag_at": 1}], gap_seconds=2))
    closed = []
    for second in range(100, 121):
        mouth = StageReading("mouth", 0.9 if 113 <= second < 117 else 0.1, 1.0)
        closed += windows.add(scored(0.1, stages=(mouth,)), float(second))
    assert [window.judged.decided_by for window in closed] == ["window", "yawn.count"]
    timeline = closed[1].judged.timeline
    assert timeline is not None
    assert [(event.start, event.seconds) for event in timeline.events] == [(3.0, 4.0)]
