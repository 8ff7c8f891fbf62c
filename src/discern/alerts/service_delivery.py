"""Sending notices: a loop that claims what is due, and threads that send.

- A channel that is down, hangs or answers with errors holds up no other channel, no rule and no stop: each send has a
  thread of its own, a channel has few at a time, and a breaker leaves one alone that keeps failing.
- A notice is sent at least once, always with the same id: who dies between claim and answer leaves a lease that runs
  out. What nobody took for `give_up` is dead, and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import UUID

from discern.alerts.ports import Sender, Sent
from discern.alerts.rules_delivery import is_given_up, pause_after
from discern.alerts.store_notices import Claimed, NoticeStore
from discern.alerts.types import Attempt, DeliveryState, NoticeDelivery, Outcome
from discern.core.breakers import Breakers, Guard
from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7
from discern.monitoring.ports import Happenings

log = logging.getLogger(__name__)
_AT_A_TIME = 2
_STOP_SECONDS = 1.0
# A send that has not come back by then is another's to make, and no longer counted as under way.
_HUNG_SECONDS = 90.0


class _Lane:
    """What is under way by one channel, and its breaker."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.started: dict[UUID, float] = {}


class Deliveries:
    """Sends what is due. `is_ours` tells whether this process is the one that does."""

    def __init__(
        self,
        store: NoticeStore,
        senders: Callable[[], Mapping[str, Sender]],
        is_ours: Callable[[], bool],
        happenings: Happenings,
        breakers: Breakers,
        *,
        give_up: timedelta,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._senders = senders
        self._is_ours = is_ours
        self._happenings = happenings
        self._breakers = breakers
        self._give_up = give_up
        self._clock = clock
        self._monotonic = monotonic
        self._holder = uuid7()
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._stopped = False
        self._has_run = False

    def turn(self) -> None:
        """Claim what is due and begin to send it; nothing is waited for."""
        try:
            if self._stopped or not self._is_ours():
                return
            self._has_run = True
            for name, sender in self._senders().items():
                for claimed in self._claim(name):
                    self._begin(name, sender, claimed)
        except StorageUnavailable as error:
            log.warning("notices_wait", extra={"detail": error.detail})

    def send_at_once(self, delivery: UUID, claimed: Claimed) -> NoticeDelivery | None:
        """Send what was put with this holder, and return what came of it. Raises StorageUnavailable."""
        channel = claimed.delivery.channel
        self._send(channel, self._senders()[channel], claimed)
        return self._store.get(delivery)

    @property
    def holder(self) -> UUID:
        """Who holds what this process claims."""
        return self._holder

    def under_way(self) -> int:
        """Return how many sends have not come back."""
        with self._lock:
            return sum(len(lane.started) for lane in self._lanes.values())

    def close(self) -> bool:
        """Begin nothing any more, and wait a moment for what is under way; tell whether anything ever ran."""
        self._stopped = True
        until = time.monotonic() + _STOP_SECONDS
        while self.under_way() and time.monotonic() < until:
            time.sleep(0.02)
        return self._has_run

    def _lane(self, name: str) -> _Lane:
        with self._lock:
            if name not in self._lanes:
                self._lanes[name] = _Lane(self._breakers.guard("channel", name))
            return self._lanes[name]

    def _claim(self, name: str) -> list[Claimed]:
        lane, now = self._lane(name), self._monotonic()
        if lane.guard.seconds_left() > 0:
            return []
        with self._lock:
            going = sum(1 for at in lane.started.values() if now - at < _HUNG_SECONDS)
            # Threads that hang for good are not added to without end.
            most = min(_AT_A_TIME - going, 4 * _AT_A_TIME - len(lane.started))
        if not lane.guard.is_closed:
            most = 1 if not going else 0
        if most <= 0:
            return []
        return self._store.claim(name, self._holder, self._clock(), most, lane.guard.admits)

    def _begin(self, name: str, sender: Sender, claimed: Claimed) -> None:
        with self._lock:
            self._lanes[name].started[claimed.delivery.id] = self._monotonic()
        work = threading.Thread(target=self._send, args=[name, sender, claimed], name=f"notice-{name}", daemon=True)
        work.start()

    def _send(self, name: str, sender: Sender, claimed: Claimed) -> None:
        """Send, and write down what came of it."""
        begun = self._monotonic()
        sent = Sent("it broke off in a way nobody thought of; the log has it")
        try:
            sent = sender.send(claimed.notice, str(claimed.delivery.id))
        finally:
            lane = self._lane(name)
            with self._lock:
                lane.started.pop(claimed.delivery.id, None)
            if sent.error is None:
                lane.guard.succeeded()
            else:
                lane.guard.failed(sent.error)
            self._write_down(name, claimed, sent, self._monotonic() - begun)

    def _write_down(self, name: str, claimed: Claimed, sent: Sent, seconds: float) -> None:
        now = self._clock()
        state: DeliveryState = "delivered"
        if sent.error:
            is_over = sent.refused or is_given_up(claimed.delivery.created_at, now, self._give_up)
            is_over = is_over or claimed.delivery.reason == "test"
            state = "dead" if is_over else "waiting"
        outcome: Outcome = "delivered" if sent.error is None else "refused" if sent.refused else "failed"
        attempt = Attempt(now, outcome, sent.status, sent.error, round(seconds * 1000, 1))
        due_at = now + pause_after(claimed.tries)
        facts = {"channel": name, "delivery": str(claimed.delivery.id), "tries": claimed.tries, "detail": sent.error}
        facts["outcome"] = outcome
        log.log(logging.INFO if sent.error is None else logging.WARNING, "notice_sent", extra=facts)
        if state == "dead" and claimed.delivery.reason != "test":
            self._happenings.tell("notice.given_up", name, error=sent.error, tries=claimed.tries)
        try:
            is_test = claimed.delivery.reason == "test"
            self._store.record(claimed.delivery.id, name, self._holder, attempt, state, due_at, is_test=is_test)
        except StorageUnavailable as error:  # its lease runs out, and it is sent again
            log.warning("attempt_not_written", extra={"detail": error.detail, "channel": name})
