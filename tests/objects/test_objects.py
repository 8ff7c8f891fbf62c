"""What is kept reads back, lies nowhere in the clear, and is gone when it is erased."""

from __future__ import annotations

import io
import os
import random
import sqlite3
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from discern.core.errors import ObjectRefused, ObjectsUnavailable, UnreadableInput
from discern.objects.ports import HeldKey
from discern.objects.service_masters import FileMasterKey, KeyRing
from discern.objects.types import Address, WrappedKey
from discern.store.objects import ObjectAccess, ObjectStore
from tests.objects.conftest import SOME, Kit

MARK = b"an-unlikely-row-of-bytes-9e1f"
MIB = 1024 * 1024


@pytest.fixture(params=["folder", "s3"])
def anywhere(request: pytest.FixtureRequest, kit_of: Callable[..., Kit]) -> Kit:
    """Objects in a folder, and in S3."""
    return kit_of(request.getfixturevalue("in_s3") if request.param == "s3" else None)


def read(kit: Kit, address: Address = SOME) -> bytes:
    with kit.objects.open(address) as file:
        return file.read()


def test_what_is_written_in_pieces_reads_back_from_anywhere(anywhere: Kit) -> None:
    content = random.Random(1).randbytes(13 * MIB + 77)
    writing = anywhere.objects.begin(SOME)
    for at in range(0, len(content), 700_001):
        writing.write(content[at : at + 700_001])
    with pytest.raises(UnreadableInput):  # not before its writer has ended
        anywhere.objects.open(SOME)
    assert writing.end()
    assert read(anywhere) == content
    chance = random.Random(2)
    with anywhere.objects.open(SOME) as file:
        assert file.seek(0, io.SEEK_END) == len(content)
        for _ in range(40):
            at, length = chance.randrange(len(content) + 10), chance.randrange(200_000)
            file.seek(at)
            assert file.read(length) == content[at : at + length]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537])
def test_sizes_around_a_chunk(kit: Kit, size: int) -> None:
    kit.objects.put(SOME, bytes(size))
    assert read(kit) == bytes(size)


def test_neither_content_nor_names_lie_in_the_store(kit: Kit) -> None:
    kit.objects.put(Address("default", "jobs/one", "named-input"), MARK * 10_000)
    files = [path for path in (kit.folder / "objects").rglob("*") if path.is_file()]
    assert len(files) == 1
    assert MARK not in files[0].read_bytes()
    assert "named" not in str(files[0])
    assert (kit.folder / "objects").stat().st_mode & 0o077 == 0


def test_an_object_is_replaced_as_a_whole_or_not_at_all(anywhere: Kit) -> None:
    anywhere.objects.put(SOME, b"first")
    writing = anywhere.objects.begin(SOME)
    writing.write(b"second")
    assert read(anywhere) == b"first"
    writing.end()
    assert read(anywhere) == b"second"
    assert not anywhere.objects.put(SOME, b"third", replace=False)
    assert read(anywhere) == b"second"
    given_up = anywhere.objects.begin(SOME)
    given_up.write(bytes(10 * MIB))
    given_up.abandon()
    assert read(anywhere) == b"second"
    anywhere.objects.tidy()
    kept = anywhere.table.get(SOME)
    assert kept is not None
    assert [one.path for one in anywhere.store.all("")] == [kept.id.hex]


