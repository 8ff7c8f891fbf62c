"""SQL of notices on their way.

- A delivery is claimed by a condition that holds once, and held by a lease: who dies with one leaves a lease that runs
  out, and it is sent again with the same id.
- Every attempt is a row, counted in the transaction that writes it.
- Of one group one notice at a time is on its way to a channel, the oldest first. A later one takes the place of one
  that waits, unless that one tells that something is over.
- A time that is too far ahead to be meant counts as past: the clock was put back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from discern.alerts.rules_delivery import FAR_AHEAD, LEASE
from discern.alerts.rules_notices import STORM, Planned
from discern.alerts.store_tables import attempts, counts, deliveries, notices
from discern.alerts.types import Alert, Attempt, DeliveryState, Notice, NoticeDelivery, Outcome
from discern.core.ids import uuid7
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.store.database import Database

_MOST_WAITING = 500
_LOOKED_AT = 100
_AT_ONCE = 200
_MOST_SHOWN = 50
_encode = msgspec.json.Encoder().encode
_notice = msgspec.json.Decoder(Notice).decode
_WAITING = deliveries.c.state == "waiting"


class Claimed(NamedTuple):
    """A delivery that is ours to make, the notice, and how often it was tried."""

    delivery: NoticeDelivery
    notice: Notice
    tries: int


def put_notices(connection: Connection, planned: Sequence[Planned], now: datetime) -> None:
    """Write notices and their deliveries in the caller's transaction."""
    for notice, channels in planned:
        connection.execute(insert(notices).values(_notice_row(notice)))
        for channel in channels:
            same = and_(_WAITING, deliveries.c.channel == channel, deliveries.c.group == notice.group)
            waits = and_(same, deliveries.c.tells_ends.is_(False), _is_free(now))
            replaced = update(deliveries).where(waits).values(state="superseded", finished_at=now)
            connection.execute(replaced)
            connection.execute(insert(deliveries).values(_delivery_row(notice, channel, now)))
    for channel in {channel for _, channels in planned for channel in channels}:
        _drop_surplus(connection, channel, now)


def _drop_surplus(connection: Connection, channel: str, now: datetime) -> None:
    """Give the oldest up of what waits for a channel, where it is too much."""
    theirs = and_(_WAITING, deliveries.c.channel == channel)
    surplus = select(deliveries.c.id).where(theirs).order_by(deliveries.c.id.desc()).offset(_MOST_WAITING)
    ids = connection.execute(surplus).scalars().all()
    if ids:
        _give_up(connection, ids, channel, now)


def _give_up(connection: Connection, ids: Sequence[UUID], channel: str, now: datetime) -> None:
    there = update(deliveries).where(deliveries.c.id.in_(ids), _WAITING)
    gone = connection.execute(there.values(state="dead", finished_at=now)).rowcount
    if gone:
        _count(connection, channel, "gave_up", gone)


