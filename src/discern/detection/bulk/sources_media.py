"""Images and clips in pieces: some files at a time, opened only where they are judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from discern.core.errors import DiscernError, InputTooLarge
from discern.detection.bulk.sources import S3, Entry, Place
from discern.inputs.types import InputLimits, MediaContent

PART_FILES = 16
PART_BYTES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class MediaPart:
    """Files from row `start` on: their names, and their contents where they are sent along."""

    start: int
    names: list[str]
    contents: list[MediaContent | DiscernError] | None = None

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.names)


def media_of(entries: Sequence[Entry], skip: int) -> Iterator[MediaPart]:
    """Yield the files from row `skip` on."""
    names: list[str] = []
    size = 0
    start = skip
    for entry in entries[skip:]:
        names.append(entry.name)
        size += entry.size
        if len(names) == PART_FILES or size >= PART_BYTES:
            yield MediaPart(start, names)
            start += len(names)
            names, size = [], 0
    if names:
        yield MediaPart(start, names)


def content_of(place: Place, name: str, limits: InputLimits, *, read: bool) -> MediaContent | DiscernError:
    """Return a file as a path, or its bytes where it lies in S3 or where they are to be sent elsewhere (`read`)."""
    if not (read or name.startswith(S3)):
        return Path(name)
    most = max(limits.image_bytes, limits.video_bytes)
    try:
        with place.open(name) as file:
            content = file.read(most + 1)
    except DiscernError as error:
        return error
    if len(content) > most:
        return InputTooLarge(
            f"{name} has more than {most:,} bytes.", mend="Raise `video_bytes`.", limit="video_bytes", allowed=most
        )
    return content
