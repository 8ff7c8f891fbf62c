"""What is scored so far, in a file beside the report: a run that is killed goes on from there.

- A piece is in the file whole or not at all: each has its length and a checksum, and what follows a broken one is
  dropped.
- A file belongs to one bundle, one dataset, one set of limits and one version of Discern and of what it computes with,
  and says so in its first piece: whatever its name is, it is taken for nothing else.
- A folder is one process's from the first score to the report.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import numpy as np

import discern
from discern.core.errors import CallerError, OperatorError
from discern.evaluation.types import ClipEvents

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMAT = 2
_FOLDER = ".unfinished"
_LOCK = "lock"
_HEAD = 8
_TRIES = 5
_COMPUTES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "av")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a piece of a dataset came to: rows from `start` on, columns as in `Scored`.

    Rows of `errors` and `events` count from 0.
    """

    start: int
    score: NDArray[np.float64]
    stage_scores: NDArray[np.float64]
    decided_by: NDArray[np.int16]
    decision: NDArray[np.int8]
    alone: NDArray[np.int8]
    errors: dict[int, str]
    milliseconds: NDArray[np.float64]
    events: dict[int, ClipEvents] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.score)


class _Kept(msgspec.Struct, array_like=True):
    start: int
    stages: int
    score: bytes
    stage_scores: bytes
    decided_by: bytes
    decision: bytes
    alone: bytes
    milliseconds: bytes
    errors: dict[int, str]
    events: dict[int, ClipEvents]


class Scoresheet:
    """The file of one bundle on one dataset. What `pieces` gives comes before anything is kept."""

    def __init__(self, file: IO[bytes], place: Path, key: bytes) -> None:
        self._file = file
        self._place = place
        self._key = key

    def pieces(self) -> Iterator[Judged]:
        """Yield the pieces that are there, without a gap from row 0 on; what is behind them is dropped."""
        self._file.seek(0)
        if _framed(self._file) != self._key:
            self._file.seek(0)
            self._file.truncate()
            self._write(self._key)
        end, row = self._file.tell(), 0
        while (content := _framed(self._file)) is not None:
            try:
                judged = _read(content)
            except (msgspec.DecodeError, ValueError):
                break
            if judged.start != row:
                break
            end, row = self._file.tell(), row + judged.rows
            yield judged
        self._file.seek(end)
        self._file.truncate()

    def keep(self, judged: Judged) -> None:
        """Write a piece; it follows the one before. Raises OperatorError."""
        self._write(
            msgspec.msgpack.encode(
                _Kept(
                    judged.start,
                    judged.stage_scores.shape[1],
                    _bytes(judged.score, "<f8"),
                    _bytes(judged.stage_scores, "<f8"),
                    _bytes(judged.decided_by, "<i2"),
                    _bytes(judged.decision, "i1"),
                    _bytes(judged.alone, "i1"),
                    _bytes(judged.milliseconds, "<f8"),
                    judged.errors,
                    judged.events,
                )
            )
        )

    def _write(self, content: bytes) -> None:
        head = len(content).to_bytes(4, "little") + zlib.crc32(content).to_bytes(4, "little")
        rest = memoryview(head + content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _cannot_write(self._place, error) from error


class Journal:
    """The folder for what is not finished, below the folder of the report."""

    def __init__(self, out: Path) -> None:
        self._folder = out / _FOLDER

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out of the folder. Raises CallerError where another one has it."""
        lock = self._folder / _LOCK
        while True:
            file = self._opened(lock)
            if not self._locked(file):
                file.close()
                raise self._taken()
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    break
            file.close()  # who had it was ready just then, and removed the folder
        with file:
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()
                    self._folder.rmdir()  # only where nothing is kept in it

    @contextmanager
    def sheet(self, bundle_sha256: str, *what: object) -> Iterator[Scoresheet]:
        """Give the file of one bundle on what is named: a dataset, its side, the limits.

        Raises CallerError where another process writes it.
        """
        versions = [discern.__version__, *(version(name) for name in _COMPUTES)]
        key = msgspec.json.encode([_FORMAT, versions, bundle_sha256, what], order="sorted")
        place = self._folder / f"{hashlib.sha256(key).hexdigest()[:32]}.scores"
        with self._opened(place) as file:
            if not self._locked(file):
                raise self._taken()
            yield Scoresheet(file, place, key)

    def remove(self) -> None:
        """Remove everything: the report is there."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _opened(self, place: Path) -> IO[bytes]:
        tries = _TRIES
        while True:
            tries -= 1
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                # Without a buffer, or what did not fit would be tried once more when the file is closed.
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                return os.fdopen(os.open(place, flags, 0o600), "r+b", buffering=0)
            except OSError as error:
                # Who was ready just then removed the folder.
                if not (tries and isinstance(error, FileNotFoundError)):
                    raise _cannot_write(place, error) from error

    @staticmethod
    def _locked(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _taken(self) -> CallerError:
        return CallerError(f"Another process is evaluating into {self._folder.parent}.", mend="Wait for it.")


def _framed(file: IO[bytes]) -> bytes | None:
    head = file.read(_HEAD)
    if len(head) < _HEAD:
        return None
    length = int.from_bytes(head[:4], "little")
    content = file.read(length)
    if len(content) < length or zlib.crc32(content) != int.from_bytes(head[4:], "little"):
        return None
    return content


def _read(content: bytes) -> Judged:
    """Return a piece. Raises ValueError where its columns do not fit each other."""
    kept = msgspec.msgpack.decode(content, type=_Kept)
    judged = Judged(
        kept.start,
        np.frombuffer(kept.score, "<f8"),
        np.frombuffer(kept.stage_scores, "<f8").reshape(-1, kept.stages),
        np.frombuffer(kept.decided_by, "<i2"),
        np.frombuffer(kept.decision, "i1"),
        np.frombuffer(kept.alone, "i1"),
        kept.errors,
        np.frombuffer(kept.milliseconds, "<f8").reshape(-1, kept.stages),
        kept.events,
    )
    columns = (judged.stage_scores, judged.decided_by, judged.decision, judged.alone, judged.milliseconds)
    if not judged.rows or any(len(column) != judged.rows for column in columns):
        raise ValueError("columns of other lengths")
    return judged


def _bytes(column: NDArray[Any], dtype: str) -> bytes:
    return column.astype(dtype, copy=False).tobytes()


def _cannot_write(place: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"{place} cannot be written: {error.strerror or error}.", mend="See the folder, its permissions and its space."
    )
