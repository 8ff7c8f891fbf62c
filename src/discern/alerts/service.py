"""What the doors do about alerts: look, acknowledge, silence, try a channel.

- A workspace sees the alerts that name it. Those that concern the installation are seen by owners and operators of the
  first workspace, unless they were granted single detectors; who was, sees the alerts of these alone.
- Every change is on the audit log, in the transaction that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from discern.access.types import LOCAL, Principal, Role
from discern.alerts.ports import Sender
from discern.alerts.rules_matching import parsed_all
from discern.alerts.rules_notices import Planned, route_of
from discern.alerts.rules_states import fingerprint
from discern.alerts.service_delivery import Deliveries
from discern.alerts.store import AlertStore
from discern.alerts.store_notices import Claimed
from discern.alerts.types import (
    Alert,
    AlertDetails,
    AlertPage,
    AlertState,
    Notice,
    NoticeDelivery,
    ShownAlert,
    Silence,
    SilenceChange,
    SilenceList,
    SilenceRequest,
    Table,
)
from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, Forbidden, UnknownAlert, UnknownChannel, UnknownSilence
from discern.core.ids import uuid7
from discern.core.workspace import DEFAULT_WORKSPACE

_OPERATORS: frozenset[Role] = frozenset({"owner", "operator"})
_MOST_COMMENT = 1000
# What a terminal would obey, and PostgreSQL keeps in no text; line breaks and tabs are text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST_SILENCE = timedelta(days=90)
# Of a workspace: one that has filled its share keeps no other from silencing.
_MOST_SILENCES = 200


def looks_after_all(principal: Principal) -> bool:
    """Tell whether somebody looks after the installation."""
    is_operator = principal.role in _OPERATORS and principal.detectors is None
    return is_operator and principal.workspace == DEFAULT_WORKSPACE


class AlertDesk:
    """Alerts and silences for the doors. Thread-safe."""

    def __init__(
        self,
        store: AlertStore,
        trail: Trail,
        table: Callable[[], Table],
        senders: Callable[[], Mapping[str, Sender]],
        deliveries: Deliveries,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._trail = trail
        self._table = table
        self._senders = senders
        self._deliveries = deliveries
        self._clock = clock

    def page(
        self, principal: Principal, limit: int, after: UUID | None = None, state: AlertState | None = None
    ) -> AlertPage:
        """Return the alerts that somebody may see, newest first. The command line sees all."""
        workspace = None if principal == LOCAL else principal.workspace
        return self._store.page(
            workspace, limit, after=after, state=state, may_see=lambda alert: _may_see(principal, alert)
        )

    def details(self, principal: Principal, alert_id: UUID) -> AlertDetails:
        """Return one alert, with what happened to it and how it was told. Raises UnknownAlert."""
        alert = self._get(principal, alert_id)
        route = route_of(alert, self._table().routes)
        group = alert.group
        if route is not None and not group:
            labels = {name: alert.labels[name] for name in route.group_by if name in alert.labels}
            group = f"{route.name}:{fingerprint(labels)}"
        return AlertDetails(alert, self._store.history(alert.id), self._store.notices.of_alert(alert, group))

    def acknowledge(self, principal: Principal, alert_id: UUID, comment: str = "") -> Alert:
        """Write that somebody sees to an alert: it is neither repeated nor escalated. Raises UnknownAlert, CallerError.

        Who acknowledges what was acknowledged changes nothing.
        """
        alert = self._get(principal, alert_id)
        _check_comment(comment)
        if alert.state == "resolved":
            raise CallerError("The alert is over.", mend="There is nothing to acknowledge.")
        after = {"alertname": alert.labels["alertname"], "comment": comment}
        act = Act(alert.workspace, principal.id, "alerts.acknowledge", f"alert:{alert.id}", after=after)
        self._store.acknowledge(alert, principal.id, self._clock(), comment, act)
        return self._get(principal, alert_id)

    def silences(self, principal: Principal) -> SilenceList:
        """Return the silences that have not ended and that somebody may see."""
        found = self._store.silences(self._clock())
        return SilenceList(tuple(one for one in found if _may_see_silence(principal, one)))

    def silence(self, principal: Principal, silence_id: UUID) -> Silence:
        """Return one silence. Raises UnknownSilence."""
        found = self._store.silence(silence_id)
        if found is None or not _may_see_silence(principal, found):
            raise UnknownSilence(f"There is no silence {silence_id}.", mend="GET /v1/silences lists them.")
        return found

    def add_silence(self, principal: Principal, asked: SilenceRequest) -> Silence:
        """Silence alerts for a time. Raises CallerError and Forbidden."""
        now = self._clock()
        starts_at = asked.starts_at or now
        if starts_at - now > _LONGEST_SILENCE:
            raise CallerError(f"A silence begins in {_LONGEST_SILENCE.days} days at most.", mend="Make it later.")
        if (asked.ends_at is None) == (asked.seconds is None):
            raise CallerError("A silence ends at a time.", mend="Give ends_at or seconds.")
        ends_at = asked.ends_at or starts_at + _span(asked.seconds or 0.0)
        if not asked.matchers:
            raise CallerError("A silence without matchers would be of everything.", mend="Give a matcher.")
        if asked.everywhere and not looks_after_all(principal):
            raise Forbidden(
                "Only owners and operators of the workspace default silence all workspaces.",
                mend="Leave everywhere out: the silence is then of your workspace.",
                action="alerts.change",
                role=principal.role,
            )
        _check_comment(asked.comment, needed=True)
        _check_times(starts_at, ends_at, now)
        if sum(one.workspace == principal.workspace for one in self._store.silences(now)) >= _MOST_SILENCES:
            raise CallerError(f"There are {_MOST_SILENCES} silences of the workspace.", mend="End some of them.")
        silence = Silence(
            id=uuid7(),
            workspace=principal.workspace,
            everywhere=asked.everywhere,
            matchers=parsed_all(asked.matchers),
            starts_at=starts_at,
            ends_at=ends_at,
            by=principal.id,
            comment=asked.comment,
            created_at=now,
        )
        self._store.put_silence(silence, _act_of(principal, "alerts.silence", None, silence))
        return silence

    def change_silence(self, principal: Principal, silence_id: UUID, asked: SilenceChange) -> Silence:
        """Have a silence end at another time, or say something else about it.

        Raises UnknownSilence, Forbidden and CallerError.
        """
        before = self._changeable(principal, silence_id)
        now = self._clock()
        if asked.comment is not None:
            _check_comment(asked.comment, needed=True)
        ends_at = asked.ends_at or before.ends_at
        _check_times(before.starts_at, ends_at, now)
        after = _with(before, ends_at, before.comment if asked.comment is None else asked.comment)
        self._store.put_silence(after, _act_of(principal, "alerts.silence", before, after))
        return after

    def end_silence(self, principal: Principal, silence_id: UUID) -> Silence:
        """End a silence at once. Raises UnknownSilence and Forbidden."""
        before = self._changeable(principal, silence_id)
        now = self._clock()
        after = _with(before, min(before.ends_at, now), before.comment)
        self._store.put_silence(after, _act_of(principal, "alerts.unsilence", before, after))
        return after

    def _changeable(self, principal: Principal, silence_id: UUID) -> Silence:
        """Return a silence that somebody may change: one that is of all workspaces is seen by all, and not theirs."""
        found = self.silence(principal, silence_id)
        is_theirs = looks_after_all(principal) if found.everywhere else found.workspace == principal.workspace
        if principal != LOCAL and not is_theirs:
            raise Forbidden(
                "Only owners and operators of the workspace default change a silence of all workspaces.",
                mend="Ask one of them.",
                action="alerts.change",
                role=principal.role,
            )
        return found

    def test(self, principal: Principal, channel: str) -> NoticeDelivery:
        """Send a notice by one channel at once, and return what came of it. Raises UnknownChannel and Forbidden."""
        if principal != LOCAL and not looks_after_all(principal):
            raise Forbidden(
                "Only owners and operators of the workspace default try channels.",
                mend="Ask one of them.",
                action="alerts.change",
                role=principal.role,
            )
        if channel not in self._senders():
            known = ", ".join(self._senders()) or "none"
            raise UnknownChannel(f"There is no channel {channel[:64]!r}.", mend=f"There are: {known}.")
        now = self._clock()
        notice = _test_notice(now, channel, principal)
        self._trail.record(Act(principal.workspace, principal.id, "alerts.test", f"channel:{channel}"))
        delivery_id = self._store.notices.put(Planned(notice, (channel,)), now, self._deliveries.holder)[0]
        delivery = NoticeDelivery(delivery_id, notice.id, channel, "waiting", "test", now, now)
        found = self._deliveries.send_at_once(delivery_id, Claimed(delivery, notice, 1))
        return delivery if found is None else found

    def table(self) -> Table:
        """Return the rules, channels and routes. Raises InvalidSettings."""
        return self._table()

    def _get(self, principal: Principal, alert_id: UUID) -> Alert:
        found = self._store.get(alert_id)
        is_theirs = found is not None and (principal == LOCAL or found.workspace == principal.workspace)
        if found is None or not is_theirs or not _may_see(principal, found):
            raise UnknownAlert(f"There is no alert {alert_id}.", mend="GET /v1/alerts lists them.")
        return found


def _may_see(principal: Principal, alert: Alert) -> bool:
    if alert.everywhere:
        return principal == LOCAL or looks_after_all(principal)
    return principal.detectors is None or alert.labels.get("detector") in principal.detectors


def _may_see_silence(principal: Principal, silence: Silence) -> bool:
    return principal == LOCAL or silence.workspace == principal.workspace or silence.everywhere


def _check_comment(comment: str, *, needed: bool = False) -> None:
    if len(comment) > _MOST_COMMENT:
        raise CallerError(f"The comment has more than {_MOST_COMMENT} characters.", mend="Write less.")
    if _CONTROL.search(comment):
        raise CallerError("The comment holds control characters.", mend="Write it without them.")
    if needed and not comment.strip():
        raise CallerError("A silence says why.", mend="Give a comment.")


def _check_times(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if ends_at <= starts_at or ends_at <= now:
        raise CallerError("The silence would be over before it begins.", mend="Let it end later.")
    if ends_at - min(starts_at, now) > _LONGEST_SILENCE:
        raise CallerError(f"A silence lasts {_LONGEST_SILENCE.days} days at most.", mend="Let it end sooner.")


def _span(seconds: float) -> timedelta:
    if not 0 < seconds <= _LONGEST_SILENCE.total_seconds():
        most = int(_LONGEST_SILENCE.total_seconds())
        raise CallerError(f"{seconds:g} seconds is no time for a silence.", mend=f"Give up to {most}.")
    return timedelta(seconds=seconds)


def _with(silence: Silence, ends_at: datetime, comment: str) -> Silence:
    return Silence(
        id=silence.id,
        workspace=silence.workspace,
        everywhere=silence.everywhere,
        matchers=silence.matchers,
        starts_at=min(silence.starts_at, ends_at),
        ends_at=ends_at,
        by=silence.by,
        comment=comment,
        created_at=silence.created_at,
    )


def _act_of(principal: Principal, verb: str, before: Silence | None, after: Silence) -> Act:
    was, is_ = (None if one is None else _facts(one) for one in (before, after))
    return Act(after.workspace, principal.id, verb, f"silence:{after.id}", before=was, after=is_)


def _facts(silence: Silence) -> dict[str, object]:
    return {
        "matchers": [str(matcher) for matcher in silence.matchers],
        "ends_at": silence.ends_at.isoformat(timespec="seconds"),
        "everywhere": silence.everywhere,
        "comment": silence.comment,
    }


def _test_notice(now: datetime, channel: str, principal: Principal) -> Notice:
    notice_id = uuid7()
    labels = {"alertname": "DiscernTest", "severity": "info", "kind": "metric", "channel": channel}
    shown = ShownAlert(
        id=notice_id,
        name="DiscernTest",
        firing=True,
        severity="info",
        labels=labels,
        summary=f"A test of the channel {channel}",
        description=f"{principal.id} has asked for it.",
        runbook="",
        began_at=now,
        fingerprint=fingerprint(labels),
    )
    return Notice(
        id=notice_id,
        reason="test",
        route="test",
        group=f"test:{notice_id}",
        group_labels={"alertname": "DiscernTest"},
        at=now,
        firing=1,
        ended=0,
        shown=(shown,),
    )