def test_erasing_takes_the_key_out_of_the_file_of_the_database(kit: Kit) -> None:
    other = Address("default", "jobs/two", "input")
    for address in (SOME, other):
        kit.objects.put(address, b"content")
    kept, stays = kit.table.get(SOME), kit.table.get(other)
    assert kept is not None
    assert stays is not None
    assert kit.objects.erase("default", "jobs/one") == 1
    with pytest.raises(UnreadableInput):
        kit.objects.open(SOME)
    assert read(kit, other) == b"content"
    kit.database.close()
    with sqlite3.connect(kit.folder / "discern.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    found = b"".join(path.read_bytes() for path in kit.folder.glob("discern.db*"))
    assert stays.key.blob in found
    assert kept.key.blob not in found


def lies_in(kit: Kit, keys: list[bytes]) -> int:
    """Return how many keys lie somewhere in the database, its log or the log's index."""
    files = {path.name: path.read_bytes() for path in kit.folder.glob("discern.db*")}
    assert {"discern.db", "discern.db-wal", "discern.db-shm"} <= files.keys()
    return sum(any(key in content for content in files.values()) for key in keys)


def test_no_key_of_what_was_erased_lies_in_any_file_of_an_open_database(kit: Kit) -> None:
    """Of many, for a page that becomes free takes along what lay on it."""
    shuffled, keys = random.Random(1), {}
    for number in range(300):
        address = Address("default", f"jobs/{shuffled.randrange(10**9)}-{number}", "input")
        kit.objects.put(address, b"content")
        kept = kit.table.get(address)
        assert kept is not None
        keys[address] = kept.key.blob
    assert lies_in(kit, list(keys.values())) == 300
    addresses = list(keys)
    shuffled.shuffle(addresses)
    for address in addresses:
        kit.objects.erase(address.workspace, address.folder)
    assert lies_in(kit, list(keys.values())) > 0  # the log still has them
    kit.objects.tidy()
    assert lies_in(kit, list(keys.values())) == 0


def test_who_reads_meanwhile_puts_the_emptying_of_the_log_off(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discern.store.sqlite._BUSY_SECONDS", 0.1)
    kit.objects.put(SOME, b"content")
    kept = kit.table.get(SOME)
    assert kept is not None
    kit.objects.erase("default", "jobs/one")
    with kit.database.read() as reading:
        reading.execute(text("SELECT count(*) FROM objects")).scalar_one()
        kit.objects.wipe()  # raises nothing
        assert lies_in(kit, [kept.key.blob]) == 1
    kit.objects.wipe()
    assert lies_in(kit, [kept.key.blob]) == 0


def test_what_could_not_be_deleted_at_once_is_deleted_later(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.objects.put(SOME, b"content")
    path = kit.bytes_of(SOME)

    def down(_: str) -> None:
        raise ObjectsUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(kit.store, "delete", down)
        kit.objects.erase("default", "jobs/one")
    assert path.exists()
    with pytest.raises(UnreadableInput):
        kit.objects.open(SOME)
    kit.objects.tidy()
    assert not path.exists()
    assert kit.table.gone() == []


def test_what_a_writer_that_died_left_is_deleted_after_days(kit: Kit) -> None:
    dead = kit.objects.begin(SOME)
    dead.write(bytes(20 * MIB))
    assert list((kit.folder / "objects").iterdir())
    kit.objects.tidy()
    assert kit.table.gone() == []
    kit.later = timedelta(days=8)
    kit.objects._tidied = float("-inf")
    kit.objects.tidy()
    del dead
    assert list((kit.folder / "objects").iterdir()) == []
    with kit.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM objects")).scalar() == 0


def test_an_object_that_was_erased_while_it_was_written_is_not_kept(kit: Kit) -> None:
    writing = kit.objects.begin(SOME)
    kit.objects.erase("default", "jobs/one")
    with pytest.raises(ObjectsUnavailable, match="erased while it was written"):
        writing.end()
    assert list((kit.folder / "objects").iterdir()) == []


def damaged(kit: Kit, change: Callable[[bytearray], None]) -> None:
    path = kit.bytes_of(SOME)
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0, 7, 8, 5 * MIB, -1])
def test_a_changed_byte_is_never_read(kit: Kit, at: int) -> None:
    kit.objects.put(SOME, os.urandom(10 * MIB))
    damaged(kit, lambda content: content.__setitem__(at, content[at] ^ 1))
    with pytest.raises(ObjectRefused) as caught:
        read(kit)
    assert caught.value.facts == {"reason": "changed"}


def test_a_cut_shows_before_the_first_byte_is_read(kit: Kit) -> None:
    kit.objects.put(SOME, os.urandom(10 * MIB))
    damaged(kit, lambda content: content.__delitem__(slice(8 + 3 * (65_536 + 16), None)))
    with pytest.raises(ObjectRefused):
        kit.objects.open(SOME)


def test_objects_and_keys_that_were_exchanged_do_not_open(kit: Kit) -> None:
    other = Address("default", "jobs/two", "input")
    kit.objects.put(SOME, b"mine")
    kit.objects.put(other, b"yours")
    mine, yours = kit.bytes_of(SOME), kit.bytes_of(other)
    good = mine.read_bytes()
    mine.write_bytes(yours.read_bytes())
    with pytest.raises(ObjectRefused):
        kit.objects.open(SOME)
    mine.write_bytes(good)
    with kit.database.write() as connection:
        connection.execute(text("UPDATE objects SET folder = 'jobs/three' WHERE folder = 'jobs/two'"))
    with pytest.raises(ObjectRefused):
        kit.objects.open(Address("default", "jobs/three", "input"))
    with kit.database.write() as connection:
        connection.execute(text("UPDATE objects SET wrapped = (SELECT wrapped FROM objects WHERE folder = 'jobs/one')"))
    assert read(kit) == b"mine"
    with pytest.raises(ObjectRefused):
        kit.objects.open(Address("default", "jobs/three", "input"))


def test_memory_does_not_grow_with_the_object(kit: Kit) -> None:
    piece = os.urandom(MIB)
    tracemalloc.start()
    try:
        writing = kit.objects.begin(SOME)
        for _ in range(200):
            writing.write(piece)
        writing.end()
        with kit.objects.open(SOME) as file:
            while file.read(MIB):
                pass
        assert tracemalloc.get_traced_memory()[1] < 60 * MIB
    finally:
        tracemalloc.stop()


class Subjects:
    """Keys of subjects, each wrapped by the master key: how a feature to come hangs objects on whom they are about."""

    kind = "subject"

    def __init__(self) -> None:
        self.ring: KeyRing
        self.wrapped: dict[str, WrappedKey] = {}

    def make(self, name: str) -> HeldKey:
        key = os.urandom(32)
        self.wrapped[f"subject:{name}"] = self.ring.wrap(key, name.encode())
        return HeldKey(f"subject:{name}", key)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        raise NotImplementedError

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        own = self.wrapped.get(wrapped.key_id)
        if own is None:
            raise ObjectRefused("The subject was erased.", reason="key")
        name = wrapped.key_id.partition(":")[2]
        return self.ring.chained(own, name.encode(), wrapped.key_id).unwrap(wrapped, context)


def test_a_subject_whose_key_is_shredded_takes_its_objects_along(kit: Kit) -> None:
    subjects = Subjects()
    subjects.ring = KeyRing(FileMasterKey(kit.folder / "master"), subjects=(subjects,))
    kit.objects._keys = subjects.ring
    writing = kit.objects.begin(SOME, by=subjects.make("ann"))
    writing.write(b"about ann")
    writing.end()
    kit.objects.put(Address("default", "jobs/two", "input"), b"about nobody")
    assert read(kit) == b"about ann"
    assert kit.rotation.rotate("local").keys == 1  # the key of the other; Ann's is in the table of its own
    assert read(kit) == b"about ann"
    subjects.wrapped.clear()
    with pytest.raises(ObjectRefused, match="erased"):
        kit.objects.open(SOME)
    assert read(kit, Address("default", "jobs/two", "input")) == b"about nobody"


def test_a_store_that_is_down_is_said_without_a_key_and_keeps_nothing(kit_of: Callable[..., Kit]) -> None:
    secret = "hidden-word"
    kit = kit_of(ObjectStore("s3://bucket/prefix", ObjectAccess("http://127.0.0.1:9", "us-east-1", "AKIATEST", secret)))
    kit.objects.ping()
    kit.objects.look()
    with pytest.raises(ObjectsUnavailable, match="did not answer") as caught:
        kit.objects.ping()
    assert secret not in str(caught.value)
    assert "AKIATEST" not in str(caught.value)
    with pytest.raises(ObjectsUnavailable):
        kit.objects.put(SOME, b"content")
    assert kit.table.get(SOME) is None


def test_a_bucket_that_is_not_there_shows_in_a_look(aws_endpoint: str, kit_of: Callable[..., Kit]) -> None:
    access = ObjectAccess(aws_endpoint, "us-east-1", "AKIATEST", "hidden-word")
    kit = kit_of(ObjectStore("s3://no-such-bucket/prefix", access))
    kit.objects.look()
    with pytest.raises(ObjectsUnavailable):
        kit.objects.ping()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, kit_of: Callable[..., Kit]) -> None:
    (tmp_path / "file").write_text("in the way")
    kit = kit_of(ObjectStore(tmp_path / "file" / "objects", ObjectAccess()))
    with pytest.raises(ObjectsUnavailable):
        kit.objects.put(SOME, b"content")
