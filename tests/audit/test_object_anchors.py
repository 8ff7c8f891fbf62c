"""Anchors in an object store: kept once, never written over, and read back by their names."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discern.audit.service import AuditTrail
from discern.audit.service_anchors import ObjectAnchors
from discern.audit.store import AuditStore
from discern.audit.types import Act, Anchor
from discern.core.clock import utc_now
from discern.core.errors import InvalidSettings, OperatorError, StorageUnavailable
from discern.core.ids import uuid7
from discern.settings import load_settings
from discern.store.objects import ObjectAccess, ObjectStore
from discern.store.sqlite import SqliteDatabase

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def bucket(make_bucket: Callable[[str], None]) -> str:
    name = f"anchors-{uuid7().hex}"
    make_bucket(name)
    return name


@pytest.fixture
def place(aws_endpoint: str, bucket: str) -> ObjectAnchors:
    access = ObjectAccess(aws_endpoint, "us-east-1", "AKIATEST", "hidden-word")
    return ObjectAnchors(ObjectStore(f"s3://{bucket}/audit", access))


def test_an_anchor_is_never_written_over(place: ObjectAnchors, aws_client: Callable[[str], Any], bucket: str) -> None:
    first = Anchor("default", 3, DIGEST, utc_now())
    place.put(first)
    name = f"audit/default/{3:016}-{DIGEST}.json"
    before = aws_client("s3").get_object(Bucket=bucket, Key=name)["Body"].read()
    place.put(Anchor("default", 3, DIGEST, utc_now()))
    assert aws_client("s3").get_object(Bucket=bucket, Key=name)["Body"].read() == before
    place.put(Anchor("default", 3, "f" * 64, utc_now()))
    found = sorted((one.workspace, one.number, one.digest) for one in place.all())
    assert found == [("default", 3, DIGEST), ("default", 3, "f" * 64)]
    aws_client("s3").put_object(Bucket=bucket, Key="audit/default/other", Body=b"")
    with pytest.raises(OperatorError, match="is no anchor"):
        place.all()


def test_a_log_is_held_against_them(place: ObjectAnchors, tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "discern.db")
    database.open()
    trail = AuditTrail(AuditStore(database), place, 0)
    for number in range(4):
        trail.record(Act("default", "key:1", "keys.create", f"key:{number}"))
        trail.anchor(now=True)
    seen = trail.verify("default")
    assert (seen.entries, seen.faults, seen.anchors) == (4, (), 4)
    with sqlite3.connect(tmp_path / "discern.db") as connection:
        connection.execute("DELETE FROM audit_entries")
        connection.execute("DELETE FROM audit_heads")
    connection.close()
    for number in range(4):
        trail.record(Act("default", "key:other", "keys.create", f"key:{number}"))
    trail.anchor(now=True)
    found = [fault.what for fault in trail.verify("default").faults]
    assert found[0] == "Entry 1 is not the one that was anchored."
    assert len(found) == 4
    database.close()


def test_a_store_that_is_down_is_tried_again(tmp_path: Path) -> None:
    place = ObjectAnchors(ObjectStore("s3://bucket", ObjectAccess("http://127.0.0.1:9", "us-east-1", "a", "b")))
    with pytest.raises(StorageUnavailable):
        place.put(Anchor("default", 1, DIGEST, utc_now()))


def test_a_url_without_a_bucket_stops_the_start(tmp_path: Path) -> None:
    from discern.app import build_services

    for name, url in (("AUDIT_ANCHOR", "s3://"), ("OBJECTS_URL", "s3:///x"), ("OBJECTS_URL", "ftp://host/x")):
        settings = load_settings({"DISCERN_HOME": str(tmp_path), f"DISCERN_{name}": url})
        with pytest.raises(InvalidSettings, match="s3://BUCKET/PREFIX"):
            build_services(settings)
