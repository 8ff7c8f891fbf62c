"""Records under conditions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.evaluation.conditions import records
from discern.inputs.spec import RecordSpec

SPEC = RecordSpec.model_validate(
    {
        "kind": "record",
        "fields": [
            {"name": "amount", "type": "number", "minimum": 0, "maximum": 1000},
            {"name": "count", "type": "integer", "minimum": 0},
            {"name": "risk", "type": "number", "missing": "nan"},
            {"name": "night", "type": "boolean", "missing": "nan"},
            {"name": "kind", "type": "category", "categories": ["a", "b", "c"]},
        ],
    }
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture
def rows() -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    found = np.column_stack(
        [
            random.uniform(0, 1000, 4000),
            random.integers(0, 50, 4000),
            random.normal(0, 1, 4000),
            random.integers(0, 2, 4000),
            random.integers(0, 3, 4000),
        ]
    ).astype(np.float32)
    found.flags.writeable = False
    return found


def test_only_fields_that_may_miss_do_and_as_often_as_said(rows: NDArray[np.float32]) -> None:
    missing = np.isnan(records.missing_fields(rows, SPEC, generator(), share=0.3))
    assert not missing[:, [0, 1, 4]].any()
    assert missing[:, [2, 3]].mean() == pytest.approx(0.3, abs=0.02)


def test_numbers_move_by_their_deviations_within_their_range_and_the_rest_stays(rows: NDArray[np.float32]) -> None:
    spread = records.deviations_of([rows[:1000], rows[1000:]], 5)
    assert spread == pytest.approx(rows.astype(np.float64).std(axis=0), rel=1e-5)
    shifted = records.shifted_fields(rows, SPEC, generator(), deviations=0.5, spread=spread)
    moved = shifted - rows
    inside = (shifted[:, 0] > 0) & (shifted[:, 0] < 1000)
    assert 0.7 < inside.mean() < 1
    assert np.abs(moved[inside, 0]) == pytest.approx(0.5 * spread[0], rel=1e-3)
    assert np.abs(moved[:, 2]) == pytest.approx(0.5 * spread[2], rel=1e-3)
    assert np.array_equal(shifted[:, 1], np.rint(shifted[:, 1]))
    assert moved[:, 1].any()
    assert not moved[:, [3, 4]].any()
    assert records.refusals(shifted, SPEC) == {}


def test_a_third_of_the_numbers_is_in_another_unit(rows: NDArray[np.float32]) -> None:
    scaled = records.scaled_units(rows, SPEC, generator(), factor=10)
    changed = [place for place in range(5) if not np.array_equal(scaled[:, place], rows[:, place])]
    assert len(changed) == 1
    assert changed[0] in {0, 1, 2}
    assert scaled[:, changed[0]] == pytest.approx(10 * rows[:, changed[0]], rel=1e-6)


def test_values_are_as_before_where_there_is_a_record_before(rows: NDArray[np.float32]) -> None:
    before = np.roll(rows, 1, axis=0)
    before[::2] = np.nan
    stale = records.stale_values(rows, before, generator(), share=1.0)
    assert np.array_equal(stale[::2], rows[::2])
    assert np.array_equal(stale[1::2], before[1::2])
    half = records.stale_values(rows, before, generator(), share=0.5)
    assert (half[1::2, 0] == before[1::2, 0]).mean() == pytest.approx(0.5, abs=0.05)


def test_a_value_outside_its_declared_range_is_refused_by_the_first_field_that_has_one() -> None:
    rows = np.array([[5, 1, np.nan, 1, 2], [-1, 1, 0, 1, 2], [1001, -3, 0, 1, 2], [5, 1, 0, 1, 3]], np.float32)
    assert records.refusals(rows, SPEC) == {
        1: "amount is outside its declared range",
        2: "amount is outside its declared range",
        3: "kind is outside its declared range",
    }


def test_deviations_do_without_missing_values_and_without_rows() -> None:
    rows = np.array([[1, np.nan], [3, np.nan]], np.float32)
    assert records.deviations_of([rows], 2).tolist() == [1.0, 0.0]
    assert records.deviations_of([], 2).tolist() == [0.0, 0.0]
