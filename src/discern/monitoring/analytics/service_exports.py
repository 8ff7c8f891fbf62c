"""Hours, and verdicts where they are asked for, written as Parquet."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from discern.monitoring.analytics.ports import LedgerHours
from discern.monitoring.analytics.rules_periods import months_between
from discern.monitoring.analytics.service import Analytics
from discern.monitoring.analytics.sources_parquet import HOURS, VERDICTS, check_available, hour_values, write_month


class Exports:
    """Files for other tools."""

    def __init__(self, analytics: Analytics, ledger: LedgerHours) -> None:
        self._analytics = analytics
        self._ledger = ledger

    def write(
        self, folder: Path, workspace: str, since: datetime, until: datetime, *, verdicts: bool = False
    ) -> dict[str, int]:
        """Write what lies from the one time to before the other; return how many rows of what.

        Raises MissingExtra, CallerError and StorageUnavailable.
        """
        check_available()
        written = {"hours": 0} | ({"verdicts": 0} if verdicts else {})
        for start, end in months_between(since, until):
            month = f"{start:%Y-%m}"
            hours = self._analytics.hours(start, end, workspace=workspace)
            rows = (hour_values(row, self._analytics.prices.currency) for row in hours)
            written["hours"] += write_month(folder, "hours", month, HOURS, rows)
            if verdicts:
                its = self._ledger.rows(workspace, start, end)
                written["verdicts"] += write_month(folder, "verdicts", month, VERDICTS, its)
        return written
