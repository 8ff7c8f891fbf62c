"""What watches over drift, put together from settings."""

from __future__ import annotations

from dataclasses import dataclass

from discern.audit.ports import Trail
from discern.core.loops import Loop
from discern.detection.ports import Watcher
from discern.monitoring.drift.ports import Bundles
from discern.monitoring.drift.service import Drift
from discern.monitoring.drift.service_labels import LabelWatch
from discern.monitoring.drift.service_watching import DriftWatch
from discern.monitoring.drift.service_windows import DriftWindows
from discern.monitoring.drift.store import DriftStore
from discern.monitoring.drift.types import Plan
from discern.monitoring.ports import Happenings, LabelledVerdicts, NoLabels
from discern.settings import Settings
from discern.store.database import Database
from discern.store.turns import Turn

_LABELS_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class DriftParts:
    """What is told of drift, who takes note of verdicts for it, and what looks at them."""

    drift: Drift
    watchers: tuple[Watcher, ...]
    loops: tuple[Loop, ...]


def drift_of(
    settings: Settings,
    database: Database,
    bundles: Bundles,
    trail: Trail,
    happenings: Happenings,
    labels: LabelledVerdicts | None = None,
) -> DriftParts:
    """Put the parts together; without `labels` nobody says whether scores are right."""
    store = DriftStore(database, trail)
    left_out = frozenset(name.strip() for name in settings.drift_left_out.split(",") if name.strip())
    plan = Plan(
        settings.drift_window_verdicts,
        settings.drift_window_seconds,
        settings.drift_windows_per_false_alarm,
        settings.drift_least_distance,
        settings.drift_baseline_windows,
    )
    drift = Drift(store, bundles, plan, left_out)
    if not settings.drift_window_verdicts:
        return DriftParts(drift, (), ())
    watch = DriftWatch(store, bundles, left_out)
    windows = DriftWindows(store, plan, Turn(database, "drift"), happenings)
    turn = Turn(database, "drift_labels", seconds=2 * _LABELS_SECONDS)
    labelled = LabelWatch(store, labels or NoLabels(), turn, happenings)
    loops = (
        Loop("drift", 1.0, watch.look),
        Loop("drift_windows", 5.0, windows.look),
        Loop("drift_labels", _LABELS_SECONDS, labelled.look),
    )
    return DriftParts(drift, (watch,), loops)
