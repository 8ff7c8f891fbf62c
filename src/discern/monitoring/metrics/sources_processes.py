"""What the processes of one machine have counted, in a file for each, which all of them read.

- What a process wrote is there after `kill -9`; what it noted in its last second may not be.
- The counts of a process that has ended stay: they are added to the file `gone`, once each, whoever does it and is
  killed at it. Its gauges end with it.
- A process lives as long as it holds the lock on its file, so no number of a process is ever mistaken for another's.
- A file has its `_ROOM_BYTES` on the disk from the start: writing to shared memory that a full disk has no block for
  would end the process.

The files are those of prometheus-client's multiprocess mode, `MmapedDict`: numbers in shared memory, each written in
place. The mode itself is not used: it takes an environment variable before the import, pays for shared memory with
every observation, and keeps a file for every process that ever was.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7_text

Key = tuple[str, tuple[str, ...]]
"""The name of a sample, and its labels."""
# Some thousands of series. What comes after them has its block when it is first written.
_ROOM_BYTES = 1 << 20
_GONE = "gone.db"
_FOLDED = "folded"
_ALIVE = "alive"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Key).decode


class Together(NamedTuple):
    """What the processes have counted together, and how many of them live."""

    values: dict[Key, float]
    processes: int


class ProcessFiles:
    """The files in a folder, which `shared_folder` has made. `gauges` are the samples that end with their process.

    Of the samples `largest` the largest of all processes counts, of others the sum.
    """

    def __init__(self, folder: Path, gauges: Collection[str], largest: Collection[str] = ()) -> None:
        from prometheus_client import mmap_dict  # noqa: PLC0415 - an extra

        self._folder = folder
        self._gauges = frozenset(gauges)
        self._largest = frozenset(largest)
        self._kind = cast("Any", mmap_dict.MmapedDict)
        with self._alone():
            path = folder / f"{uuid7_text()}.db"
            self._own = self._begun(path)
            self._held = _held(path)

    def write(self, values: Mapping[Key, float]) -> None:
        """Write values of this process, in place of those before."""
        now = time.time()
        for key, value in values.items():
            self._own.write_value(_encode(key).decode(), value, now)

    def read(self) -> Together:
        """Return what all have written. Raises OSError where the folder is gone."""
        with self._alone():
            living = [path for path in self._paths() if not self._is_over(path)]
            gone = self._read(self._folder / _GONE)
            total = {key: value for key, value in gone.items() if key[0] != _FOLDED}
            for path in living:
                for key, value in self._read(path).items():
                    there = total.get(key, 0.0)
                    total[key] = max(there, value) if key[0] in self._largest else there + value
        return Together(total, len(living))

    def close(self) -> None:
        """Let go of this process's file: its counts stay."""
        self._own.close()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _is_over(self, path: Path) -> bool:
        """Tell whether the process of a file has ended; its counts are then in the file `gone`, and the file is not."""
        try:
            held = _held(path)
        except BlockingIOError:
            return False
        try:
            self._fold(path)
        finally:
            os.close(held)
        return True

    def _fold(self, path: Path) -> None:
        gone, folded = self._folder / _GONE, (_FOLDED, (path.name,))
        there = self._read(gone)
        if folded not in there:
            # What was folded is named until its file is deleted: whoever is killed in between folds nothing twice.
            there = {key: value for key, value in there.items() if key[0] != _FOLDED or self._is_there(key)}
            for key, value in self._read(path).items():
                if key[0] not in self._gauges:
                    there[key] = there.get(key, 0.0) + value
            there[folded] = 1.0
            written = self._folder / f"{_GONE}.part"
            file = self._begun(written)
            for key, value in there.items():
                file.write_value(_encode(key).decode(), value, 0.0)
            file.close()
            written.replace(gone)
        path.unlink()

    def _begun(self, path: Path) -> Any:  # noqa: ANN401 - of a library without types
        """Return an empty file. Raises OSError where the disk has no room for it."""
        path.write_bytes(bytes(_ROOM_BYTES))
        return self._kind(str(path))

    def _is_there(self, folded: Key) -> bool:
        return (self._folder / folded[1][0]).exists()

    def _paths(self) -> list[Path]:
        return [path for path in sorted(self._folder.glob("*.db")) if path.name != _GONE]

    def _read(self, path: Path) -> dict[Key, float]:
        if not path.exists() or not path.stat().st_size:
            return {}
        return {_decode(key): value for key, value, _, _ in self._kind.read_all_values_from_file(str(path))}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from adding and folding files, and from reading halfway through it."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _held(path: Path) -> int:
    """Open a file and take its lock. Raises BlockingIOError where a process holds it, which then lives."""
    held = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise
    return held


@contextmanager
def shared_folder(home: Path) -> Iterator[Path]:
    """Give a folder of one server's own below the home folder, and take away what servers left that were killed.

    Raises StorageUnavailable.
    """
    try:
        folder, held = _made(home / "metrics")
    except OSError as error:
        raise StorageUnavailable(
            f"{home / 'metrics'} cannot be written: {error.strerror}.",
            mend="See that the disk is not full, and DISCERN_HOME is a folder you may write to.",
        ) from error
    try:
        yield folder
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def _made(above: Path) -> tuple[Path, int]:
    """Make a folder below another one; return it, and what holds it."""
    above.mkdir(mode=0o700, exist_ok=True)
    for old in above.glob("[!.]*"):
        with suppress(OSError):  # it lives, or somebody else is quicker
            os.close(_held(old / _ALIVE))
            shutil.rmtree(old)
    name = uuid7_text()
    begun, folder = above / f".{name}", above / name
    begun.mkdir(mode=0o700)
    (begun / _ALIVE).touch()
    held = _held(begun / _ALIVE)
    begun.rename(folder)  # others see it from here on, and that it is held
    return folder, held
