"""One way to read content, be it bytes in memory, a local file or one that lies elsewhere.

Invariants:

- A path is opened once, and what is sniffed, measured, hashed and decoded comes from that one open file.
- Only regular files are read: a pipe, a device or a folder is refused instead of waited for.
- Hashing holds one piece of the file at a time.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from discern.core.errors import CallerError, EmptyInput, InputTooLarge, UnreadableInput
from discern.inputs.sniffing import sniff
from discern.inputs.types import Held, MediaContent

HEAD_BYTES = 8192
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """Open content: `size` in bytes, `head` its first 8,192 bytes, `file` a seekable binary file."""

    file: BinaryIO
    size: int
    head: bytes

    def sha256(self) -> str:
        """Hexadecimal digest of the whole content; leaves the file at its start."""
        digest = hashlib.sha256()
        self.file.seek(0)
        while piece := self.file.read(_PIECE_BYTES):
            digest.update(piece)
        self.file.seek(0)
        return digest.hexdigest()

    def read(self) -> bytes:
        """The whole content; call `check_bytes` before."""
        self.file.seek(0)
        return self.file.read(self.size)

    def check_bytes(self, limit: str, allowed: int) -> None:
        """Raise `InputTooLarge` naming the setting `limit` when there are more than `allowed` bytes."""
        check_limit(limit, allowed, self.size, "bytes")


@contextmanager
def opened(content: MediaContent) -> Iterator[Source]:
    """Open content for reading.

    Raises `EmptyInput` for content without a byte, `UnreadableInput` for a path that is not a readable regular file,
    and what opening content elsewhere raises.
    """
    if isinstance(content, Path):
        with _open_regular(content) as file:
            yield _source(file, os.fstat(file.fileno()).st_size)
    elif isinstance(content, Held):
        with content.open() as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            yield _source(file, size)
    else:
        yield _source(io.BytesIO(content), len(content))


def is_video(content: bytes) -> bool:
    """Tell whether content says that it is a video; what is of no known type is none."""
    try:
        return sniff(content[:HEAD_BYTES]).kind == "video"
    except CallerError:
        return False


def check_limit(limit: str, allowed: float, found: float, unit: str) -> None:
    """Raise `InputTooLarge` with facts `limit`, `allowed` and `found` when `found` is more than `allowed`."""
    if found > allowed:
        raise InputTooLarge(
            f"The input has {found:,} {unit}; the limit {limit} allows {allowed:,}.",
            mend=f"Send a smaller one, or have the operator raise {limit}.",
            limit=limit,
            allowed=allowed,
            found=found,
        )


def _open_regular(path: Path) -> BinaryIO:
    try:
        # O_NONBLOCK: opening a named pipe without a writer would otherwise wait for ever.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableInput(f"{path} cannot be read: {reason}.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnreadableInput(f"{path} is not a regular file.")
    return file


def _source(file: BinaryIO, size: int) -> Source:
    if size == 0:
        raise EmptyInput("The input is empty.", mend="Send the bytes of an image or a video.")
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return Source(file=file, size=size, head=head)
