"""SQL of alerts and silences.

- A notice, and that its first `_AT_ONCE` alerts and groups were told, are written in one transaction: what is told is
  on its way. Beyond that many another notice tells of those that were not written when a process died.
- Many alerts are written in several transactions, so that nobody else waits for all of them.
- The states of a machine's alerts are its own to write, how they were told is the leader's, and who acknowledged them
  anybody's: each has columns of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from discern.alerts.rules_notices import Planned
from discern.alerts.rules_states import fingerprint
from discern.alerts.store_notices import NoticeStore, put_notices
from discern.alerts.store_tables import alerts, events, groups, silences
from discern.alerts.types import Alert, AlertPage, AlertState, Event, Matcher, Silence
from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.store.database import Database
from discern.store.metadata import workspaces
from discern.store.turns import StillHeld

_AT_ONCE = 200
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_PAGE = 200
_MOST_EVENTS = 200
_BEGAN_BEFORE = timedelta(days=1)
_encode = msgspec.json.Encoder().encode
_alert = msgspec.json.Decoder(Alert).decode
_matchers = msgspec.json.Decoder(tuple[Matcher, ...]).decode


class Stale(Exception):
    """Another process has evaluated meanwhile: what is known of the states is to be read anew."""


class Written(NamedTuple):
    """What there is to write of alerts: those that are there for the first time, others, those that are gone."""

    begun: Sequence[Alert] = ()
    changed: Sequence[Alert] = ()
    gone: Sequence[UUID] = ()
    events: Sequence[tuple[Alert, Event]] = ()


class AlertStore:
    """Alerts in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database, trail: Trail) -> None:
        self._database = database
        self._trail = trail
        self.notices = NoticeStore(database)

    def unfinished(self, besides: Collection[str] = ()) -> list[Alert]:
        """Return the alerts that are not over, or of which somebody is still to be told that they are.

        `besides` are machines whose alerts are left out; the empty one has what stands in the database.
        """
        query = select(alerts).where(alerts.c.is_done.is_(False))
        if besides:
            query = query.where(alerts.c.machine.not_in(list(besides)))
        with self._database.read() as connection:
            return [_read(row) for row in connection.execute(query)]

    def acknowledged(self) -> dict[UUID, tuple[datetime, str]]:
        """Return when and by whom those of them were acknowledged that were."""
        query = select(alerts.c.id, alerts.c.acknowledged_at, alerts.c.acknowledged_by)
        query = query.where(alerts.c.is_done.is_(False), alerts.c.acknowledged_at.is_not(None))
        with self._database.read() as connection:
            return {row.id: (row.acknowledged_at, row.acknowledged_by) for row in connection.execute(query)}

    def workspaces(self) -> set[str]:
        """Return the names of the workspaces."""
        with self._database.read() as connection:
            return set(connection.execute(select(workspaces.c.workspace)).scalars())

    def groups(self) -> dict[str, datetime]:
        """Return when each group of alerts was last told."""
        with self._database.read() as connection:
            return {row.key: row.told_at for row in connection.execute(select(groups.c.key, groups.c.told_at))}

    def move_groups(self, jump: timedelta) -> None:
        """Move the times at which groups were told by a jump of the clock."""
        with self._database.write() as connection:
            for row in connection.execute(select(groups.c.key, groups.c.told_at)).all():
                mine = groups.c.workspace == DEFAULT_WORKSPACE, groups.c.key == row.key
                connection.execute(update(groups).where(*mine).values(told_at=row.told_at + jump))

    def write(self, written: Written) -> None:
        """Write what has changed about states, some of it at a time. Raises Stale."""
        try:
            for part in _parts(written.begun):
                with self._database.write() as connection:
                    connection.execute(insert(alerts), [_row(alert) for alert in part])
            for part in _parts(written.changed):
                with self._database.write() as connection:
                    _update_states(connection, part)
            for ids in _parts(written.gone):
                with self._database.write() as connection:
                    connection.execute(delete(alerts).where(alerts.c.id.in_(ids)))
            for told in _parts(written.events):
                with self._database.write() as connection:
                    _put_events(connection, told)
        except IntegrityError as error:
            raise Stale from error

    def note(self, noted: Sequence[Alert], said: Sequence[tuple[Alert, Event]] = ()) -> None:
        """Write how alerts were told, or why not, some at a time."""
        for part in _parts(noted):
            with self._database.write() as connection:
                _update_told(connection, part)
        self.write(Written(events=said))

    def tell(
        self,
        notices: Sequence[Planned],
        told: Sequence[Alert],
        said: Sequence[tuple[Alert, Event]],
        told_at: Mapping[str, datetime],
        now: datetime,
        still_leads: StillHeld,
    ) -> None:
        """Write notices, with what is known of their alerts from here on.

        Some of it goes with the notices in one transaction, the rest some at a time, as nobody else may write
        meanwhile: of what was not written when a process died there is another notice. Raises Stale where somebody
        else leads by then: what was kept from writing for long has been told by them.
        """
        parts = zip_longest(_parts(told), _parts(said), _parts(list(told_at.items())), fillvalue=())
        with self._database.write() as connection:
            if not still_leads(connection):
                raise Stale
            put_notices(connection, notices, now)
            self._put_told(connection, *next(parts, ((), (), ())))
        for part in parts:
            with self._database.write() as connection:
                if not still_leads(connection):
                    raise Stale
                self._put_told(connection, *part)

    def _put_told(
        self,
        connection: Connection,
        told: Sequence[Alert],
        said: Sequence[tuple[Alert, Event]],
        told_at: Sequence[tuple[str, datetime]],
    ) -> None:
        _update_told(connection, told)
        _put_events(connection, said)
        if told_at:
            rows = [{"workspace": DEFAULT_WORKSPACE, "key": key, "told_at": at} for key, at in told_at]
            put = _INSERTS[self._database.dialect](groups)
            again = put.on_conflict_do_update(
                index_elements=["workspace", "key"], set_={"told_at": put.excluded.told_at}
            )
            connection.execute(again, rows)

    def get(self, alert_id: UUID) -> Alert | None:
        """Return one alert of whichever workspace."""
        with self._database.read() as connection:
            row = connection.execute(select(alerts).where(alerts.c.id == alert_id)).first()
        return None if row is None else _read(row)

    def page(
        self,
        workspace: str | None,
        limit: int,
        *,
        after: UUID | None = None,
        state: AlertState | None = None,
        may_see: Callable[[Alert], bool] = lambda _: True,
    ) -> AlertPage:
        """Return alerts of a workspace, None for all, newest first, of those that `may_see` lets be seen."""
        query = select(alerts).order_by(alerts.c.id.desc()).limit(_PAGE)
        if workspace is not None:
            query = query.where(alerts.c.workspace == workspace)
        if state is not None:
            query = query.where(alerts.c.state == state)
        found: list[Alert] = []
        with self._database.read() as connection:
            while len(found) <= limit:
                rows = connection.execute(query if after is None else query.where(alerts.c.id < after)).all()
                found.extend(alert for alert in map(_read, rows) if may_see(alert))
                if len(rows) < _PAGE:
                    break
                after = rows[-1].id
        page = tuple(found[:limit])
        return AlertPage(page, str(page[-1].id) if len(found) > limit and page else None)

    def fired(self, workspace: str, since: datetime, until: datetime) -> list[Alert]:
        """Return the alerts of a workspace that fired from the one time to before the other, in that order."""
        # An alert has its id from when it began, and most fire within the hour.
        ids = alerts.c.id >= least_id(since - _BEGAN_BEFORE), alerts.c.id < least_id(until)
        query = select(alerts).where(alerts.c.workspace == workspace, *ids)
        with self._database.read() as connection:
            found = [_read(row) for row in connection.execute(query)]
        fired = [(one.fired_at, one) for one in found if one.fired_at is not None and since <= one.fired_at < until]
        return [one for _, one in sorted(fired, key=lambda pair: (pair[0], pair[1].id))]

    def history(self, alert_id: UUID) -> tuple[Event, ...]:
        """Return what happened to an alert, the first first."""
        query = select(events).where(events.c.alert == alert_id).order_by(events.c.id).limit(_MOST_EVENTS)
        with self._database.read() as connection:
            return tuple(Event(row.at, row.what, row.by, row.detail) for row in connection.execute(query))

    def acknowledge(self, alert: Alert, by: str, now: datetime, comment: str, act: Act) -> bool:
        """Write that somebody sees to an alert; tell whether it was not over, nor acknowledged before."""
        mine = and_(alerts.c.id == alert.id, alerts.c.state != "resolved", alerts.c.acknowledged_at.is_(None))
        with self._database.write() as connection:
            values = {"acknowledged_at": now, "acknowledged_by": by}
            if connection.execute(update(alerts).where(mine).values(**values)).rowcount != 1:
                return False
            _put_events(connection, [(alert, Event(now, "acknowledged", by, comment or None))])
            self._trail.append(connection, act)
        return True

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many alerts are open, by severity and state."""
        query = select(alerts.c.severity, alerts.c.state, func.count()).where(alerts.c.state != "resolved")
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(alerts.c.severity, alerts.c.state))
            return {(severity, state): count for severity, state, count in rows}

    def silences(self, now: datetime | None) -> list[Silence]:
        """Return the silences that have not ended at a time, or all; the first to end first."""
        query = select(silences).order_by(silences.c.ends_at, silences.c.id)
        if now is not None:
            query = query.where(silences.c.ends_at > now)
        with self._database.read() as connection:
            return [_silence(row) for row in connection.execute(query)]

    def silence(self, silence_id: UUID) -> Silence | None:
        """Return one silence of whichever workspace."""
        with self._database.read() as connection:
            row = connection.execute(select(silences).where(silences.c.id == silence_id)).first()
        return None if row is None else _silence(row)

    def put_silence(self, silence: Silence, act: Act) -> None:
        """Write a silence, in place of one with its id."""
        values: dict[str, Any] = msgspec.structs.asdict(silence) | {"matchers": _encode(silence.matchers)}
        with self._database.write() as connection:
            connection.execute(delete(silences).where(silences.c.id == silence.id))
            connection.execute(insert(silences).values(values))
            self._trail.append(connection, act)

    def forget(self, before: datetime, most: int) -> int:
        """Delete some of what was over before a time, and alerts beyond the newest `most`; return how many."""
        over = and_(alerts.c.is_done.is_(True), alerts.c.resolved_at.is_not(None))
        with self._database.write() as connection:
            surplus = select(alerts.c.id).where(over).order_by(alerts.c.id.desc()).offset(most).limit(1)
            newest_surplus = connection.execute(surplus).scalar()
            old = alerts.c.resolved_at < before
            if newest_surplus is not None:
                old = or_(old, alerts.c.id <= newest_surplus)
            ids = connection.execute(select(alerts.c.id).where(over, old).limit(_AT_ONCE * 2)).scalars().all()
            if ids:
                connection.execute(delete(alerts).where(alerts.c.id.in_(ids)))
            connection.execute(delete(silences).where(silences.c.ends_at < before))
            connection.execute(delete(groups).where(groups.c.told_at < before))
        return len(ids) + self.notices.forget(before, most)


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _row(alert: Alert) -> dict[str, Any]:
    is_open = alert.state != "resolved"
    return {
        "id": alert.id,
        "workspace": alert.workspace,
        "everywhere": alert.everywhere,
        "rule": alert.rule,
        "severity": alert.severity,
        "state": alert.state,
        "open_as": f"{alert.rule}:{fingerprint(alert.labels)}" if is_open else None,
        "resolved_at": alert.resolved_at,
        "body": _encode(alert),
        "machine": alert.machine,
    } | _told(alert)


def _told(alert: Alert) -> dict[str, Any]:
    found = {name: getattr(alert, name) for name in ("levels", "told_at", "end_told", "muted_by", "group")}
    return found | {"is_done": is_done(alert)}


def is_done(alert: Alert) -> bool:
    """Tell whether an alert is over, and nobody is to be told any more."""
    return alert.state == "resolved" and (alert.levels == 0 or alert.end_told)


_OF_A_STATE = ("state", "open_as", "resolved_at", "body")
_OF_BEING_TOLD = ("levels", "told_at", "end_told", "muted_by", "group", "is_done")


def _update_states(connection: Connection, changed: Sequence[Alert]) -> None:
    _update(connection, [{"id": alert.id} | _row(alert) for alert in changed], _OF_A_STATE)


def _update_told(connection: Connection, changed: Sequence[Alert]) -> None:
    _update(connection, [{"id": alert.id} | _told(alert) for alert in changed], _OF_BEING_TOLD)


def _update(connection: Connection, changed: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write some columns of alerts that are there."""
    if changed:
        values: Any = {name: bindparam(f"new_{name}") for name in columns}
        rows = [{"row_id": row["id"]} | {f"new_{name}": row[name] for name in columns} for row in changed]
        connection.execute(update(alerts).where(alerts.c.id == bindparam("row_id")).values(values), rows)


def _put_events(connection: Connection, said: Sequence[tuple[Alert, Event]]) -> None:
    if said:
        rows = [
            {"id": uuid7(), "workspace": alert.workspace, "alert": alert.id} | msgspec.structs.asdict(event)
            for alert, event in said
        ]
        connection.execute(insert(events), rows)


def _read(row: Row[Any]) -> Alert:
    """Return an alert; what others than its machine write stands in columns."""
    return msgspec.structs.replace(_alert(row.body), **{name: getattr(row, name) for name in _OF_OTHERS})


_OF_OTHERS = ("acknowledged_at", "acknowledged_by", "levels", "told_at", "end_told", "muted_by", "group")


def _silence(row: Row[Any]) -> Silence:
    names = ("id", "workspace", "everywhere", "starts_at", "ends_at", "by", "comment", "created_at")
    return Silence(matchers=_matchers(row.matchers), **{name: getattr(row, name) for name in names})
