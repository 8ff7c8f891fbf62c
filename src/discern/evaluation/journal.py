"""What is scored so far, in a file beside the report: a run that is killed goes on from there.

- A piece is in the file whole or not at all: each has its length and a checksum, and what follows a broken one is
  dropped.
- A file belongs to one bundle, one dataset and one version of Discern; another asks for a file of its own.
- Two processes never write one file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
_HEAD = 8


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
    milliseconds: bytes
    errors: dict[int, str]
    events: dict[int, ClipEvents]


class Scoresheet:
    """The file of one bundle on one dataset."""

    def __init__(self, file: IO[bytes], place: Path) -> None:
        self._file = file
        self._place = place

    def pieces(self) -> Iterator[Judged]:
        """Yield the pieces that are there, without a gap from row 0 on; what is behind them is dropped."""
        self._file.seek(0)
        end, row = 0, 0
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
        content = msgspec.msgpack.encode(
            _Kept(
                judged.start,
                judged.stage_scores.shape[1],
                _bytes(judged.score, "<f8"),
                _bytes(judged.stage_scores, "<f8"),
                _bytes(judged.decided_by, "<i2"),
                _bytes(judged.decision, "i1"),
                _bytes(judged.milliseconds, "<f8"),
                judged.errors,
                judged.events,
            )
        )
        head = len(content).to_bytes(4, "little") + zlib.crc32(content).to_bytes(4, "little")
        try:
            self._file.write(head + content)
            self._file.flush()
        except OSError as error:
            raise _cannot_write(self._place, error) from error


class Journal:
    """The folder for what is not finished, below the folder of the report."""

    def __init__(self, out: Path) -> None:
        self._folder = out / _FOLDER

    @contextmanager
    def sheet(self, bundle_sha256: str, manifest_sha256: str) -> Iterator[Scoresheet]:
        """Give the file of one bundle on one dataset. Raises CallerError where another process writes it."""
        key = f"{_FORMAT} {discern.__version__} {bundle_sha256} {manifest_sha256}"
        place = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.scores"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        except OSError as error:
            raise _cannot_write(place, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CallerError(
                    f"Another process is evaluating into {self._folder.parent}.", mend="Wait for it."
                ) from None
            yield Scoresheet(file, place)

    def remove(self) -> None:
        """Remove everything: the report is there."""
        shutil.rmtree(self._folder, ignore_errors=True)


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
    kept = msgspec.msgpack.decode(content, type=_Kept)
    return Judged(
        kept.start,
        np.frombuffer(kept.score, "<f8"),
        np.frombuffer(kept.stage_scores, "<f8").reshape(-1, kept.stages),
        np.frombuffer(kept.decided_by, "<i2"),
        np.frombuffer(kept.decision, "i1"),
        kept.errors,
        np.frombuffer(kept.milliseconds, "<f8").reshape(-1, kept.stages),
        kept.events,
    )


def _bytes(column: NDArray[Any], dtype: str) -> bytes:
    return column.astype(dtype, copy=False).tobytes()


def _cannot_write(place: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"{place} cannot be written: {error.strerror or error}.", mend="See the folder, its permissions and its space."
    )
