"""How many of a window's labels have come is told from delays that are cut off by not having waited longer."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from discern.monitoring.quality.rules_delays import FEWEST, Arrival, DelayCurve, Delays
from tests.monitoring.quality.worlds import NOON

DAY = 86_400.0


def arrivals(
    days: float, mean_days: float, *, count: int = 4000, seed: int = 3, source: str = "chargeback"
) -> list[Arrival]:
    """Labels of verdicts of the last `days`, exponential delays, those that have come by NOON."""
    random = np.random.default_rng(seed)
    ages, delays = random.uniform(0, days, count), random.exponential(mean_days, count)
    return [
        Arrival(source, NOON - timedelta(days=age), NOON - timedelta(days=age - delay))
        for age, delay in zip(ages, delays, strict=True)
        if delay <= age
    ]


def curve(labels: list[Arrival]) -> DelayCurve:
    delays = np.array([(one.labelled_at - one.verdict_at).total_seconds() for one in labels])
    waits = np.array([(NOON - one.verdict_at).total_seconds() for one in labels])
    return DelayCurve(delays, waits)


def test_the_share_that_has_come_is_right_though_the_late_ones_of_late_verdicts_are_not_seen() -> None:
    found = curve(arrivals(60, 8.0))
    for days in (2, 8, 20, 35):
        assert found.share(days * DAY) == pytest.approx(1 - np.exp(-days / 8), abs=0.03)
    # Counting what is there, the naive way, sees short delays too often.
    seen = [(one.labelled_at - one.verdict_at).total_seconds() for one in arrivals(20, 8.0)]
    assert np.mean(np.array(seen) <= 8 * DAY) > curve(arrivals(20, 8.0)).share(8 * DAY) + 0.05
    assert found.share(0) == found.share(-1) == 0
    assert found.share(1e9) == 1


def test_what_nobody_has_waited_for_long_enough_to_see_is_not_known() -> None:
    assert curve(arrivals(60, 8.0)).is_known_to(0.9)
    assert not curve(arrivals(12, 8.0)).is_known_to(0.9)
    young = Delays(arrivals(12, 8.0), 0.9)
    assert young.come(NOON - timedelta(days=11)) is None
    assert Delays(arrivals(60, 8.0)[: FEWEST - 1], 0.9).come(NOON) is None
    assert Delays([], 0.9).come(NOON) is None


def test_a_window_of_which_labels_are_missing_has_so_many_as_delays_say() -> None:
    delays = Delays(arrivals(80, 8.0), 0.9)
    for days in (4, 15, 25):
        assert delays.come(NOON - timedelta(days=days)) == pytest.approx(1 - np.exp(-days / 8), abs=0.04)
    # What has not been told of yet has not come: the last label is from a month ago.
    late = [
        Arrival(one.source, one.verdict_at - timedelta(days=30), one.labelled_at - timedelta(days=30))
        for one in arrivals(80, 8.0)
    ]
    assert Delays(late, 0.9).come(NOON - timedelta(days=25)) == 0


def test_sources_count_by_how_many_labels_they_come_to() -> None:
    quick = [Arrival("reviewer", one.verdict_at, one.verdict_at + timedelta(minutes=5)) for one in arrivals(80, 0.01)]
    both = Delays([*quick, *arrivals(80, 8.0)], 0.9)
    # Half of the labels come at once, the others after eight days in the mean.
    assert both.come(NOON - timedelta(days=8)) == pytest.approx(0.5 + 0.5 * (1 - np.exp(-1)), abs=0.04)
    few = [Arrival("appeal", one.verdict_at, one.labelled_at) for one in arrivals(80, 30.0)[:20]]
    assert Delays([*quick, *few], 0.9).come(NOON - timedelta(days=1)) == pytest.approx(1, abs=0.02)


def test_a_clock_that_jumped_back_makes_no_delay_negative() -> None:
    before = [
        Arrival("reviewer", NOON - timedelta(hours=number), NOON - timedelta(hours=number + 1)) for number in range(60)
    ]
    assert Delays(before, 0.9).come(NOON - timedelta(hours=10)) == 1
