"""A table of PostgreSQL in a part for each month, along ids that begin with the time they were made (UUIDv7).

- The ranges have no gap and no end: below the first month and above the last stand parts that take what is left, so
  that a row always has a place.
- A part has the name of the table and its month: `verdicts_2026_11`, `verdicts_before`, `verdicts_after`.
- One process moves an end at a time, by an advisory lock. It takes the whole table for a moment; where it cannot have
  it soon, nothing has happened, and it is tried another time.
- Elsewhere than on PostgreSQL there are no months, and nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, text

from discern.core.months import Month, least_id
from discern.store.database import Database

MONTHS_AHEAD = 3
# Everybody who would write or read waits behind whoever waits for the table.
_LOCK_MILLISECONDS = 500
_LOCK = 0x4D6F6E74  # "Mont"
_PARTS = text(
    "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
    " WHERE inhparent = CAST(:table AS regclass) ORDER BY child.relname"
)


class MonthlyTable:
    """The parts of the table `name`, whose columns `workspace` and `id` are its key.

    `linked` are the names of another table and of its column that holds such ids: its rows go along.
    """

    def __init__(self, database: Database, name: str, *, linked: tuple[str, str] | None = None) -> None:
        self._database = database
        self._name = name
        self._linked = linked

    def months(self) -> list[Month]:
        """Return the months that have a part, oldest first."""
        if self._database.dialect != "postgresql":
            return []
        with self._database.read() as connection:
            return self._months(connection)

    def make_ahead(self, now: datetime) -> list[Month]:
        """Make the parts of the months to come, and return them. Raises StorageUnavailable when it has to wait."""
        wanted = Month.of(now).plus(MONTHS_AHEAD)
        there = self.months()
        if not there or there[-1] >= wanted:
            return []
        made = []
        with self._held() as connection:
            month = self._months(connection)[-1].plus(1)
            while month <= wanted:
                self._append(connection, month)
                made.append(month)
                month = month.plus(1)
        return made

    def rows(self, month: Month) -> dict[str, int]:
        """Return how many rows each workspace has in a month."""
        counted = f"SELECT workspace, count(*) FROM {self._part(month)} GROUP BY workspace"  # nosec B608  # noqa: S608 - names of ours
        with self._database.read() as connection:
            # A month may have many.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            return {row[0]: row[1] for row in connection.execute(text(counted))}

    def workspaces(self, month: Month) -> set[str]:
        """Return the workspaces that have rows in a month, by a step on the key for each."""
        there = f"EXISTS (SELECT FROM {self._part(month)} part WHERE part.workspace = workspaces.workspace)"  # nosec B608
        with self._database.read() as connection:
            found = connection.execute(text(f"SELECT workspace FROM workspaces WHERE {there}"))  # nosec B608  # noqa: S608 - likewise
            return set(found.scalars())

    def drop_oldest(self, month: Month, also: Callable[[Connection], None]) -> bool:
        """Drop the part of a month with all its rows, `also` in the same transaction; tell whether it was the oldest.

        Raises StorageUnavailable when it has to wait.
        """
        with self._held() as connection:
            if self._months(connection)[:1] != [month] or month >= Month.of(_now(connection)):
                return False
            before, lower, upper = f"{self._name}_before", least_id(month.start), least_id(month.end)
            connection.execute(text(f"ALTER TABLE {self._name} DETACH PARTITION {before}"))
            connection.execute(text(f"DROP TABLE {self._part(month)}"))
            bounds = f"FROM (MINVALUE) TO ('{upper}')"
            connection.execute(text(f"ALTER TABLE {self._name} ATTACH PARTITION {before} FOR VALUES {bounds}"))
            if self._linked is not None:
                table, column = self._linked
                # What came late for an older month has its place in the part before, and stays.
                of_the_month = f"{column} >= '{lower}' AND {column} < '{upper}'"
                connection.execute(text(f"DELETE FROM {table} WHERE {of_the_month}"))  # nosec B608  # noqa: S608 - names of ours
            also(connection)
        return True

    def _append(self, connection: Connection, month: Month) -> None:
        after, part = f"{self._name}_after", self._part(month)
        lower, upper = least_id(month.start), least_id(month.end)
        connection.execute(text(f"ALTER TABLE {self._name} DETACH PARTITION {after}"))
        bounds = f"FROM ('{lower}') TO ('{upper}')"
        connection.execute(text(f"CREATE TABLE {part} PARTITION OF {self._name} FOR VALUES {bounds}"))
        # What came before its month had a part, as from a clock that is ahead.
        early = f"DELETE FROM {after} WHERE id < '{upper}' RETURNING *"  # nosec B608  # noqa: S608 - names of ours
        moved = f"WITH early AS ({early}) INSERT INTO {part} SELECT * FROM early"  # nosec B608  # noqa: S608 - likewise
        connection.execute(text(moved))
        rest = f"FROM ('{upper}') TO (MAXVALUE)"
        connection.execute(text(f"ALTER TABLE {self._name} ATTACH PARTITION {after} FOR VALUES {rest}"))

    @contextmanager
    def _held(self) -> Iterator[Connection]:
        """Give a transaction that no other process moves an end beside."""
        with self._database.write() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_MILLISECONDS}ms'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            connection.execute(text(f"LOCK TABLE {self._name} IN ACCESS EXCLUSIVE MODE"))
            yield connection

    def _months(self, connection: Connection) -> list[Month]:
        parts = connection.execute(_PARTS, {"table": self._name}).scalars()
        ends = (part.removeprefix(f"{self._name}_").split("_") for part in parts)
        return [Month(int(end[0]), int(end[1])) for end in ends if len(end) == 2]

    def _part(self, month: Month) -> str:
        return f"{self._name}_{month.year:04d}_{month.month:02d}"


def _now(connection: Connection) -> datetime:
    moment: datetime = connection.execute(text("SELECT now()")).scalar_one()
    return moment
