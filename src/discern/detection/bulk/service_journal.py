"""The folder beside an output that is being made: what was asked for, and every piece that is done.

- A piece is written under a temporary name and renamed, so that it is there whole or not at all; what a loss of power
  left of one is not believed.
- The output takes its name when it is whole and on the disk.
- Two processes never work on one output.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from discern.core.errors import CallerError, OperatorError
from discern.detection.bulk.rules import check_not_there, check_resumable
from discern.detection.bulk.types import RunState
from discern.detectors.files import OWNER, replace_file, sync_folder

_STATE = "state.json"
_OUTPUT = "output.parquet"
_decode = msgspec.json.Decoder(RunState).decode


class Journal:
    """The folder beside `output`."""

    def __init__(self, output: Path) -> None:
        if not output.name:
            raise CallerError(f"{output} names no file.", mend="Name a file.")
        self.output = output
        self.name = os.fspath(output.absolute())
        self.folder = output.with_name(f"{output.name}.unfinished")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes away. Raises CallerError where one is at work, OperatorError where it cannot write."""
        lock_file = self.output.with_name(f".{self.output.name}.lock")
        try:
            lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _cannot_write(self.output, error) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever was done between the two steps has removed the file: then this lock keeps nobody away.
                ours = os.fstat(lock).st_ino == lock_file.stat().st_ino
            except (BlockingIOError, FileNotFoundError):
                ours = False
            if not ours:
                raise CallerError(f"Another process is writing {self.output}.", mend="Wait for it.")
            try:
                yield
            finally:
                lock_file.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def begin(self, state: RunState, *, restart: bool) -> RunState:
        """Return the state of the run that goes on, or `state` where one is begun.

        Raises CallerError where the output is there already, OperatorError where another run stands in its place or
        nothing can be written.
        """
        if self.output.exists() and not self.output.is_file():
            raise CallerError(f"{self.output} is not a regular file.", mend="Name another file.")
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        before = self._state()
        if before is not None:
            check_resumable(before, state)
            return before
        if self.output.exists() and not restart:
            raise check_not_there(str(self.output))
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700)
            replace_file(self.folder / _STATE, msgspec.json.format(msgspec.json.encode(state), indent=2))
        except OSError as error:
            raise _cannot_write(self.output, error) from error
        return state

    def pieces(self, schema: Any) -> Iterator[Any]:  # noqa: ANN401 - pyarrow has no types
        """Yield the record batches that are there, without a gap from row 0 on."""
        row = 0
        for path in sorted(self.folder.glob("rows-*.arrow")):
            try:
                with pa.memory_map(str(path)) as file:
                    batch = pa.ipc.open_file(file).get_batch(0)
            except (pa.ArrowException, OSError):
                break
            if not is_next(batch, schema, row):
                break
            yield batch
            row += batch.num_rows

    def keep(self, batch: Any) -> None:  # noqa: ANN401
        """Write one piece; it follows the one before. Raises OperatorError."""
        path = self.folder / f"rows-{batch.column('row')[0].as_py():013}.arrow"
        temporary = path.with_suffix(".writing")
        try:
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            temporary.replace(path)
        except OSError as error:
            raise _cannot_write(self.output, error) from error

    @contextmanager
    def writing(self, schema: Any, run: str) -> Iterator[Any]:  # noqa: ANN401
        """Give a writer of record batches; what it wrote is the output when all went well."""
        path = self.folder / _OUTPUT
        try:
            # Made here, for the writer would let everyone read what may be of people.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, OWNER))
            with result_writer(path, schema, run) as writer:
                yield writer
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(self.output)
            sync_folder(self.output.parent)
        except OSError as error:
            raise _cannot_write(self.output, error) from error

    def sha256(self) -> str:
        """Return the digest of the output."""
        with self.output.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def remove(self) -> None:
        """Remove the folder: the output is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _state(self) -> RunState | None:
        try:
            content = (self.folder / _STATE).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _decode(content)
        except msgspec.DecodeError as error:
            raise OperatorError(
                f"{self.folder / _STATE} is not what a run leaves.", mend="Start anew with --restart."
            ) from error


def result_writer(target: Any, schema: Any, run: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the writer of an output: a context manager that takes record batches. `target` is a path or a file."""
    return pq.ParquetWriter(
        target,
        schema.with_metadata({"discern.run": run}),
        compression="snappy",
        use_dictionary=[one.name for one in schema if pa.types.is_dictionary(one.type)],
        column_encoding={"row": "DELTA_BINARY_PACKED"},
        # Of the columns that people filter by; of ids and texts they would cost as much as all the rest.
        write_statistics=["row", "decision", "score"],
    )


def is_next(batch: Any, schema: Any, row: int) -> bool:  # noqa: ANN401
    """Tell whether a record batch that was read back is the piece that begins at `row`."""
    return bool(batch.schema == schema and batch.column("row")[0].as_py() == row)


def _cannot_write(output: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"{output} cannot be written: {error.strerror or error}.", mend="See the folder, its permissions and its space."
    )
