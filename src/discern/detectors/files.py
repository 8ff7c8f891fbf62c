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

EVERYONE, OWNER = 0o644, 0o600
"""Who may read a file: everyone, or whoever wrote it alone."""


def replace_file(path: Path, content: bytes, mode: int = EVERYONE) -> None:
    """Write `content` to `path` in one step, replacing what is there."""
    with replacing(path, mode) as file:
        file.write(content)


def make_file(path: Path, content: bytes, mode: int = EVERYONE) -> None:
    """Write `content` to `path` in one step. Raises FileExistsError where something stands there already."""
    with _temporary(path) as (file, temporary):
        file.write(content)
        _finish(file, mode)
        # Unlike a rename it takes no other file's place.
        os.link(temporary, path)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path, mode: int = EVERYONE) -> Iterator[IO[bytes]]:
    """Give a file to write that takes the place of `path` when all went well and is removed otherwise."""
    with _temporary(path) as (file, temporary):
        yield file
        _finish(file, mode)
        temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Give a file beside `path` that nobody else may read, and remove it unless it has taken another name."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _finish(file: IO[bytes], mode: int) -> None:
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())


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
