"""Sketches say the same however they were put together, and stay small."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from discern.monitoring.drift.rules import MOST_PERIODS, folded, start_of, with_sketches
from discern.monitoring.drift.rules_sketches import RANK_ERROR, merged, quantiles_of, rounded, sketch_of
from discern.monitoring.drift.sources import MOST_SUBJECTS
from discern.monitoring.drift.types import Edges, Period, Sketch

EDGES = Edges((-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0))
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def whole(values: np.ndarray, parts: int) -> Sketch:
    found = Sketch(1)
    for part in np.array_split(values, parts):
        found = merged(found, sketch_of(part, "number", EDGES, 1, is_exact=True), 1)
    return found


@pytest.mark.parametrize("parts", [1, 7, 400])
def test_merged_over_processes_counts_and_moments_are_exact(parts: int) -> None:
    values = np.random.default_rng(1).normal(3, 2, 20_000).astype(np.float32)
    values[::100] = np.nan
    found, there = whole(values, parts), values[~np.isnan(values)]
    assert found.cells == sketch_of(values, "number", EDGES, 1, is_exact=True).cells
    assert sum(found.cells) == found.moments.count == len(there)
    assert found.missing == 200
    assert found.moments.mean == pytest.approx(there.mean(dtype=np.float64), rel=1e-9)
    assert found.moments.deviation == pytest.approx(there.std(ddof=1, dtype=np.float64), rel=1e-9)


def test_merged_quantiles_are_within_the_stated_error_of_their_share() -> None:
    values = np.random.default_rng(2).gamma(0.4, 10, 200_000).astype(np.float32)
    ordered = np.sort(values)
    errors = []
    for parts in (1, 40, 1000):
        found = quantiles_of(whole(values, parts).kll, SHARES)
        errors += [
            abs(np.searchsorted(ordered, value) / len(values) - share)
            for value, share in zip(found, SHARES, strict=True)
        ]
    assert max(errors) <= RANK_ERROR


def test_cells_of_other_edges_are_left_out_and_everything_else_is_kept() -> None:
    one = sketch_of(np.array([0.5, 2.0], np.float32), "number", EDGES, 1, is_exact=True)
    other = sketch_of(np.array([0.5], np.float32), "number", Edges((0.0,), (0.0,)), 2, is_exact=True)
    found = merged(one, other, 2)
    assert found.edges == 2
    assert found.cells == other.cells
    assert found.moments.count == 3


def test_rounding_changes_a_value_by_less_than_half_a_percent() -> None:
    values = np.array([1, -3.3, 48213377, 1e-12, 912.8, 0, 6.1e30], np.float32)
    found = rounded(values)
    assert np.all(np.abs(found - values) <= 0.004 * np.abs(values))
    assert 48213377 not in found


def test_two_months_of_a_release_with_the_most_subjects_take_less_than_ten_megabytes() -> None:
    # The largest of some: how much a sketch holds goes up and down. The benchmark puts in ten million verdicts.
    drawn = np.random.default_rng(4)
    some = [whole(drawn.normal(size=300_000 + 7_000 * step).astype(np.float32), 3) for step in range(20)]
    full = max(some, key=lambda sketch: len(sketch.kll))
    assert len(full.kll) > 2300
    sketches = {f"field:a_rather_long_name_{number}": full for number in range(MOST_SUBJECTS)}
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    periods: dict[tuple[str, datetime], Period] = {}
    for hour in range(0, 60 * 24, 1):
        at = begin + timedelta(hours=hour)
        periods["hour", at] = Period("hour", at, 7000, sketches if hour > 58 * 24 else {})
        written, gone = folded(list(periods.values()))
        periods |= {(one.span, one.at): one for one in written}
        for place in gone:
            periods.pop(place, None)
    days = [period for span, _ in periods if span == "day" for period in [periods[span, _]]]
    assert (len(days), len(periods) - len(days)) == (MOST_PERIODS["day"], MOST_PERIODS["hour"])
    size = len(
        msgspec.msgpack.encode(Period("hour", begin, 7000, with_sketches(Period("hour", begin), 1, sketches).sketches))
    )
    assert size * (MOST_PERIODS["day"] + MOST_PERIODS["hour"]) < 9_500_000


def test_an_hour_that_comes_late_is_put_where_it_belongs() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    late = sketch_of(np.array([1.0], np.float32), "number", EDGES, 1, is_exact=True)
    hours = [Period("hour", begin + timedelta(hours=hour)) for hour in range(100, 124)]
    old = with_sketches(Period("hour", start_of("hour", begin + timedelta(hours=3, minutes=7))), 1, {"score": late})
    day = with_sketches(Period("day", begin), 5, {"score": late})
    written, gone = folded([*hours, old, day])
    assert [(one.at, one.verdicts, one.sketches["score"].moments.count) for one in written] == [(begin, 6, 2)]
    assert gone == [("hour", begin + timedelta(hours=3))]


def test_a_clock_that_jumps_drops_no_more_than_one_that_does_not() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    days = [Period("day", begin + timedelta(days=day), 10) for day in range(MOST_PERIODS["day"])]
    _, gone = folded([*days, Period("hour", begin + timedelta(days=4000), 10)])
    assert gone == []
