"""SQL of quality: what was measured, a row a window, and how each release stands.

- What two processes measure at the same time is the same: whoever is second lets the other's rows be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

import msgspec
from sqlalchemy import Column, LargeBinary, PrimaryKeyConstraint, String, Table, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from discern.monitoring.quality.types import QualityWindow, Release, Standing
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

windows = Table(
    "quality_windows",
    metadata,
    workspace_column(),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("start", UtcDateTime, nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("workspace", "detector", "version", "start"),
)
standings = Table(
    "quality_standings",
    metadata,
    workspace_column(),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("body", LargeBinary(), nullable=False),
    PrimaryKeyConstraint("workspace", "detector", "version"),
)
_encode = msgspec.json.Encoder().encode
_window = msgspec.json.Decoder(QualityWindow).decode
_standing = msgspec.json.Decoder(Standing).decode


class QualityStore:
    """Quality in the database. Every method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, release: Release, measured: Iterable[QualityWindow], standing: Standing) -> None:
        """Put windows, and how the release stands, in the place of those that were there."""
        rows = [release._asdict() | {"start": one.start, "body": _encode(one)} for one in measured]
        theirs = and_(*(windows.c[name] == value for name, value in release._asdict().items()))
        its = and_(*(standings.c[name] == value for name, value in release._asdict().items()))
        try:
            with self._database.write() as connection:
                if rows:
                    starts = [row["start"] for row in rows]
                    connection.execute(delete(windows).where(theirs, windows.c.start.in_(starts)))
                    connection.execute(insert(windows), rows)
                connection.execute(delete(standings).where(its))
                connection.execute(insert(standings), [release._asdict() | {"body": _encode(standing)}])
        except IntegrityError:  # another process has written the same meanwhile
            return

    def forget_before(self, start: datetime, kept: Collection[Release]) -> None:
        """Delete windows from before a time, and how releases stand that are not `kept`."""
        gone = [one for one in self.standings() if one not in kept]
        with self._database.write() as connection:
            connection.execute(delete(windows).where(windows.c.start < start))
            for release in gone:
                its = (standings.c[name] == value for name, value in release._asdict().items())
                connection.execute(delete(standings).where(*its))

    def standings(self, workspace: str | None = None) -> Mapping[Release, Standing]:
        """Return how each release stands, of one workspace or of all."""
        query = select(standings).order_by(standings.c.workspace, standings.c.detector, standings.c.version)
        if workspace is not None:
            query = query.where(standings.c.workspace == workspace)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {Release(row.workspace, row.detector, row.version): _standing(bytes(row.body)) for row in rows}

    def windows(self, release: Release, since: datetime) -> list[QualityWindow]:
        """Return the windows of a release from a time on, oldest first."""
        theirs = (windows.c[name] == value for name, value in release._asdict().items())
        query = select(windows.c.body).where(*theirs, windows.c.start >= since).order_by(windows.c.start)
        with self._database.read() as connection:
            return [_window(bytes(body)) for body in connection.execute(query).scalars()]
