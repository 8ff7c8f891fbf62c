"""SQL of the tallies: how many verdicts there are, added up in the transactions that write them.

- A transaction that writes verdicts counts them, so the ledger and its tallies never differ, whoever is killed.
- A process adds to rows of its own, so that none waits for another. Rows of hours that are over are put together by one
  process at a time, also while somebody adds to them.
- What is deleted from the ledger stays counted.
- Hours are kept for `_HOURS_KEPT`, days for good.

One row has the three decisions side by side: an insert that turns into an update costs as much for twelve numbers as
for four, and a transaction most often has one row to add to (`bench/monitoring.py`).
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    Row,
    String,
    Table,
    delete,
    func,
    select,
    update,
)

from discern.core.clock import Clock, utc_now
from discern.core.verdict import Decision
from discern.detection.types import LedgerEntry
from discern.monitoring.types import TallyRow
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

_DECISIONS: tuple[Decision, ...] = ("clear", "review", "flag")
_SUMS = ("verdicts", "milliseconds", "scores", "variances")
_COLUMNS = tuple(f"{decision}_{what}" for decision in _DECISIONS for what in _SUMS)
_PLACES: dict[Decision, int] = {decision: number * len(_SUMS) for number, decision in enumerate(_DECISIONS)}
_KEY = ("hour", "workspace", "detector", "version", "decided_by", "stages", "cached", "degraded")
tallies = Table(
    "tallies",
    metadata,
    # On SQLite this is the row's own number, so that the rows of one process lie together.
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("hour", UtcDateTime, nullable=False),
    workspace_column(),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("decided_by", String(64), nullable=False),
    # With commas between them; the name of a stage has none.
    Column("stages", String(), nullable=False),
    Column("cached", Boolean(), nullable=False),
    Column("degraded", String(64), nullable=False),
    *(Column(name, BigInteger() if name.endswith("_verdicts") else Float(), nullable=False) for name in _COLUMNS),
    Index("ix_tallies_hour", "hour"),
)
_ALL = ("id", *_KEY, *_COLUMNS)
_ADD = ", ".join(f"{name} = tallies.{name} + excluded.{name}" for name in _COLUMNS)
_MARKS = {"sqlite": "?", "postgresql": "%s"}
ADDS = {
    dialect: f"INSERT INTO tallies ({', '.join(_ALL)}) VALUES ({', '.join([mark] * len(_ALL))}) "  # nosec B608  # noqa: S608 - names of our own columns
    f"ON CONFLICT (id) DO UPDATE SET {_ADD}"
    for dialect, mark in _MARKS.items()
}
"""Adds to a row, which is there afterwards, in the driver's own words; values in the order of the columns."""
# The numbers of a process's rows follow each other; 42 bits tell the processes apart.
_ROWS_BITS = 20
_MOST_REMEMBERED = 10_000
# Whoever still writes verdicts of an hour is left alone with its rows.
_OVER_AFTER = timedelta(minutes=10)
_RECENT = timedelta(days=2)
_HOURS_KEPT = timedelta(days=93)
_SETTLED_AFTER = timedelta(days=2)
_SETTLED_FOR = timedelta(minutes=10)


class Tallying:
    """What one process adds to the tallies: values for `ADDS`. Any thread may ask."""

    def __init__(self) -> None:
        self._numbers = itertools.count((secrets.randbits(42) + 1) << _ROWS_BITS)
        self._ids: dict[tuple[Any, ...], int] = {}
        self._hour = _Hour(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))

    def values(self, entries: Iterable[LedgerEntry]) -> list[list[Any]]:
        """Return the rows to add for verdicts that are written: few, for most are alike."""
        found: dict[tuple[Any, ...], list[float]] = {}
        starts, ends = self._hour
        for entry in entries:
            verdict = entry.verdict
            if not starts <= verdict.created_at < ends:
                starts, ends = self._hour = _Hour.of(verdict.created_at)
            stages = verdict.stages
            key = (
                starts,
                verdict.workspace,
                verdict.detector,
                verdict.version,
                verdict.decided_by,
                stages[0].name if len(stages) == 1 else ",".join([stage.name for stage in stages]),
                verdict.cached,
                verdict.degraded,
            )
            sums = found.get(key)
            if sums is None:
                sums = found[key] = [0, 0.0, 0.0, 0.0] * len(_DECISIONS)
            place, score = _PLACES[verdict.decision], verdict.score
            sums[place] += 1
            sums[place + 1] += verdict.milliseconds
            sums[place + 2] += score
            sums[place + 3] += score * (1.0 - score)
        return [[self._id(key), *key[:-1], key[-1] or "", *sums] for key, sums in found.items()]

    def _id(self, key: tuple[Any, ...]) -> int:
        found = self._ids.get(key)
        if found is None:
            if len(self._ids) >= _MOST_REMEMBERED:
                self._ids = {}  # rows that are begun anew are put together with the old ones
            found = self._ids[key] = next(self._numbers)
        return found


