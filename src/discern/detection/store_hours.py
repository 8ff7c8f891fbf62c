"""SQL of the ledger hour by hour: who asked, and how long a share of the verdicts took.

- Verdicts that are sealed for a person are counted, but not opened: nobody asked for them.
- Which verdicts are in the share is told by the last bits of their ids, which are random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, String, and_, cast, func, or_, select, text, type_coerce

from discern.core.months import least_id
from discern.core.sealing import key_id_of
from discern.detection.store import verdicts
from discern.monitoring.analytics.ports import Asked, VerdictRow
from discern.store.database import Database

_HOUR = timedelta(hours=1)
# An id is made a moment before or after the verdict's time is taken. That of a job is made when it is asked for: one
# that waited for longer is counted by the tallies, and not looked for here.
_APART = timedelta(minutes=10)
_SHARES = 2**16
_AT_A_TIME = 10_000


class _Timed(msgspec.Struct):
    milliseconds: float


_decode = msgspec.json.Decoder(_Timed).decode


class LedgerByHour:
    """The ledger hour by hour. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def asked(self, workspace: str, hour: datetime) -> list[Asked]:
        """Return who asked for what in the hour that began then, of the verdicts that are still on the ledger."""
        key = verdicts.c.detector, verdicts.c.version, verdicts.c.principal
        query = select(*key, func.count()).where(_in(workspace, hour)).group_by(*key)
        with self._database.read() as connection:
            self._take_time(connection)
            return [Asked(*row) for row in connection.execute(query)]

    def times(
        self, workspace: str, hour: datetime, shares: Mapping[tuple[str, str], float]
    ) -> Iterator[tuple[str, str, float]]:
        """Yield detector, version and milliseconds of a share of an hour's verdicts, by detector and version."""
        last = self._last_digits()
        chosen = [
            and_(verdicts.c.detector == detector, verdicts.c.version == version, *_below(last, share))
            for (detector, version), share in shares.items()
        ]
        if not chosen:
            return
        query = select(verdicts.c.detector, verdicts.c.version, verdicts.c.body)
        with self._database.read() as connection:
            self._take_time(connection)
            for row in connection.execute(query.where(_in(workspace, hour), or_(*chosen))):
                if key_id_of(row.body) is None:
                    yield row.detector, row.version, _decode(row.body).milliseconds

    def rows(self, workspace: str, since: datetime, until: datetime) -> Iterator[VerdictRow]:
        """Yield the verdicts of a workspace from the one time to before the other, in the order of their ids."""
        columns = [verdicts.c[name] for name in VerdictRow._fields]
        after = least_id(since - _APART)
        while True:
            mine = verdicts.c.workspace == workspace, verdicts.c.id > after, verdicts.c.id < least_id(until + _APART)
            with self._database.read() as connection:
                query = select(*columns).where(*mine).order_by(verdicts.c.id).limit(_AT_A_TIME)
                found = [VerdictRow(*row) for row in connection.execute(query)]
            yield from (row._replace(id=str(row.id)) for row in found if since <= row.created_at < until)
            if len(found) < _AT_A_TIME:
                return
            after = UUID(str(found[-1].id))

    def _last_digits(self) -> ColumnElement[str]:
        if self._database.dialect == "sqlite":
            return func.substr(type_coerce(verdicts.c.id, String()), -4)
        return func.right(cast(verdicts.c.id, String()), 4)

    def _take_time(self, connection: Connection) -> None:
        if self._database.dialect == "postgresql":
            # An hour may have many.
            connection.execute(text("SET LOCAL statement_timeout = 0"))


def _in(workspace: str, hour: datetime) -> ColumnElement[bool]:
    ids = verdicts.c.id >= least_id(hour - _APART), verdicts.c.id < least_id(hour + _HOUR + _APART)
    times = verdicts.c.created_at >= hour, verdicts.c.created_at < hour + _HOUR
    return and_(verdicts.c.workspace == workspace, *ids, *times)


def _below(last: ColumnElement[str], share: float) -> tuple[Any, ...]:
    if share >= 1:
        return ()
    return (last < type_coerce(f"{max(1, round(share * _SHARES)):04x}", String()),)
