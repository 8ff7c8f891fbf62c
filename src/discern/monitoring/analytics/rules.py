"""What an hour comes to, and what it costs. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from discern.core.errors import InvalidSettings
from discern.monitoring.analytics.types import NOTHING, HourRow, Numbers, Prices, Release
from discern.monitoring.drift.types import DriftChange
from discern.monitoring.types import TallyRow

Key = tuple[datetime, Release]
_HOUR = timedelta(hours=1)
_MILLISECONDS_AN_HOUR = 3_600_000.0
_CURRENCY = re.compile(r"[A-Z]{3}")


def counted(rows: Iterable[TallyRow]) -> dict[Key, Numbers]:
    """Return what the ledger counted, by hour and release."""
    found: dict[Key, list[float]] = {}
    places = {"clear": 1, "review": 2, "flag": 3}
    for row in rows:
        key = row.hour, Release(row.workspace, row.detector, row.version)
        sums = found.get(key)
        if sums is None:
            sums = found[key] = [0, 0, 0, 0, 0, 0, 0.0]
        sums[0] += row.verdicts
        sums[places[row.decision]] += row.verdicts
        if row.cached:
            sums[4] += row.verdicts
        if row.degraded:
            sums[5] += row.verdicts
        sums[6] += row.milliseconds
    return {key: Numbers._make((*map(int, sums[:6]), sums[6])) for key, sums in found.items()}


def cost_of(numbers: Numbers, detector: str, prices: Prices) -> float:
    """Return what verdicts of a detector cost."""
    table = dict(prices.a_verdict)
    of_one = table.get(detector, table.get("*", 0.0))
    return numbers.verdicts * of_one + numbers.milliseconds / _MILLISECONDS_AN_HOUR * prices.an_hour


def cost_after(known: HourRow | None, numbers: Numbers, detector: str, prices: Prices) -> float:
    """Return the cost of an hour that was rolled up as `known` and has come to `numbers`: what came since is added."""
    if known is None:
        return cost_of(numbers, detector, prices)
    return known.cost + cost_of(numbers.minus(known.numbers), detector, prices)


def is_same(known: HourRow | None, numbers: Numbers) -> bool:
    """Tell whether an hour was rolled up from as many verdicts; their times are sums of floats in any order."""
    if known is None:
        return numbers == NOTHING
    return known.numbers[:-1] == numbers[:-1] and math.isclose(
        known.numbers.milliseconds, numbers.milliseconds, rel_tol=1e-9, abs_tol=1e-6
    )


def alive(known: Mapping[Key, HourRow], tallied: Mapping[Key, Numbers], prices: Prices) -> list[HourRow]:
    """Return hours as they stand: as the ledger has counted them, with what was rolled up besides, in order."""
    rows = dict(known)
    for key, numbers in tallied.items():
        hour, release = key
        row = known.get(key)
        cost = cost_after(row, numbers, release.detector, prices)
        if row is None:
            rows[key] = HourRow(hour, release, numbers, cost)
        elif not is_same(row, numbers):
            rows[key] = HourRow(
                hour, release, numbers, cost, row.callers, row.latencies, row.measured, row.drift_alarms
            )
    return [rows[key] for key in sorted(rows)]


def alarms_in(changes: Sequence[DriftChange], hour: datetime) -> dict[tuple[str, str], int]:
    """Return how many subjects of each detector and version were in alarm in an hour; `changes` newest first."""
    state: dict[tuple[str, str, str], bool] = {}
    for change in reversed(changes):
        if change.at >= hour + _HOUR:
            break
        subject = change.detector, change.version, change.subject
        # One that ended in this very hour was still in alarm in it.
        if change.change == "began":
            state[subject] = True
        elif change.at < hour:
            state[subject] = False
    found: dict[tuple[str, str], int] = {}
    for (detector, version, _), is_alarm in state.items():
        found[detector, version] = found.get((detector, version), 0) + is_alarm
    return found


def prices_of(currency: str, an_hour: float, a_verdict: str) -> Prices:
    """Return the prices that settings say. Raises InvalidSettings."""
    if not _CURRENCY.fullmatch(currency):
        detail = f"currency: {currency[:20]!r} is none."
        raise InvalidSettings(detail, mend="Write its three letters, such as EUR.", setting="currency")
    found: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in a_verdict.split(","))):
        detector, equals, price = (one.strip() for one in part.partition("="))
        try:
            amount = float(price) if equals and detector else math.nan
        except ValueError:
            amount = math.nan
        if not 0 <= amount < 1e9 or detector in found:
            detail = f"price_per_verdict: {part[:100]!r} is no price, or there twice."
            mend = "Write DETECTOR=AMOUNT with commas between, * for all others: card-fraud=0.002, *=0.0005."
            raise InvalidSettings(detail, mend=mend, setting="price_per_verdict")
        found[detector] = amount
    return Prices(currency, an_hour, tuple(found.items()))