class _Hour(NamedTuple):
    starts: datetime
    ends: datetime

    @classmethod
    def of(cls, moment: datetime) -> _Hour:
        starts = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return cls(starts, starts + timedelta(hours=1))


class TallyStore:
    """The tallies as they are read. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._settled: tuple[datetime, datetime, list[TallyRow]] | None = None
        self._tidied: datetime | None = None

    def since(self, hour: datetime, workspace: str | None = None) -> list[TallyRow]:
        """Return what was counted from an hour on, of one workspace or of all."""
        wanted = tallies.c.hour >= hour
        if workspace is not None:
            wanted &= tallies.c.workspace == workspace
        return self._sums(wanted, by_hour=True)

    def ever(self) -> list[TallyRow]:
        """Return what was counted since the installation began, with the first hour there is in place of the hours.

        What is counted for a time that is days ago, because a clock was wrong, may come minutes late.
        """
        now = self._clock()
        if self._settled is None or not timedelta() <= now - self._settled[1] < _SETTLED_FOR:
            until = _Hour.of(now - _SETTLED_AFTER).starts
            self._settled = until, now, self._sums(tallies.c.hour < until, by_hour=False)
        until, _, settled = self._settled
        return settled + self._sums(tallies.c.hour >= until, by_hour=False)

    def tidy(self) -> None:
        """Put rows together that are alike, of hours that are over. For one process at a time; does it once an hour."""
        now = self._clock()
        current = _Hour.of(now - _OVER_AFTER).starts
        if self._tidied == current:
            return
        long_ago = (now - _HOURS_KEPT).replace(hour=0, minute=0, second=0, microsecond=0)
        recent = current - _RECENT if self._tidied else long_ago
        with self._database.write() as connection:
            self._put_together(connection, (tallies.c.hour >= recent) & (tallies.c.hour < current), by_day=False)
        for day in self._days_in_hours(long_ago):
            with self._database.write() as connection:
                ends = day + timedelta(days=1)
                self._put_together(connection, (tallies.c.hour >= day) & (tallies.c.hour < ends), by_day=True)
        self._tidied = current

    def _sums(self, wanted: ColumnElement[bool], *, by_hour: bool) -> list[TallyRow]:
        key = [tallies.c[name] for name in _KEY[1:]]
        hour = tallies.c.hour if by_hour else func.min(tallies.c.hour).label("hour")
        groups = [tallies.c.hour, *key] if by_hour else key
        sums = [func.sum(tallies.c[name]).label(name) for name in _COLUMNS]
        with self._database.read() as connection:
            rows = connection.execute(select(hour, *key, *sums).where(wanted).group_by(*groups)).all()
        return [tally for row in rows for tally in _by_decision(row)]

    def _days_in_hours(self, before: datetime) -> list[datetime]:
        """Return the days before one of which there still are hours."""
        query = select(tallies.c.hour).where(tallies.c.hour < before).distinct()
        with self._database.read() as connection:
            hours = connection.execute(query).scalars().all()
        return sorted({hour.replace(hour=0) for hour in hours if hour.hour})

    @staticmethod
    def _put_together(connection: Connection, wanted: ColumnElement[bool], *, by_day: bool) -> None:
        """Add rows that are alike to the first of them. Others may add to any of them meanwhile, or begin one anew."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for row in connection.execute(select(tallies.c.id, *(tallies.c[name] for name in _KEY)).where(wanted)):
            hour = row.hour.replace(hour=0) if by_day else row.hour
            alike.setdefault((hour, *row[2:]), []).append(row.id)
        columns = [tallies.c[name] for name in _COLUMNS]
        for (hour, *_), (first, *others) in ((key, sorted(ids)) for key, ids in alike.items()):
            if not others and not by_day:
                continue
            gone = connection.execute(delete(tallies).where(tallies.c.id.in_(others)).returning(*columns)).all()
            sums = [sum(values) for values in zip(*gone, strict=True)] or [0] * len(columns)
            added = {column.name: column + value for column, value in zip(columns, sums, strict=True)}
            connection.execute(update(tallies).where(tallies.c.id == first).values(hour=hour, **added))


def _by_decision(row: Row[Any]) -> Iterator[TallyRow]:
    numbers: Sequence[Any] = row[len(_KEY) :]
    key = dict(zip(_KEY, row[: len(_KEY)], strict=True))
    key["stages"] = tuple(key["stages"].split(",")) if key["stages"] else ()
    for decision, place in _PLACES.items():
        verdicts, milliseconds, scores, variances = numbers[place : place + len(_SUMS)]
        if verdicts:
            yield TallyRow(
                **key,
                decision=decision,
                verdicts=int(verdicts),
                milliseconds=milliseconds,
                scores=scores,
                variances=variances,
            )
