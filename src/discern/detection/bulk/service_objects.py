"""A run from a kept object into another: what a job over a table is.

- Input, pieces and output are objects of one folder, each encrypted; nothing of them touches this machine's disk.
- Whoever goes on with the run has all of it, on whichever machine it was begun. Two who do so at the same time write
  the same pieces and the same output: they follow from the input, the bundle and the run's id.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pyarrow as pa

from discern.detection.bulk.rules import check_resumable
from discern.detection.bulk.service_journal import is_next, result_writer
from discern.detection.bulk.sources import Entry
from discern.detection.bulk.types import Pin, RunState
from discern.objects.ports import Objects, Writing
from discern.objects.types import Address

RESULT = "result"
_STATE = "state"
_PIECE = "rows-"
_decode = msgspec.json.Decoder(RunState).decode


class ObjectPlace:
    """An input that is one kept object."""

    def __init__(self, objects: Objects, address: Address) -> None:
        self.name = f"{address.folder}/{address.name}"
        self._objects = objects
        self._address = address

    def entries(self) -> list[Entry]:
        """Return the one file. Raises UnreadableInput where it is not there."""
        with self.open(self.name) as file:
            return [Entry(self.name, file.seek(0, io.SEEK_END), "")]

    def pin(self) -> Pin:
        """Return what tells that it is the same: an object is never changed, so its size will do."""
        return Pin(size=self.entries()[0].size)

    def open(self, entry: str) -> io.BufferedReader:  # noqa: ARG002 - there is one
        """Open it for reading, with `seek`."""
        return cast("io.BufferedReader", self._objects.open(self._address))

    def sha256(self) -> str:
        """Return the digest of the content."""
        digest = hashlib.sha256()
        with self.open(self.name) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()


class ObjectJournal:
    """What is kept of a run in the folder of an object; a lease of the job keeps others away, not a lock."""

    def __init__(self, objects: Objects, workspace: str, folder: str) -> None:
        self.name = f"{folder}/{RESULT}"
        self._objects = objects
        self._workspace = workspace
        self._folder = folder
        self._digest = hashlib.sha256()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def begin(self, state: RunState, *, restart: bool) -> RunState:  # noqa: ARG002 - a job is never started anew
        """Return the state of the run that goes on, or `state` where one is begun. Raises OperatorError."""
        if self._objects.put(self._at(_STATE), msgspec.json.encode(state), replace=False):
            return state
        with self._objects.open(self._at(_STATE)) as file:
            before = _decode(file.read())
        check_resumable(before, state)
        return before

    def pieces(self, schema: Any) -> Iterator[Any]:  # noqa: ANN401 - pyarrow has no types
        """Yield the record batches that are there, without a gap from row 0 on."""
        row = 0
        for name in self._objects.names(self._workspace, self._folder):
            if not name.startswith(_PIECE):
                continue
            with self._objects.open(self._at(name)) as file, pa.ipc.open_file(io.BytesIO(file.read())) as read:
                batch = read.get_batch(0)
            if not is_next(batch, schema, row):
                break
            yield batch
            row += batch.num_rows

    def keep(self, batch: Any) -> None:  # noqa: ANN401
        """Write one piece; it follows the one before."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        row = batch.column("row")[0].as_py()
        self._objects.put(self._at(f"{_PIECE}{row:013}"), bytes(sink.getvalue()))

    @contextmanager
    def writing(self, schema: Any, run: str) -> Iterator[Any]:  # noqa: ANN401
        """Give a writer of record batches; what it wrote is the output when all went well."""
        writing = self._objects.begin(self._at(RESULT))
        self._digest = hashlib.sha256()
        try:
            with result_writer(_Sink(writing, self._digest), schema, run) as writer:
                yield writer
            writing.end()
        except BaseException:
            writing.abandon()
            raise

    def sha256(self) -> str:
        """Return the digest of the output."""
        return self._digest.hexdigest()

    def remove(self) -> None:
        """Leave it to the end of the job: whoever dies before that goes on from what is there."""

    def _at(self, name: str) -> Address:
        return Address(self._workspace, self._folder, name)


class _Sink(io.RawIOBase):
    """A file that only grows, for a library that writes to files."""

    def __init__(self, writing: Writing, digest: Any) -> None:  # noqa: ANN401 - hashlib's
        self._writing = writing
        self._digest = digest
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, content: Any) -> int:  # noqa: ANN401
        piece = bytes(content)
        self._writing.write(piece)
        self._digest.update(piece)
        self._size += len(piece)
        return len(piece)
