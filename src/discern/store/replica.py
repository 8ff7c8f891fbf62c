"""Questions to a replica of the database, so that those who write are not held up by those who look through it.

- What a replica answers may be some seconds old, `most_seconds` at most: for what must not miss what was just written,
  ask the primary.
- How far behind a replica is is looked at once a second. One that has come as far as the primary has written is not
  behind at all, however long ago that was; else it is at most as old as the last transaction it has, or as the last
  look at which it was not behind.
- A replica that is down, too far behind or gives up on a question is counted, and the primary asked instead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from discern.core.counts import Counts
from discern.store.postgresql import PostgresqlDatabase, engine_for, read_url

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 5.0
_CONNECT_SECONDS = 2
_WRITTEN = text("SELECT pg_current_wal_flush_lsn() - CAST('0/0' AS pg_lsn)")
_REPLAYED = text(
    "SELECT pg_last_wal_replay_lsn() - CAST('0/0' AS pg_lsn),"
    " extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())"
)


class Replica:
    """A replica at `url` of `primary`, over at most `connections` connections of this process."""

    def __init__(
        self,
        primary: PostgresqlDatabase,
        url: str,
        *,
        connections: int,
        most_seconds: float,
        counts: Counts,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._primary = primary
        self._url = read_url(url, "database_replica_url")
        self._connections = connections
        self._most_seconds = most_seconds
        self._counts = counts
        self._monotonic = monotonic
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._look_at = float("-inf")
        self._level_at = float("-inf")
        self._is_fit = False

    def open(self) -> None:
        """Get ready to connect, which is done with the first question."""
        self._engine = engine_for(
            self._url, self._connections, {"default_transaction_read_only": "on"}, _CONNECT_SECONDS
        )

    def close(self) -> None:
        """Give all connections back."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Return the answer to a question. Raises StorageUnavailable when nobody answers."""
        engine = self._engine
        if engine is not None and self._may_be_asked(engine):
            try:
                with engine.connect() as connection:
                    answer = question(connection)
            except SQLAlchemyError as error:
                self._leave_out("replica.down", error)
            else:
                self._counts.add("replica.answers")
                return answer
        self._counts.add("replica.answers_of_the_primary")
        return self._primary.ask(question)

    def _may_be_asked(self, engine: Engine) -> bool:
        now = self._monotonic()
        with self._lock:
            if now < self._look_at:
                return self._is_fit
            # One looks; the others go by what was found before.
            self._look_at = now + _LOOK_SECONDS
        try:
            behind = self._seconds_behind(engine, now)
        except SQLAlchemyError as error:
            self._leave_out("replica.down", error)
            return False
        self._is_fit = behind <= self._most_seconds
        if not self._is_fit:
            self._counts.add("replica.behind")
            log.warning("replica_behind", extra={"seconds": round(min(behind, 1e9), 1)})
        return self._is_fit

    def _seconds_behind(self, engine: Engine, now: float) -> float:
        with engine.connect() as connection:
            # Asked first, or what the primary writes between the two would count as missing.
            written = self._primary.ask(lambda primary: primary.execute(_WRITTEN).scalar_one())
            replayed, age = connection.execute(_REPLAYED).one()
        if replayed is None:  # no replica, or one that was made a primary
            return float("inf")
        if replayed >= written:
            self._level_at = now
            return 0.0
        return min(float("inf") if age is None else float(age), now - self._level_at)

    def _leave_out(self, count: str, error: SQLAlchemyError) -> None:
        self._is_fit = False
        self._look_at = self._monotonic() + _PAUSE_SECONDS
        self._counts.add(count)
        # The address may hold a password, so only the kind of fault is told.
        log.warning("replica_silent", extra={"fault": type(error).__name__})
