"""A ledger with verdicts of chosen hours, and analytics over it by a clock of the test's own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from discern.app import Services
from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.verdict import Decision, InputFacts, StageReading, Thresholds, Verdict
from discern.detection.store_hours import LedgerByHour
from discern.detection.store_tallies import TallyStore
from discern.detection.types import LedgerEntry
from discern.monitoring.analytics.service import Analytics
from discern.monitoring.analytics.service_budgets import Budgets
from discern.monitoring.analytics.service_reports import Reports, Sources
from discern.monitoring.analytics.store import BudgetStore, HourStore
from discern.monitoring.analytics.types import AlertLine, HappeningLine, LabelCount, Prices
from discern.monitoring.drift.types import DriftChange
from discern.monitoring.quality.types import QualityReport
from discern.store.turns import Turn

NOW = datetime(2026, 3, 18, 12, 30, tzinfo=UTC)
PRICES = Prices("EUR", 3.6, (("toy", 0.01), ("*", 0.001)))
_PATTERN = Verdict(
    id=str(uuid7()),
    workspace="default",
    detector="toy",
    version="1.0.0",
    decision="flag",
    label="odd",
    score=0.75,
    thresholds=Thresholds(0.3, 0.9),
    decided_by="only",
    stages=(StageReading("only", 0.75, 1.0),),
    input=InputFacts(kind="record", sha256="0" * 64, bytes=10),
    created_at=NOW,
    milliseconds=10.0,
)


def verdict(moment: datetime, milliseconds: float = 10.0, **changed: Any) -> Verdict:
    identifier = UUID(int=least_id(moment).int | (uuid7().int & ((1 << 80) - 1)))
    return msgspec.structs.replace(
        _PATTERN, id=str(identifier), created_at=moment, milliseconds=milliseconds, **changed
    )


def asked(services: Services, verdicts: Iterable[Verdict], principal: str = "key:1") -> None:
    services.verdicts.append([LedgerEntry(one, principal) for one in verdicts])


def busy_hours(services: Services, hours: Sequence[datetime], each: int = 20, workspace: str = "default") -> None:
    """Verdicts of two detectors in some hours, by three callers."""
    chance = random.Random(7)
    decisions: list[Decision] = ["clear", "review", "flag"]
    for hour in hours:
        entries = []
        for number in range(each):
            one = verdict(
                hour + timedelta(seconds=chance.uniform(0, 3599)),
                chance.lognormvariate(2, 1),
                workspace=workspace,
                detector=chance.choice(["toy", "other"]),
                decision=chance.choice(decisions),
                cached=chance.random() < 0.2,
                degraded="late" if chance.random() < 0.1 else None,
            )
            entries.append(LedgerEntry(one, f"key:{number % 3}"))
        services.verdicts.append(entries)


@dataclass
class World:
    """Analytics of an installation at a time."""

    services: Services
    now: datetime = NOW
    prices: Prices = PRICES
    changes: list[DriftChange] = field(default_factory=list)
    quality: QualityReport | None = None
    alerts: list[AlertLine] = field(default_factory=list)
    happenings: list[HappeningLine] = field(default_factory=list)
    labels: list[LabelCount] = field(default_factory=list)

    def __post_init__(self) -> None:
        database = self.services.database
        self.store = HourStore(database, self.prices.currency)
        self.analytics = Analytics(
            self.store,
            TallyStore(database, self.clock),
            LedgerByHour(database),
            lambda _workspace, _most: self.changes,
            self.prices,
            Turn(database, "analytics"),
            self.clock,
        )
        self.budgets = Budgets(BudgetStore(database, self.services.audit), self.analytics, self.clock)
        sources = Sources(
            lambda _workspace, _most: self.changes,
            lambda workspace: self.quality or QualityReport(workspace, 1, ()),
            lambda *_: self.alerts,
            lambda *_: self.happenings,
            lambda *_: self.labels,
        )
        self.reports = Reports(self.analytics, self.budgets, sources, self.clock)

    def clock(self) -> datetime:
        return self.now
