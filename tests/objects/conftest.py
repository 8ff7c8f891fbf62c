"""Objects over a folder, over S3, and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from discern.audit.service import AuditTrail
from discern.audit.service_anchors import FileAnchors
from discern.audit.store import AuditStore
from discern.core.ids import uuid7
from discern.objects.ports import MasterKey
from discern.objects.service import SealedObjects
from discern.objects.service_masters import FileMasterKey, KeyRing
from discern.objects.service_rotation import Rotation
from discern.objects.store import ObjectTable
from discern.objects.types import Address
from discern.store.database import Database
from discern.store.objects import ObjectAccess, ObjectStore
from discern.store.sqlite import SqliteDatabase

SOME = Address("default", "jobs/one", "input")


@dataclass
class Kit:
    """The parts of an installation that keep objects."""

    folder: Path
    database: Database
    table: ObjectTable
    store: ObjectStore
    ring: KeyRing
    objects: SealedObjects
    rotation: Rotation
    audit: AuditStore
    later: timedelta = timedelta()

    def bytes_of(self, address: Address) -> Path:
        """Return the file that the sealed bytes of an object lie in."""
        kept = self.table.get(address)
        assert kept is not None
        return self.folder / "objects" / kept.id.hex


@pytest.fixture
def kit_of(tmp_path: Path) -> Iterator[Callable[..., Kit]]:
    """Make a kit; over a folder and a key file where nothing else is given."""
    opened: list[Database] = []

    def make(store: ObjectStore | None = None, master: MasterKey | None = None, *others: MasterKey) -> Kit:
        database = SqliteDatabase(tmp_path / "discern.db")
        database.open()
        opened.append(database)
        table = ObjectTable(database)
        store = store or ObjectStore(tmp_path / "objects", ObjectAccess())
        ring = KeyRing(master or FileMasterKey(tmp_path / "master"), others)
        audit = AuditStore(database)
        trail = AuditTrail(audit, FileAnchors(tmp_path / "anchors.jsonl"), 0)
        made = Kit(
            tmp_path,
            database,
            table,
            store,
            ring,
            SealedObjects(table, store, ring, lambda: datetime.now(UTC) + made.later),
            Rotation(ring, (table,), trail, lambda: datetime.now(UTC) + made.later),
            audit,
        )
        return made

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def kit(kit_of: Callable[..., Kit]) -> Kit:
    """Objects in a folder, under a key file."""
    return kit_of()


@pytest.fixture
def in_s3(aws_endpoint: str, make_bucket: Callable[[str], None]) -> ObjectStore:
    """A bucket of the test's own."""
    bucket = f"objects-{uuid7().hex}"
    make_bucket(bucket)
    return ObjectStore(f"s3://{bucket}/some/prefix", ObjectAccess(aws_endpoint, "us-east-1", "AKIATEST", "hidden-word"))
