"""What was asked for, what it cost, and reports of it, put together from settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from discern.alerts.store import AlertStore
from discern.audit.service import AuditTrail
from discern.detection.store_hours import LedgerByHour
from discern.monitoring.analytics.rules import prices_of
from discern.monitoring.analytics.service import SECONDS, Analytics
from discern.monitoring.analytics.service_budgets import Budgets
from discern.monitoring.analytics.service_exports import Exports
from discern.monitoring.analytics.service_reports import Reports, Sources
from discern.monitoring.analytics.store import BudgetStore, HourStore
from discern.monitoring.analytics.types import AlertLine, HappeningLine, LabelCount
from discern.monitoring.drift.store import DriftStore
from discern.monitoring.health.store import HappeningStore
from discern.monitoring.ports import Tallies
from discern.monitoring.quality.service import Quality
from discern.review.store import LabelStore
from discern.settings import Settings
from discern.store.database import Database
from discern.store.turns import Turn


@dataclass(frozen=True, slots=True)
class AnalyticsParts:
    """The parts of analytics."""

    analytics: Analytics
    budgets: Budgets
    exports: Exports
    reports: Reports


def analytics_of(
    settings: Settings, database: Database, audit: AuditTrail, tallies: Tallies, quality: Quality, labels: LabelStore
) -> AnalyticsParts:
    """Put the parts together. Raises InvalidSettings."""
    prices = prices_of(settings.currency, settings.price_per_hour, settings.price_per_verdict)
    drift, alerts, happenings = DriftStore(database, audit), AlertStore(database, audit), HappeningStore(database)
    ledger, turn = LedgerByHour(database), Turn(database, "analytics", seconds=5 * SECONDS)
    analytics = Analytics(HourStore(database, prices.currency), tallies, ledger, drift.changes, prices, turn)
    budgets = Budgets(BudgetStore(database, audit), analytics)

    def alerts_in(workspace: str, since: datetime, until: datetime) -> Sequence[AlertLine]:
        return [
            AlertLine(
                one.labels.get("detector", ""), one.severity, one.rule, one.summary, one.fired_at, one.resolved_at
            )
            for one in alerts.fired(workspace, since, until)
            if one.fired_at is not None
        ]

    def happened(workspace: str, since: datetime, until: datetime) -> Sequence[HappeningLine]:
        found = happenings.between(workspace, since, until)
        last = {(one.kind, one.about): one.at for one in found}
        times = Counter((one.kind, one.about) for one in found)
        return [HappeningLine(*key, count, last[key]) for key, count in times.most_common()]

    def labelled(workspace: str, since: datetime, until: datetime) -> Sequence[LabelCount]:
        return [LabelCount(one.detector, one.label, one.labels) for one in labels.given(workspace, since, until)]

    sources = Sources(drift.changes, quality.report, alerts_in, happened, labelled)
    reports = Reports(analytics, budgets, sources)
    return AnalyticsParts(analytics, budgets, Exports(analytics, ledger), reports)
