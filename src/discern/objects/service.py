"""Objects that are kept encrypted: written as a stream, read from anywhere, erased by their keys.

- Every object has a key of its own, which is wrapped and stands in the database; the store has ciphertext alone, under
  names that say nothing.
- Nothing is readable before its writer has ended, and what is replaced is readable until then.
- Erasing shreds the key at once. Bytes that could not be deleted then are deleted later, by `tidy`, which takes what is
  left of the key out of the database's log, too.
- Memory does not grow with the size of an object, and no plaintext touches the disk.
"""

from __future__ import annotations

import io
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, BinaryIO
from uuid import UUID

from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError, ObjectsUnavailable, StorageUnavailable, UnreadableInput
from discern.core.ids import uuid7
from discern.objects.ports import KeyWrapper
from discern.objects.rules import HEAD_BYTES, KEY_BYTES, Opener, Sealer, object_context
from discern.objects.service_masters import KeyRing
from discern.objects.store import ObjectTable
from discern.objects.types import Address, Kept
from discern.store.objects import ObjectStore, Upload

log = logging.getLogger(__name__)
# What is fetched at once: small enough to hold two of, large enough for the way to S3.
_WINDOW_BYTES = 4 * 1024 * 1024
_WINDOWS = 2
# Longer than the slowest body that is taken may take.
_UNFINISHED = timedelta(days=7)
_TIDY_EVERY_SECONDS = 60.0


