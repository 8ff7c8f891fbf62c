"""The bytes of a dataset's items, from files and from tar archives, and whether they are still what was frozen.

- Nothing is unpacked to disk. A member of an archive is read whole, a video file is read in pieces.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from discern.core.errors import CallerError, MissingExtra, UnreadableInput
from discern.evaluation.types import ItemKind
from discern.evaluation.types_datasets import FileDigest
from discern.inputs.sniffing import SniffedVideo, sniff
from discern.inputs.source import opened
from discern.inputs.types import InputLimits, MediaContent
from discern.inputs.video import survey

IN_ARCHIVE = "!"
# What threads gain is the reading and the hashing, which leave the interpreter alone.
THREADS = 4
_AT_ONCE = 256
_HANDED = 8
_PIECE_BYTES = 1 << 20
_T = TypeVar("_T")


class Contents:
    """Opens items below a root; keeps the archive open that was read last. Not for several threads."""

    def __init__(self, root: Path, limits: InputLimits) -> None:
        self._root = root
        self._limits = limits
        self._archive: tarfile.TarFile | None = None
        self._name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def of(self, path: str) -> MediaContent:
        """Return a file as its path, a member of an archive as its bytes. Raises UnreadableInput."""
        _check_below(path)
        archive, mark, member = path.partition(f".tar{IN_ARCHIVE}")
        return self._member(f"{archive}.tar", member) if mark else self._root / path

    def _member(self, archive: str, member: str) -> bytes:
        try:
            if archive != self._name or self._archive is None:
                self._close()
                # It stays open for the members that follow, until `_close`.
                self._archive = tarfile.open(self._root / archive, "r:")  # noqa: SIM115
                self._name = archive
            facts = self._archive.getmember(member)
            most = max(self._limits.image_bytes, self._limits.video_bytes)
            if not facts.isfile() or facts.size > most:
                raise UnreadableInput(f"{archive}!{member} is no file of at most {most:,} bytes.")
            content = self._archive.extractfile(facts)
            return b"" if content is None else content.read()
        except (tarfile.TarError, OSError, KeyError) as error:
            raise UnreadableInput(f"{archive}!{member} cannot be read: {error}.") from error

    def _close(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None


class Fact:
    """What was seen of an item when it was frozen: its digest and its frames, or why it cannot be used."""

    __slots__ = ("frames", "sha256", "wrong")

    def __init__(self, sha256: str = "", frames: tuple[int, ...] | None = None, wrong: str | None = None) -> None:
        self.sha256 = sha256
        self.frames = frames
        self.wrong = wrong


def facts_of(
    paths: Sequence[str], root: Path, kind: ItemKind, frames: int | None, limits: InputLimits
) -> Iterator[Fact]:
    """Yield what each item is, in order: read once, its type told from its bytes.

    `frames` asks for so many evenly spaced positions of frames of each video.
    """

    def fact(content: MediaContent | UnreadableInput) -> Fact:
        if isinstance(content, UnreadableInput):
            return Fact(wrong=content.detail)
        try:
            with opened(content) as source:
                found = sniff(source.head)
                if found.kind != kind:
                    return Fact(wrong=f"It is a {found.kind}, the dataset is one of {kind}s.")
                positions = None
                if frames is not None and isinstance(found, SniffedVideo):
                    clip = survey(source.file, source.size, found.format, frames, limits)
                    positions = middles(max(1, round(clip.seconds / clip.frame_seconds)), frames)
                return Fact(source.sha256(), positions)
        except CallerError as error:
            return Fact(wrong=error.detail)

    yield from each(paths, root, limits, fact)


def contents_of(paths: Iterable[str], root: Path, limits: InputLimits) -> Iterator[MediaContent | UnreadableInput]:
    """Yield the content of each item in order, or the error that stands in for it."""
    with Contents(root, limits) as contents:
        for path in paths:
            try:
                yield contents.of(path)
            except UnreadableInput as error:
                yield error


def each(
    paths: Sequence[str], root: Path, limits: InputLimits, of: Callable[[MediaContent | UnreadableInput], _T]
) -> Iterator[_T]:
    """Yield what `of` makes of each item's content, in order; it is called in several threads, some items at a time."""

    def several(part: Sequence[MediaContent | UnreadableInput]) -> list[_T]:
        return [of(content) for content in part]

    with ThreadPoolExecutor(THREADS) as pool:
        contents = contents_of(paths, root, limits)
        while part := list(islice(contents, _AT_ONCE)):
            # To hand over one small file costs as much as to read it.
            for made in pool.map(several, [part[at : at + _HANDED] for at in range(0, len(part), _HANDED)]):
                yield from made


def middles(count: int, wanted: int) -> tuple[int, ...]:
    """Return the positions in the middles of `wanted` equal parts of `count` frames, each once."""
    return tuple(sorted({(2 * part + 1) * count // (2 * wanted) for part in range(wanted)}))


def digest_of(root: Path, path: str) -> FileDigest:
    """Return the digest of a file below the root. Raises UnreadableInput."""
    _check_below(path)
    digest = hashlib.sha256()
    size = 0
    try:
        with (root / path).open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise UnreadableInput(f"{path} cannot be read: {error.strerror}.", mend="See the path.") from error
    return FileDigest(path, digest.hexdigest(), size)


def _check_below(path: str) -> None:
    # A manifest may come from somebody else: it opens nothing that is not of the dataset.
    if path.startswith("/") or ".." in path.split("/"):
        raise UnreadableInput(f"{path} does not lie below the root.", mend="Take a manifest that you trust.")


def digests_of(root: Path, paths: Iterable[str]) -> tuple[FileDigest, ...]:
    """Return the digests of some files, each once, in the order of their names. Raises UnreadableInput."""
    return tuple(digest_of(root, path) for path in sorted(set(paths)))


def needs_extra(*names: str) -> None:
    """Raise MissingExtra where one of the packages, which the extra `evaluate` brings, is not there."""
    missing = [name for name in names or ("pyarrow",) if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"This needs {', '.join(missing)}, which the extra `evaluate` brings.",
            mend="Install it: pip install 'discern-detectors[evaluate]'.",
            extra="evaluate",
        )