class NoticeStore:
    """Notices in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, planned: Planned, now: datetime, holder: UUID | None = None) -> list[UUID]:
        """Write a notice; return the ids of its deliveries, in the order of its channels, held by `holder`."""
        with self._database.write() as connection:
            connection.execute(insert(notices).values(_notice_row(planned.notice)))
            rows = [_delivery_row(planned.notice, channel, now) for channel in planned.channels]
            if holder is not None:
                rows = [row | {"holder": holder, "lease_until": now + LEASE} for row in rows]
            connection.execute(insert(deliveries), rows)
        return [row["id"] for row in rows]

    def claim(
        self, channel: str, holder: UUID, now: datetime, most: int, admits: Callable[[], bool] = lambda: True
    ) -> list[Claimed]:
        """Claim what is due by a channel, the oldest of each group; `admits` is asked where there is something."""
        query = select(deliveries).where(_WAITING, deliveries.c.channel == channel)
        query = query.order_by(deliveries.c.id).limit(_LOOKED_AT)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        first: dict[str, Row[Any]] = {}
        for row in rows:
            first.setdefault(row.group, row)
        due = [row for row in first.values() if _is_past(row.due_at, now) and _is_past(row.lease_until, now)][:most]
        if not due or not admits():
            return []
        claimed = []
        with self._database.write() as connection:
            for row in due:
                mine = update(deliveries).where(deliveries.c.id == row.id, _WAITING, _is_free(now))
                values = {"holder": holder, "lease_until": now + LEASE, "tries": deliveries.c.tries + 1}
                if connection.execute(mine.values(values)).rowcount == 1:
                    claimed.append(row)
            bodies = select(notices.c.id, notices.c.body).where(notices.c.id.in_([row.notice for row in claimed]))
            found = {row.id: _notice(row.body) for row in connection.execute(bodies)}
        return [Claimed(_delivery(row), found[row.notice], row.tries + 1) for row in claimed]

    def record(
        self,
        delivery: UUID,
        channel: str,
        holder: UUID,
        attempt: Attempt,
        state: DeliveryState,
        due_at: datetime | None = None,
        *,
        is_test: bool = False,
    ) -> None:
        """Write an attempt down, and how the delivery is from here on, unless another has it by then.

        A test that did not arrive is no notice that nobody got.
        """
        row = {"id": uuid7(), "workspace": DEFAULT_WORKSPACE, "delivery": delivery}
        is_over = state != "waiting"
        changed: dict[str, Any] = {"state": state, "lease_until": None, "holder": None}
        changed |= {"finished_at": attempt.at} if is_over else {"due_at": due_at}
        mine = and_(deliveries.c.id == delivery, _WAITING)
        if attempt.outcome != "delivered":  # what was taken is not sent again, whoever holds it by now
            mine = and_(mine, deliveries.c.holder == holder)
        with self._database.write() as connection:
            connection.execute(insert(attempts).values(row | msgspec.structs.asdict(attempt)))
            _count(connection, channel, attempt.outcome, 1)
            done = connection.execute(update(deliveries).where(mine).values(changed)).rowcount
            if done and state == "dead" and not is_test:
                _count(connection, channel, "gave_up", 1)

    def abandon(self, known: Collection[str], now: datetime) -> int:
        """Give up what waits for channels that are not known any more; return how much that was."""
        query = select(deliveries.c.id, deliveries.c.channel).where(_WAITING, deliveries.c.channel.not_in(list(known)))
        with self._database.read() as connection:
            rows = connection.execute(query.limit(_AT_ONCE)).all()
        if rows:
            with self._database.write() as connection:
                for channel in {row.channel for row in rows}:
                    _give_up(connection, [row.id for row in rows if row.channel == channel], channel, now)
        return len(rows)

    def of_alert(self, alert: Alert, group: str) -> tuple[NoticeDelivery, ...]:
        """Return how an alert was told: the deliveries of its group from then on, or of the storm it was first in."""
        if alert.told_at is None:
            return ()
        query = select(deliveries).join(notices, notices.c.id == deliveries.c.notice)
        of_group = and_(notices.c.group.in_([alert.group, group]), notices.c.at >= alert.told_at)
        query = query.where(or_(of_group, and_(notices.c.group == STORM, notices.c.at == alert.told_at)))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(deliveries.c.id).limit(_MOST_SHOWN)).all()
        told = {row.channel for row in rows if row.group != STORM and row.created_at == alert.told_at}
        return self._with_attempts([row for row in rows if row.group != STORM or row.channel not in told])

    def get(self, delivery: UUID) -> NoticeDelivery | None:
        """Return one delivery with its attempts."""
        with self._database.read() as connection:
            rows = connection.execute(select(deliveries).where(deliveries.c.id == delivery)).all()
        return next(iter(self._with_attempts(rows)), None)

    def waiting(self) -> dict[str, int]:
        """Return how many notices wait, by channel."""
        query = select(deliveries.c.channel, func.count()).where(_WAITING).group_by(deliveries.c.channel)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many attempts there were, by channel and outcome."""
        query = select(counts.c.channel, counts.c.outcome, counts.c.count)
        with self._database.read() as connection:
            return {(channel, outcome): count for channel, outcome, count in connection.execute(query)}

    def forget(self, before: datetime, most: int) -> int:
        """Delete some notices from before a time, or beyond the newest `most`, that wait for nobody."""
        waits = select(deliveries.c.notice).where(_WAITING)
        with self._database.write() as connection:
            surplus = select(notices.c.id).order_by(notices.c.id.desc()).offset(most).limit(1)
            newest_surplus = connection.execute(surplus).scalar()
            old = notices.c.at < before
            if newest_surplus is not None:
                old = or_(old, notices.c.id <= newest_surplus)
            query = select(notices.c.id).where(old, notices.c.id.not_in(waits)).limit(_AT_ONCE)
            ids = connection.execute(query).scalars().all()
            if ids:
                connection.execute(delete(notices).where(notices.c.id.in_(ids)))
        return len(ids)

    def _with_attempts(self, rows: Sequence[Row[Any]]) -> tuple[NoticeDelivery, ...]:
        made: dict[UUID, list[Attempt]] = {}
        query = select(attempts).where(attempts.c.delivery.in_([row.id for row in rows])).order_by(attempts.c.id)
        with self._database.read() as connection:
            for row in connection.execute(query) if rows else ():
                found = Attempt(row.at, row.outcome, row.status, row.error, row.milliseconds)
                made.setdefault(row.delivery, []).append(found)
        return tuple(_delivery(row, made.get(row.id, ())) for row in rows)


def _is_past(at: datetime | None, now: datetime) -> bool:
    return at is None or at <= now or at > now + FAR_AHEAD


def _is_free(now: datetime) -> ColumnElement[bool]:
    until = deliveries.c.lease_until
    return or_(until.is_(None), until <= now, until > now + FAR_AHEAD)


def _count(connection: Connection, channel: str, outcome: Outcome, more: int) -> None:
    row = counts.c.workspace == DEFAULT_WORKSPACE, counts.c.channel == channel, counts.c.outcome == outcome
    counted = update(counts).where(*row).values(count=counts.c.count + more)
    if connection.execute(counted).rowcount == 1:
        return
    try:
        with connection.begin_nested():
            values = {"workspace": DEFAULT_WORKSPACE, "channel": channel, "outcome": outcome, "count": more}
            connection.execute(insert(counts).values(values))
    except IntegrityError:  # somebody else was first
        connection.execute(counted)


def _notice_row(notice: Notice) -> dict[str, Any]:
    row = {"id": notice.id, "workspace": DEFAULT_WORKSPACE, "group": notice.group, "at": notice.at}
    return row | {"body": _encode(notice)}


def _delivery_row(notice: Notice, channel: str, now: datetime) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "workspace": DEFAULT_WORKSPACE,
        "notice": notice.id,
        "channel": channel,
        "group": notice.group,
        "reason": notice.reason,
        "tells_ends": notice.ended > 0,
        "state": "waiting",
        "tries": 0,
        "created_at": now,
        "due_at": now,
    }


def _delivery(row: Row[Any], made: Sequence[Attempt] = ()) -> NoticeDelivery:
    return NoticeDelivery(
        id=row.id,
        notice=row.notice,
        channel=row.channel,
        state=row.state,
        reason=row.reason,
        created_at=row.created_at,
        due_at=row.due_at,
        finished_at=row.finished_at,
        attempts=tuple(made),
    )
