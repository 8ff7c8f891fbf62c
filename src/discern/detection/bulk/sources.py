"""Where an input lies: a local file, a folder, a glob, or S3; and what tells that it is still the same.

- What S3 answers is an error of ours without the keys in it.
- A glob and a folder give their files in the order of their names, hidden ones left out.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from discern.core.errors import MissingExtra, OperatorError, UnreadableInput
from discern.detection.bulk.types import Pin
from discern.detection.sources import files_of
from discern.store.objects import ObjectAccess, connect

S3 = "s3://"
_BUFFER_BYTES = 4 * 1024**2


class Entry(NamedTuple):
    """One file of an input by its `name`, and what it had when it was listed."""

    name: str
    size: int
    stamp: str


class Place(Protocol):
    """An input: one file, or many."""

    name: str

    def entries(self) -> list[Entry]:
        """Return its files. Raises UnreadableInput where there are none, OperatorError where S3 does not answer."""
        ...

    def pin(self) -> Pin:
        """Return what tells that it is the same."""
        ...

    def open(self, entry: str) -> io.BufferedReader:
        """Open one of its files for reading, with `seek`."""
        ...

    def sha256(self) -> str | None:
        """Return the digest of the one file, or of the listing; None where it is not read for that alone."""
        ...


def find_place(address: str, access: ObjectAccess) -> Place:
    """Return the place that `address` names. Raises UnreadableInput, or MissingExtra for S3 without obstore."""
    return _Objects(address, access) if address.startswith(S3) else _Files(address)


class _Files:
    """A local file, a folder or a glob."""

    def __init__(self, address: str) -> None:
        self.name = address

    def entries(self) -> list[Entry]:
        path = Path(self.name)
        if path.exists():
            paths = files_of([path])
        elif glob.has_magic(self.name):
            found = sorted(glob.glob(self.name, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            paths = (file for each in found for file in files_of([Path(each)]))
        else:
            raise UnreadableInput(f"{self.name} is not there.", mend="See the path.")
        return [_entry(path) for path in paths]

    def pin(self) -> Pin:
        entries = self.entries()
        if Path(self.name).is_file():
            return Pin(size=entries[0].size, modified_ns=int(entries[0].stamp))
        return _pin_of_listing(entries)

    def open(self, entry: str) -> io.BufferedReader:
        if not Path(entry).is_file():  # a pipe would keep whoever opens it waiting
            raise UnreadableInput(f"{entry} is not a regular file.", mend="Name a file.")
        try:
            return Path(entry).open("rb")
        except OSError as error:
            raise UnreadableInput(f"{entry} cannot be read: {error.strerror}.", mend="See the path.") from error

    def sha256(self) -> str | None:
        if not Path(self.name).is_file():
            return _pin_of_listing(self.entries()).listing
        with self.open(self.name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class _Objects:
    """An object in S3, or those below a prefix that ends in `/`."""

    def __init__(self, address: str, access: ObjectAccess) -> None:
        self.name = address
        self._access = access
        bucket, _, self._key = address.removeprefix(S3).partition("/")
        if not bucket:
            raise UnreadableInput(f"{address} names no bucket.", mend="Write s3://BUCKET/KEY.")
        self._bucket = bucket
        self._store = _store(bucket, access)

    def entries(self) -> list[Entry]:
        import obstore  # noqa: PLC0415 - an extra

        found: list[Any] = []
        with _Translated(self.name, self._access):
            if self._key and not self._key.endswith("/"):
                found = [obstore.head(self._store, self._key)]
            else:
                for chunk in obstore.list(self._store, prefix=self._key or None):
                    found += [one for one in chunk if not one["path"].endswith("/")]
        entries = [Entry(f"{S3}{self._bucket}/{one['path']}", one["size"], str(one["e_tag"])) for one in found]
        if not entries:
            raise UnreadableInput(f"There is nothing below {self.name}.", mend="See the prefix.")
        return sorted(entries)

    def pin(self) -> Pin:
        entries = self.entries()
        if self._key and not self._key.endswith("/"):
            return Pin(size=entries[0].size, etag=entries[0].stamp)
        return _pin_of_listing(entries)

    def open(self, entry: str) -> io.BufferedReader:
        import obstore  # noqa: PLC0415 - an extra

        key = entry.removeprefix(f"{S3}{self._bucket}/")
        with _Translated(entry, self._access):
            size = obstore.head(self._store, key)["size"]
        return io.BufferedReader(_ObjectFile(self._store, key, size, _Translated(entry, self._access)), _BUFFER_BYTES)

    def sha256(self) -> str | None:
        return None if self._key and not self._key.endswith("/") else _pin_of_listing(self.entries()).listing


class _ObjectFile(io.RawIOBase):
    """An object read by ranges."""

    def __init__(self, store: Any, key: str, size: int, translated: _Translated) -> None:  # noqa: ANN401
        self._store = store
        self._key = key
        self._size = size
        self._translated = translated
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        import obstore  # noqa: PLC0415 - an extra

        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        with self._translated:
            content = obstore.get_range(self._store, self._key, start=self._position, length=length)
        buffer[:length] = memoryview(content)
        self._position += length
        return length


class _Translated:
    """Turns what obstore raises into errors of ours, without the keys in them."""

    def __init__(self, name: str, access: ObjectAccess) -> None:
        self._name = name
        self._access = access

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from obstore import exceptions  # noqa: PLC0415 - an extra

        if isinstance(error, exceptions.NotFoundError | FileNotFoundError):
            raise UnreadableInput(f"{self._name} is not there.", mend="See the address.") from None
        if isinstance(error, exceptions.BaseError | OSError | ValueError):
            raise OperatorError(
                f"{self._name} cannot be read: {self._access.without_secrets(str(error))}.",
                mend="See the settings s3_endpoint, s3_region, s3_access_key and s3_secret_key.",
            ) from None


def _store(bucket: str, access: ObjectAccess) -> Any:  # noqa: ANN401
    if find_spec("obstore") is None:
        raise missing_bulk("reading from S3")
    with _Translated(f"{S3}{bucket}", access):
        return connect(f"{S3}{bucket}", access)


def missing_bulk(what: str) -> MissingExtra:
    """Return the error for what needs the `bulk` extra."""
    return MissingExtra(
        f"{what.capitalize()} needs what the extra `bulk` brings.",
        mend="Install it: pip install 'discern-detectors[bulk]'.",
        extra="bulk",
    )


def listing_of(entries: list[Entry]) -> Iterator[str]:
    """Yield one line a file: what a listing's digest is made of."""
    for entry in entries:
        yield f"{entry.name}\t{entry.size}\t{entry.stamp}\n"


def _pin_of_listing(entries: list[Entry]) -> Pin:
    digest = hashlib.sha256()
    for line in listing_of(entries):
        digest.update(line.encode(errors="surrogateescape"))
    return Pin(size=sum(entry.size for entry in entries), listing=digest.hexdigest(), files=len(entries))


def _entry(path: Path) -> Entry:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile, or not to be listed; said when it is read
        return Entry(str(path), 0, "0")
    return Entry(str(path), found.st_size, str(found.st_mtime_ns))
