"""Events, measures and what a window comes to, counted by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.verdict import Event
from discern.detectors.manifest import EventRule, StreamRule
from discern.detectors.timeline import MOST_EVENTS, Judge, Judgement, Sample, judge_clip, stretches

BLINK = {"name": "blink", "of": "eyes", "from": 0.5, "shortest_seconds": 0.08, "longest_seconds": 0.48}
CLOSURE = {"name": "closure", "of": "eyes", "from": 0.5, "shortest_seconds": 0.5}
YAWN = {"name": "yawn", "of": "mouth", "from": 0.5, "shortest_seconds": 2.0}


def rule(**changes: Any) -> StreamRule:
    """A tenth of closed eyes is for review, three of twenty flagged."""
    usual = {"window_seconds": 60, "measure": "fraction_above", "of": "eyes", "from": 0.5}
    usual |= {"review_at": 0.1, "flag_at": 0.15, "clear_below": 0.1, "least": 10, "known_from": 0.6}
    return StreamRule(**(usual | {"events": [BLINK, CLOSURE, YAWN]} | changes))


def frames(
    seconds: float,
    *,
    closed: Iterable[tuple[float, float]] = (),
    open_mouth: Iterable[tuple[float, float]] = (),
    hidden: Iterable[tuple[float, float]] = (),
    rate: int = 25,
) -> list[Sample]:
    """Frames at `rate`, with closed eyes, an open mouth or no face from one time to before another."""
    spans = {"eyes": tuple(closed), "mouth": tuple(open_mouth)}

    def within(at: float, times: Iterable[tuple[float, float]]) -> bool:
        return any(start <= at < end for start, end in times)

    found = []
    for number in range(round(seconds * rate)):
        at = number / rate
        scores: dict[str | None, float] = {None: 0.3}
        scores |= {name: 0.9 if within(at, times) else 0.1 for name, times in spans.items()}
        found.append(Sample(at, None if within(at, hidden) else scores))
    return found


def judged(samples: list[Sample], **changes: Any) -> Judgement:
    return Judge(rule(**changes)).judge(samples, 0.0, 60.0)


def counted(judgement: Judgement) -> dict[str, tuple[int, float, float]]:
    assert judgement.timeline is not None
    return {one.name: (one.count, one.mean_seconds, one.longest_seconds) for one in judgement.timeline.counts}


def test_blinks_closures_and_yawns_are_told_apart_by_how_long_they_last() -> None:
    closed = [(1, 1.2), (5, 5.4), (10, 10.04), (20, 21)]
    found = judged(frames(60, closed=closed, open_mouth=[(30, 33), (40, 41.8)]))
    assert counted(found) == {"blink": (2, 0.3, 0.4), "closure": (1, 1.0, 1.0), "yawn": (1, 3.0, 3.0)}
    assert found.timeline is not None
    assert found.timeline.events == (
        Event("blink", 1.0, 0.2),
        Event("blink", 5.0, 0.4),
        Event("closure", 20.0, 1.0),
        Event("yawn", 30.0, 3.0),
    )
    assert [one.per_minute for one in found.timeline.counts] == [2.0, 1.0, 1.0]


def test_the_measure_is_the_share_of_known_frames_and_not_of_all() -> None:
    found = judged(frames(60, closed=[(0, 6)], hidden=[(40, 60)]))
    assert found.decision == "flag"
    assert found.score == pytest.approx(6 / 40)
    assert found.timeline is not None
    assert found.timeline.known == pytest.approx(40 / 60, abs=1e-6)


@pytest.mark.parametrize(
    ("closed_seconds", "decision"), [(5.96, "clear"), (6.0, "review"), (8.96, "review"), (9.0, "flag")]
)
def test_a_threshold_belongs_to_what_is_above_it(closed_seconds: float, decision: str) -> None:
    assert judged(frames(60, closed=[(10, 10 + closed_seconds)])).decision == decision


def test_a_window_of_which_too_little_is_known_is_for_review_and_never_clear() -> None:
    awake = judged(frames(60, hidden=[(0, 25)]))
    asleep = judged(frames(60, closed=[(50, 60)], hidden=[(0, 25)]))
    nobody = judged(frames(60, hidden=[(0, 60)]))
    assert [(one.decision, one.degraded) for one in (awake, asleep, nobody)] == [("review", "known")] * 3
    assert (nobody.score, nobody.thresholds.flag_from) == (0.0, 0.15)
    assert judged(frames(60, hidden=[(0, 23.9)])).decision == "clear"


def test_few_frames_are_too_little_however_many_of_them_are_known() -> None:
    assert judged(frames(60, rate=1), least=61).degraded == "known"
    assert judged(frames(60, rate=1), least=60).decision == "clear"


def test_what_is_not_known_takes_no_event_back() -> None:
    also = [{"event": "closure", "measure": "longest_seconds", "flag_at": 2}]
    found = judged(frames(60, closed=[(50, 53)], hidden=[(0, 45)]), also=also)
    assert (found.decision, found.decided_by, found.degraded) == ("flag", "closure.longest_seconds", None)


def test_of_several_measures_the_most_severe_speaks_and_its_score_follows_its_thresholds() -> None:
    also = [{"event": "yawn", "measure": "count", "review_at": 1, "flag_at": 2}]
    one = judged(frames(60, closed=[(0, 1)], open_mouth=[(10, 13)]), also=also)
    two = judged(frames(60, closed=[(0, 6.5)], open_mouth=[(10, 13), (20, 23)]), also=also)
    assert [(found.decision, found.decided_by) for found in (one, two)] == [
        ("review", "yawn.count"),
        ("flag", "yawn.count"),
    ]
    # Thirty yawns of two seconds fill a minute.
    assert (two.score, two.thresholds.review_from, two.thresholds.flag_from) == (2 / 30, 1 / 30, 2 / 30)
    assert two.timeline is not None
    assert [(reading.name, reading.decision) for reading in two.timeline.measures] == [
        ("window", "review"),
        ("yawn.count", "flag"),
    ]


def test_each_measure_stays_flagged_until_it_falls_below_its_own_lower_threshold() -> None:
    also = [{"event": "yawn", "measure": "count", "review_at": 1, "flag_at": 3, "clear_below": 2}]
    judge = Judge(rule(also=also))
    yawns = [(10, 13), (20, 23), (30, 33)]
    found = [
        judge.judge(frames(60, open_mouth=yawns[:many], hidden=hidden), 0.0, 60.0)
        for many, hidden in ((2, ()), (3, ()), (2, ()), (1, ()), (2, ()))
    ]
    assert [one.decision for one in found] == ["review", "flag", "flag", "review", "review"]


def test_ignorance_does_not_end_a_flag() -> None:
    judge = Judge(rule())
    tired, between = frames(60, closed=[(0, 9)]), frames(60, closed=[(0, 7)])
    decisions = [judge.judge(one, 0.0, 60.0).decision for one in (tired, frames(60, hidden=[(0, 60)]), between)]
    assert decisions == ["flag", "review", "flag"]


def test_a_blink_whose_end_or_beginning_is_not_seen_is_none() -> None:
    samples = frames(60, closed=[(0, 0.2), (10, 10.2), (59.8, 60)], hidden=[(10.2, 12)])
    assert counted(judged(samples))["blink"][0] == 0
    assert counted(judged(frames(60, closed=[(58, 60)])))["closure"] == (1, 1.96, 1.96)


def test_a_frame_without_a_face_within_an_event_does_not_part_it_but_a_long_gap_does() -> None:
    short = judged(frames(60, closed=[(10, 13)], hidden=[(11, 11.4)]))
    long = judged(frames(60, closed=[(10, 13)], hidden=[(11, 11.8)]))
    assert counted(short)["closure"] == (1, 3.0, 3.0)
    assert counted(long)["closure"] == (2, 1.08, 1.2)


def test_events_are_not_counted_where_frames_are_too_few_for_them() -> None:
    events = [BLINK | {"least_per_second": 15}, CLOSURE]
    found = judged(frames(60, closed=[(10, 11)], rate=10), events=events)
    assert counted(found) == {"closure": (1, 1.0, 1.0)}


def test_what_is_told_one_by_one_is_bounded_and_the_counts_are_of_all() -> None:
    closed = [(at / 2, at / 2 + (0.4 if at == 100 else 0.12)) for at in range(1, 119)]
    found = judged(frames(60, closed=closed))
    assert found.timeline is not None
    assert counted(found)["blink"][0] == 118
    assert len(found.timeline.events) == MOST_EVENTS
    assert Event("blink", 50.0, 0.4) in found.timeline.events


def test_a_rule_that_looks_for_no_events_tells_of_none() -> None:
    plain = StreamRule(window_seconds=60, measure="mean", flag_at=0.5)
    assert Judge(plain).judge(frames(60), 0.0, 60.0).timeline is None


def test_a_clip_is_as_bad_as_the_worst_of_its_windows() -> None:
    samples = frames(200, closed=[(95, 105)])
    found = judge_clip(samples, 200.0, rule(every_seconds=5))
    assert found.decision == "flag"
    assert found.score == pytest.approx(1 / 6)
    assert found.timeline is not None
    assert found.timeline.start == 45.0
    assert judge_clip(samples, 200.0, rule()).timeline is not None


def test_a_clip_that_is_shorter_than_a_window_is_judged_whole_and_its_end_counts() -> None:
    assert judge_clip(frames(10, closed=[(8, 10)]), 10.0, rule()).score == pytest.approx(0.2)
    late = judge_clip(frames(61, closed=[(51, 61)]), 61.0, rule())
    assert late.score == pytest.approx(10 / 60, abs=1e-3)
    assert judge_clip(frames(0.2), 0.2, rule()).degraded == "known"


@given(st.floats(0.01, 700), st.floats(0.001, 60))
def test_windows_over_a_clip_come_to_an_end_and_hold_its_last_frame(seconds: float, every: float) -> None:
    samples = [Sample(0.0, {"eyes": 0.1}), Sample(seconds, {"eyes": 0.9})]
    found = judge_clip(samples, seconds, rule(every_seconds=every, least=1, known_from=None, events=[]))
    assert found.score >= 0.5


@given(
    closed=st.lists(st.booleans(), min_size=1, max_size=200),
    hidden=st.lists(st.booleans(), min_size=200, max_size=200),
)
def test_stretches_lie_within_the_samples_do_not_overlap_and_hold_every_known_closed_frame(
    closed: list[bool], hidden: list[bool]
) -> None:
    samples = [
        Sample(at / 25, None if unseen else {"eyes": float(shut)})
        for at, (shut, unseen) in enumerate(zip(closed, hidden, strict=False))
    ]
    found = stretches(samples, EventRule(**CLOSURE), 0.5)
    ends = [one.start + one.seconds for one in found]
    assert all(one.seconds >= 0 for one in found)
    assert all(end <= later.start + 1e-9 for end, later in zip(ends, found[1:], strict=False))
    for at, scores in samples:
        if scores is not None and scores["eyes"]:
            assert any(one.start - 1e-9 <= at <= end + 1e-9 for one, end in zip(found, ends, strict=True))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=120))
def test_decisions_follow_the_scores_unless_too_little_is_known(given_scores: list[tuple[float, bool]]) -> None:
    also = [
        {"event": "yawn", "measure": "count", "review_at": 1, "flag_at": 2},
        {"event": "closure", "measure": "longest_seconds", "flag_at": 1.5},
        {"event": "blink", "measure": "per_minute", "flag_at": 20},
    ]
    samples = [
        Sample(at / 4, None if unseen else {"eyes": score, "mouth": 1 - score})
        for at, (score, unseen) in enumerate(given_scores)
    ]
    found = Judge(rule(also=also)).judge(samples, 0.0, 60.0)
    assert 0.0 <= found.score <= 1.0
    assert 0.0 <= found.thresholds.review_from <= found.thresholds.flag_from <= 1.0
    if found.degraded is None:
        expected = "flag" if found.score >= found.thresholds.flag_from else "review"
        assert found.decision == (expected if found.score >= found.thresholds.review_from else "clear")
    else:
        assert found.decision == "review"
