"""Drift on either database, driven by hand: what is answered, when it is looked at, and what time it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from discern.access.types import Principal
from discern.app import Services
from discern.core.verdict import Decision, InputFacts
from discern.detection.types import LedgerEntry
from discern.monitoring.drift.service import Drift
from discern.monitoring.drift.service_watching import DriftWatch
from discern.monitoring.drift.service_windows import DriftWindows
from discern.monitoring.drift.store import DriftStore
from discern.monitoring.drift.types import Plan, ReleaseKey, Subject
from discern.store.turns import Turn
from tests.detection.test_ledger import verdict

KEY = ReleaseKey("default", "toy-record", "1.0.0")
PLAN = Plan(200, 0.0, 1000, 0.05, 3)
CALLER = Principal("key:1", "default", "owner")


class Told:
    """A twin of where happenings are written down."""

    def __init__(self) -> None:
        self.happenings: list[tuple[str, str, str]] = []

    def tell(self, kind: str, about: str, *, workspace: str = "default", **facts: Any) -> None:
        self.happenings.append((kind, about, workspace))


class Rig:
    """The parts of drift over one database, with a clock that is set."""

    def __init__(self, services: Services, plan: Plan = PLAN, left_out: Sequence[str] = ()) -> None:
        self.services = services
        self.now = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
        self.told = Told()
        self.store = DriftStore(services.database, services.audit)
        self.watch = DriftWatch(self.store, services.catalogue, left_out, self.clock)
        self.windows = self.another_process(plan)
        self.drift = Drift(self.store, services.catalogue, plan, left_out, self.clock)

    def clock(self) -> datetime:
        return self.now

    def another_process(self, plan: Plan = PLAN) -> DriftWindows:
        return DriftWindows(self.store, plan, Turn(self.services.database, "drift"), self.told, self.clock)

    def show(self, records: NDArray[np.float64], score: float | None = None, key: ReleaseKey = KEY) -> None:
        """Answer records [n, 3], and write down what was seen."""
        for start in range(0, len(records), 100):
            self.watch.recorded([entry(row, score, key) for row in records[start : start + 100]])
            self.watch.look()
        self.watch.write()

    def after(self, records: NDArray[np.float64], score: float | None = None, minutes: float = 1.0) -> None:
        """Answer records, and a while later take them into windows."""
        for start in range(0, len(records), PLAN.window_verdicts):
            self.show(records[start : start + PLAN.window_verdicts], score)
            self.now += timedelta(minutes=minutes)
            self.windows.fold()

    def subject(self, name: str) -> Subject:
        standing = self.store.release(KEY)
        assert standing is not None
        return next(one for one in standing.release.subjects if one.name == name)


def entry(
    record: Sequence[float] | NDArray[np.float64], score: float | None = None, key: ReleaseKey = KEY
) -> LedgerEntry:
    """A verdict on a record of three numbers; the score is that of the first one where none is given."""
    value = float(1 / (1 + np.exp(-record[0]))) if score is None else score
    decision: Decision = "flag" if value >= 0.8 else "review" if value >= 0.4 else "clear"
    found = msgspec.structs.replace(
        verdict(key.workspace, key.detector, decision),
        version=key.version,
        score=value,
        frames=(),
        input=InputFacts("record", "ab" * 32, 30),
    )
    return LedgerEntry(found, "key:1", None, tuple(map(float, record)))


@pytest.fixture
def rig(two_workspaces: Services) -> Rig:
    return Rig(two_workspaces)


def records(seed: int, count: int) -> NDArray[np.float64]:
    """Records whose three numbers are normal."""
    return np.random.default_rng(seed).normal(size=(count, 3))
