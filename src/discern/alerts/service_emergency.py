"""Telling of a database that does not answer, by whoever can be reached without it.

- It is told once it has not answered for a while, again while it does not, and when it does again.
- Of the processes on one machine one tells it. Several machines each tell it: they cannot ask one another.
- What is told here stands in no row: it is in the log.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

from discern.alerts.ports import Sender, Sent
from discern.alerts.rules_delivery import pause_after
from discern.alerts.rules_notices import route_of, shown_alert
from discern.alerts.rules_states import ended
from discern.alerts.types import Alert, Notice, Reason, Table
from discern.core.clock import Clock, utc_now
from discern.core.ids import uuid7

log = logging.getLogger(__name__)
NAME = "DiscernDatabaseDown"
_PATIENCE_SECONDS = 8.0


class Emergency:
    """Watches whether the database answers. `lock` is a file that one process of a machine holds."""

    def __init__(
        self,
        table: Callable[[], Table],
        senders: Callable[[], Mapping[str, Sender]],
        lock: Path,
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._senders = senders
        self._lock_path = lock
        self._clock = clock
        self._monotonic = monotonic
        self._failing_since: float | None = None
        self._alert: Alert | None = None
        self._lock: int | None = None
        self._guard = threading.Lock()
        # Of each channel: tries, when the next is due, and whether it is under way.
        self._tries: dict[str, tuple[int, float, bool]] = {}

    def fails(self) -> None:
        """The database did not answer."""
        moment = self._monotonic()
        if self._failing_since is None:
            self._failing_since = moment
        if moment - self._failing_since < _PATIENCE_SECONDS or not self._is_ours():
            return
        if self._alert is None:
            self._alert = self._begun()
            self._tries = dict.fromkeys(self._channels(self._alert), (0, moment, False))
            log.error("database_down", extra={"alert": str(self._alert.id)})
        self._send(self._alert, "fired", moment)

    def answers(self) -> None:
        """The database answered."""
        self._failing_since = None
        if self._alert is None:
            return
        over, self._alert = ended(self._alert, self._clock()).alert, None
        log.info("database_up", extra={"alert": str(over.id)})
        with self._guard:
            self._tries = dict.fromkeys(self._tries, (0, 0.0, False))
        self._send(over, "resolved", self._monotonic())
        self._let_go()

    def close(self) -> None:
        """Let another process of this machine tell."""
        self._let_go()

    def _begun(self) -> Alert:
        now = self._clock()
        return Alert(
            id=uuid7(),
            workspace="default",
            everywhere=True,
            rule="database-down",
            kind="health",
            severity="critical",
            labels={"alertname": NAME, "severity": "critical", "kind": "health", "part": "database"},
            state="firing",
            value=None,
            summary="The database does not answer",
            description="No verdict can be acknowledged, and no rule is evaluated, until it does. See that it runs, "
            "can be reached, and has disk space; `discern doctor` tells what it says.",
            runbook="",
            began_at=now,
            fired_at=now,
        )

    def _channels(self, alert: Alert) -> tuple[str, ...]:
        route = route_of(alert, self._table().routes)
        return () if route is None else route.channels

    def _send(self, alert: Alert, reason: Reason, moment: float) -> None:
        """Send by every channel that is due, each in a thread of its own."""
        key = UUID(int=alert.id.int ^ (1 if reason == "resolved" else 0))
        notice = _notice(alert, reason)
        route = route_of(alert, self._table().routes)
        repeat = route.repeat if route is not None else 0.0
        for name in list(self._tries):
            with self._guard:
                tries, due, is_going = self._tries[name]
                if is_going or moment < due:
                    continue
                self._tries[name] = tries, due, True
            sender = self._senders()[name]
            work = threading.Thread(
                target=self._send_one,
                args=[name, sender, notice, str(key), repeat],
                name=f"emergency-{name}",
                daemon=True,
            )
            work.start()

    def _send_one(self, name: str, sender: Sender, notice: Notice, key: str, repeat: float) -> None:
        sent = Sent("it broke off in a way nobody thought of; the log has it")
        try:
            sent = sender.send(notice, key)
        finally:
            self._note(name, sent, repeat, key)

    def _note(self, name: str, sent: Sent, repeat: float, key: str) -> None:
        moment = self._monotonic()
        with self._guard:
            tries = self._tries[name][0] + 1
            if sent.error is None:
                self._tries[name] = 0, moment + repeat, False
            else:
                self._tries[name] = tries, moment + pause_after(tries).total_seconds(), False
        log.warning("emergency_told", extra={"channel": name, "detail": sent.error, "key": key})

    def _is_ours(self) -> bool:
        """Tell whether this process holds the lock; where there can be none, each tells."""
        if self._lock is not None:
            return True
        try:
            handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # the disk may be what is full
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _notice(alert: Alert, reason: Reason) -> Notice:
    is_firing = alert.state == "firing"
    return Notice(
        id=alert.id,
        reason=reason,
        route="database-down",
        group="database-down",
        group_labels={"alertname": NAME},
        at=alert.began_at,
        firing=int(is_firing),
        ended=int(not is_firing),
        shown=(shown_alert(alert),),
    )
