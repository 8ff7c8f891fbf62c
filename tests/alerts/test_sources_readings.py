"""The last reading is there for whoever evaluates next, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from discern.alerts.sources_readings import LastReading
from discern.monitoring.types import Sample

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SAMPLES = [Sample("discern_audit_entries_total", ("keys.create", "done"), 3.0)]


def test_whoever_comes_next_has_the_last_reading_while_it_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "alerts.readings"
    LastReading(path).keep(NOW, SAMPLES)
    assert LastReading(path).find(NOW + timedelta(seconds=60)) == (timedelta(seconds=60), SAMPLES)
    for elsewhen in (timedelta(seconds=61), timedelta(seconds=-1)):
        assert LastReading(path).find(NOW + elsewhen) is None
    path.write_bytes(b"torn")
    assert LastReading(path).find(NOW) is None


def test_what_was_left_by_who_died_while_writing_it_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "alerts.readings"
    LastReading(path).keep(NOW, SAMPLES)
    (tmp_path / "alerts.readings.4711").write_bytes(b"half of")
    assert LastReading(path).find(NOW) is not None
    assert [one.name for one in tmp_path.iterdir()] == ["alerts.readings"]
