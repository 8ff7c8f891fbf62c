"""What the bundles say of their data is used, and what is not understood says nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from discern.app import BUILTIN, Services
from discern.monitoring.drift.rules_references import cells_of_reference, of_table, table_of
from discern.monitoring.drift.sources import begun, watched_of

GOOD = {"quantiles": [0.0, 0.5, 1.0]}


@pytest.mark.parametrize(
    ("detector", "with_reference"), [("card-fraud", 16), ("synthetic-face", 1), ("driver-drowsiness", 1)]
)
def test_the_references_of_the_shipped_detectors_are_compared_with(
    services: Services, detector: str, with_reference: int
) -> None:
    from datetime import UTC, datetime

    bundle = services.catalogue.find(detector).bundle
    release = begun(bundle, watched_of(bundle.manifest), datetime(2026, 1, 1, tzinfo=UTC))
    found = [subject for subject in release.subjects if subject.reference is not None]
    assert len(found) == with_reference
    for subject in found:
        reference = subject.reference
        assert reference is not None
        assert reference.source == "bundle"
        assert cells_of_reference(reference).sum() == pytest.approx(reference.verdicts)
        assert (np.diff(np.stack([subject.edges.lower, subject.edges.upper], axis=1).ravel()) >= 0).all()
    assert all(subject.learning is not None for subject in release.subjects if subject.reference is None)


@pytest.mark.parametrize(
    ("found", "verdicts"),
    [
        (None, 10),
        ({}, 10),
        ({"quantiles": "0"}, 10),
        ({"quantiles": [0.0, 1.0]}, 10),
        ({"quantiles": [0.0, 1.0, 0.5]}, 10),
        ({"quantiles": [0.0, "x", 0.5]}, 10),
        ({"quantiles": [0.0, float("nan"), 0.5]}, 10),
        ({"quantiles": [True, True, True]}, 10),
        (GOOD, 1),
        (GOOD, None),
        (GOOD, 10.5),
        (GOOD, True),
    ],
)
def test_what_is_no_table_is_no_reference(found: Any, verdicts: Any) -> None:
    assert table_of(found, verdicts) is None


def test_mean_and_deviation_are_those_of_the_table() -> None:
    values = np.random.default_rng(1).normal(5, 2, 100_000)
    table = table_of({"quantiles": np.quantile(values, np.linspace(0, 1, 101)).tolist()}, 100_000)
    assert table is not None
    _, reference = of_table(table, is_score=False)
    assert reference.mean == pytest.approx(5, abs=0.05)
    assert reference.deviation == pytest.approx(2, abs=0.1)


def test_a_shipped_reference_allows_the_data_it_was_made_of() -> None:
    found = json.loads((BUILTIN / "card-fraud" / "reference.json").read_text())
    for name, part in found["features"].items():
        table = table_of(part, found["count"])
        assert table is not None, name
        _, reference = of_table(table, is_score=False)
        assert all(least <= 1 for least in reference.least)
        assert all(
            low <= high + 1e-9 for low, high in zip([0.0, *reference.least], [*reference.most, 1.0], strict=True)
        ), name
