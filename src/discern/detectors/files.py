"""Files written so that a reader finds the whole of them or nothing: temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from discern.core.errors import OperatorError


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step, replacing what is there; everyone may read it."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write that takes the place of `path` when all went well and is removed otherwise."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def appearing_folder(destination: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `destination` when all went well and is removed otherwise.

    Raises OperatorError when `destination` is there already or cannot be written.
    """
    if destination.exists() or destination.is_symlink():
        raise taken(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise OperatorError(f"{destination}: it cannot be written: {error.strerror}.", file=str(destination)) from None
    try:
        yield folder
        folder.chmod(0o755)
        sync_folder(folder)
        try:
            folder.rename(destination)
        except OSError:  # somebody else was quicker
            raise taken(destination) from None
        sync_folder(destination.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def taken(path: Path) -> OperatorError:
    """Return the error for a place where something stands already."""
    return OperatorError(
        f"{path}: it is there already and nothing is overwritten.", mend="Name another place.", file=str(path)
    )
