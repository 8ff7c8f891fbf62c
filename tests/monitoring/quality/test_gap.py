"""Labels that contradict scores are noticed, and those that do not are not, however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from discern.monitoring.quality.rules_gap import Item, evidence, gaps
from discern.monitoring.quality.types import GAP_MEASURES, Gap, GapMeasure
from tests.monitoring.quality.worlds import NOON, Floats, decided, sigmoid

FALSE_ALARMS = 0.1
ODDS = 1.25
ONES = np.ones(9, np.int64)


def whole(count: int) -> Floats:
    return np.ones((count, 1))


def items(random: np.random.Generator, count: int, shift: float, *, flagged_only: bool = False) -> list[Item]:
    log_odds = random.normal(0, 2, count)
    scores = sigmoid(log_odds)
    positive = random.random(count) < sigmoid(log_odds + shift)
    found = [Item(NOON, 1, decision, float(score), bool(true))
             for decision, score, true in zip(decided(scores), scores, positive, strict=True)]  # fmt: skip
    return [one for one in found if one.decision == "flag"] if flagged_only else found


def found(its: list[Item], doubt: float = 0.0) -> dict[GapMeasure, Gap]:
    doubts = dict.fromkeys(GAP_MEASURES, doubt)
    return {one.measure: one for one in gaps(its, odds=ODDS, doubts=doubts, false_alarms=FALSE_ALARMS)}


@pytest.mark.parametrize("shift", [0.0, math.log(ODDS), -math.log(ODDS)])
def test_a_release_whose_scores_are_right_is_hardly_ever_alarmed_about_though_every_label_is_a_look(
    shift: float,
) -> None:
    random = np.random.default_rng(17)
    alarms = sum(any(gap.is_alarm for gap in found(items(random, 800, shift)).values()) for _ in range(80))
    # Allowed are 8 of 80; 17 would be a chance of one in two hundred at that rate.
    assert alarms < 17


def test_labels_of_what_was_flagged_alone_raise_no_alarm_where_scores_are_right() -> None:
    random = np.random.default_rng(18)
    alarms = sum(found(items(random, 800, 0.0, flagged_only=True))["precision"].is_alarm for _ in range(80))
    assert alarms < 8


def test_a_gap_is_found_with_its_direction_and_where_it_began() -> None:
    random = np.random.default_rng(19)
    for shift, more in ((1.0, True), (-1.0, False)):
        gap = found(items(random, 3000, shift))["positive_rate"]
        assert gap.is_alarm
        assert gap.more_positive is more
        assert gap.since == NOON
        assert gap.evidence >= gap.needed == len(GAP_MEASURES) / FALSE_ALARMS
        assert gap.tolerated == pytest.approx(ODDS)


def test_a_new_kind_of_positives_is_found_where_it_scores_low_and_not_among_the_flagged() -> None:
    random = np.random.default_rng(20)
    its = items(random, 3000, 0.0)
    missed = [one._replace(positive=True) if one.decision == "clear" and random.random() < 0.15 else one for one in its]
    said = found(missed)
    assert said["true_positive_rate"].is_alarm
    assert said["true_positive_rate"].more_positive
    assert not said["precision"].is_alarm


def test_what_the_bundle_may_be_off_by_anyway_is_no_gap() -> None:
    random = np.random.default_rng(21)
    its = items(random, 3000, 0.6)
    assert found(its)["positive_rate"].is_alarm
    assert not found(its, doubt=0.3)["positive_rate"].is_alarm


def test_scores_of_nothing_and_of_everything_are_evidence_that_stays_finite() -> None:
    scores, positive = np.array([0.0, 1.0, 0.0, 1.0]), np.array([False, True, True, False])
    more, fewer = evidence(scores, positive, math.log(ODDS), whole(4), ONES[:4])
    assert np.isfinite(more).all()
    assert np.isfinite(fewer).all()
    assert more[1] <= 0.01
    assert fewer[1] <= 0.01


def test_sure_scores_that_are_right_are_no_evidence_however_many() -> None:
    """A clip of scores near 0 must not make the absence of positives a gap."""
    more, fewer = evidence(
        np.full(200_000, 1e-7), np.zeros(200_000, np.bool_), 0.0, whole(200_000), np.ones(200_000, np.int64)
    )
    assert max(more.max(), fewer.max()) < 0.05


def test_without_labels_there_is_no_gap() -> None:
    for gap in found([]).values():
        assert (gap.labels, gap.evidence, gap.is_alarm, gap.since) == (0, 1.0, False, None)


def test_evidence_is_what_the_likelihoods_are() -> None:
    score, tolerated = 0.3, 0.2
    base = math.log(score / (1 - score)) + tolerated
    by_hand = np.mean([sigmoid(base + shift) / sigmoid(base) for shift in (0.25, 0.5, 1.0, 2.0)])
    more, _ = evidence(np.array([score]), np.array([True]), tolerated, whole(1), ONES[:1])
    assert more[0] == pytest.approx(math.log((by_hand + 1) / 2))  # it may begin at this window, or at a later one


def test_a_gap_that_begins_late_is_found_about_as_soon_as_one_that_was_there_from_the_start() -> None:
    random = np.random.default_rng(22)
    good = [one._replace(number=1 + place // 100) for place, one in enumerate(items(random, 6000, 0.0))]
    assert not found(good)["positive_rate"].is_alarm
    bad = [one._replace(number=61 + place // 100, window=NOON.replace(day=9 + place // 100))
           for place, one in enumerate(items(random, 800, 1.5))]  # fmt: skip
    at_once, late = found([one._replace(number=one.number - 60) for one in bad]), found([*good, *bad])
    assert at_once["positive_rate"].since is not None
    assert late["positive_rate"].since is not None
    assert (late["positive_rate"].since - at_once["positive_rate"].since).days <= 2
    # What was before the look-back changes nothing but upward: the bound holds over all of a release's life.
    assert found(bad)["positive_rate"].evidence <= late["positive_rate"].evidence * (1 + 1e-9)


def test_windows_that_a_gap_may_begin_at_together_have_one_chance() -> None:
    """Looks at a release that is right, over 100 windows, at the edge of what is tolerated."""
    random = np.random.default_rng(23)
    alarms = 0
    for _ in range(60):
        its = [one._replace(number=1 + place // 10) for place, one in enumerate(items(random, 1000, math.log(ODDS)))]
        alarms += any(gap.is_alarm for gap in found(its).values())
    assert alarms < 13  # allowed are 6 of 60