class SealedObjects:
    """The objects of an installation. Thread-safe."""

    def __init__(
        self,
        table: ObjectTable,
        store: ObjectStore,
        keys: KeyRing,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = store.name
        self._table = table
        self._store = store
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._fault: DiscernError | None = None
        self._tidied = float("-inf")

    def begin(self, address: Address, *, by: KeyWrapper | None = None) -> SealedWriting:
        """Begin to write an object, its key wrapped by the master key or by `by`. Raises StorageUnavailable."""
        object_id, key = uuid7(), os.urandom(KEY_BYTES)
        context = object_context(object_id, address)
        kept = Kept(object_id, address, (by or self._keys).wrap(key, context))
        self._table.begin(kept, self._clock())
        try:
            return SealedWriting(self, kept, self._store.upload(object_id.hex), Sealer(key, context))
        except BaseException:
            self._table.shred_one(object_id)
            raise

    def put(self, address: Address, content: bytes, *, replace: bool = True) -> bool:
        """Write a small object at once; see `SealedWriting.end`."""
        writing = self.begin(address)
        try:
            writing.write(content)
            return writing.end(replace=replace)
        except BaseException:
            writing.abandon()
            raise

    def open(self, address: Address) -> BinaryIO:
        """Open an object for reading, with `seek`; its end is known to be its end.

        Raises UnreadableInput where there is none, ObjectRefused where it is not what was written, StorageUnavailable.
        """
        kept = self._table.get(address)
        if kept is None:
            raise _not_there(address)
        context = object_context(kept.id, address)
        key = self._keys.unwrap(kept.key, context)
        return io.BufferedReader(_SealedFile(self._store, kept, key, context), 64 * 1024)

    def names(self, workspace: str, folder: str) -> list[str]:
        """Return the names of a folder's objects, in order."""
        return self._table.names(workspace, folder)

    def erase(self, workspace: str, folder: str, *, but: Sequence[str] = ()) -> int:
        """Erase a folder but for some names; return how many. Their keys are gone when this returns, the bytes soon."""
        gone = self._table.shred(workspace, folder, but)
        self._delete(gone)
        return len(gone)

    def folders(self, prefix: str, before: datetime) -> list[tuple[str, str]]:
        """Return workspace and folder of objects older than a time, of folders that begin with `prefix`."""
        return self._table.folders(prefix, before)

    def keep(self, kept: Kept, *, replace: bool) -> bool:
        """Make what was written the object of its address; tell whether it is."""
        return self._table.keep(kept.id, kept.address, replace=replace)

    def discard(self, kept: Kept) -> None:
        """Erase what was written in vain. Raises StorageUnavailable."""
        self._table.shred_one(kept.id)
        self._delete([kept.id])

    def tidy(self) -> None:
        """Delete the bytes of what is gone, and what was never ended, where it is time. Raises StorageUnavailable."""
        if self._monotonic() - self._tidied < _TIDY_EVERY_SECONDS:
            return
        self._tidied = self._monotonic()
        self._table.shred_unfinished(self._clock() - _UNFINISHED)
        while self._delete(self._table.gone()):
            pass
        self._table.wipe()

    def wipe(self) -> None:
        """Take what is left of shredded keys out of the database's log; where it is not to be had, `tidy` does."""
        try:
            self._table.wipe()
        except StorageUnavailable as error:
            log.warning("keys_not_wiped", extra={"detail": str(error)})

    def look(self) -> None:
        """See whether the store and the master key answer; `ping` tells until the next look. Raises nothing."""
        try:
            self._store.ping()
            self._keys.current()
        except DiscernError as error:
            if self._fault is None:
                log.error("objects_unavailable", extra={"detail": str(error)})  # noqa: TRY400 - it says all there is
            self._fault = error
        else:
            self._fault = None

    def ping(self) -> None:
        """Raise what the last look found. Asks nobody, so that anybody may ask for it as often as they like."""
        if self._fault is not None:
            raise self._fault

    def _delete(self, object_ids: Sequence[UUID]) -> bool:
        """Delete bytes, and then the rows; tell whether some were deleted."""
        deleted = []
        for object_id in object_ids:
            try:
                self._store.delete(object_id.hex)
            except ObjectsUnavailable as error:
                log.warning("object_not_deleted", extra={"object": str(object_id), "detail": error.detail})
                break
            deleted.append(object_id)
        self._table.forget(deleted)
        return bool(deleted)


class SealedWriting:
    """An object that is being written. For one thread at a time."""

    def __init__(self, objects: SealedObjects, kept: Kept, upload: Upload, sealer: Sealer) -> None:
        self._objects = objects
        self._kept = kept
        self._upload = upload
        self._sealer = sealer
        self._upload.write(sealer.head)

    def write(self, content: bytes) -> None:
        """Write on. Raises ObjectsUnavailable."""
        sealed = self._sealer.add(content)
        if sealed:
            self._upload.write(sealed)

    def end(self, *, replace: bool = True) -> bool:
        """Have it there instead of what was; without `replace` only where nothing was. Tell whether it is.

        Raises StorageUnavailable, also where it was erased meanwhile.
        """
        self._upload.write(self._sealer.end())
        self._upload.end()
        if self._objects.keep(self._kept, replace=replace):
            return True
        self._objects.discard(self._kept)
        if replace:
            raise ObjectsUnavailable(f"{_named(self._kept.address)} was erased while it was written.")
        return False

    def abandon(self) -> None:
        """Leave nothing of it. Raises nothing."""
        with suppress(DiscernError):  # what is left of it is tidied away
            self._upload.abandon()
            self._objects.discard(self._kept)


class _SealedFile(io.RawIOBase):
    """A sealed object, opened chunk by chunk where it is read. Raises ObjectRefused wherever it was changed."""

    def __init__(self, store: ObjectStore, kept: Kept, key: bytes, context: bytes) -> None:
        self._store = store
        self._kept = kept
        first, sealed_size = self._fetched(0, HEAD_BYTES + _WINDOW_BYTES)
        self._opener = Opener(key, context, first[:HEAD_BYTES], sealed_size)
        self._per_window = max(1, _WINDOW_BYTES // self._opener.span(0)[1])
        self._windows = OrderedDict({0: memoryview(first)[HEAD_BYTES:]})
        self._chunk = -1, b""
        self._position = 0
        # Its size is believed once its last chunk has opened.
        self._opened(self._opener.chunks - 1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._opener.size}[whence] + offset
        if position < 0:
            raise ValueError("seek before the start")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        if self._position >= self._opener.size:
            return 0
        number, start = divmod(self._position, self._opener.chunk_bytes)
        content = memoryview(self._opened(number))[start : start + len(buffer)]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _opened(self, number: int) -> bytes:
        if self._chunk[0] != number:
            window, within = divmod(number, self._per_window)
            start, length = self._opener.span(number)
            before = start - self._opener.span(number - within)[0]
            sealed = self._window(window)[before : before + length]
            self._chunk = number, self._opener.opened(number, sealed)
        return self._chunk[1]

    def _window(self, number: int) -> memoryview:
        found = self._windows.get(number)
        if found is None:
            if len(self._windows) == _WINDOWS:
                self._windows.popitem(last=False)
            span = self._opener.span(number * self._per_window, self._per_window)
            found = self._windows[number] = memoryview(self._fetched(*span)[0])
        self._windows.move_to_end(number)
        return found

    def _fetched(self, start: int, length: int) -> tuple[bytes, int]:
        found = self._store.read(self._kept.id.hex, start, length)
        if found is None:
            raise _not_there(self._kept.address)
        return found


def _not_there(address: Address) -> UnreadableInput:
    return UnreadableInput(f"{_named(address)} is not there.", mend="It was erased, or its store lost it.")


def _named(address: Address) -> str:
    return f"{address.folder}/{address.name}"
