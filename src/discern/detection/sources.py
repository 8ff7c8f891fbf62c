"""Paths on the command line become items to judge: media files, and the records of JSON files.

- A folder stands for the files below it, hidden ones left out, in the order of their names.
- What cannot be read is an item with its error, so that one bad file does not end the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from discern.core.errors import CallerError, DiscernError, UnreadableInput
from discern.core.verdict import InputKind
from discern.detection.records import parse_record
from discern.inputs.sniffing import sniff
from discern.inputs.types import MediaContent, Record

_HEAD_BYTES = 4096
_RECORD_SUFFIXES = {".json", ".ndjson", ".jsonl"}


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a run: its `label` for people, its kind, and its content or the error that stands in for it."""

    label: str
    kind: InputKind | None
    content: MediaContent | Record | DiscernError


def items_of(paths: Sequence[Path]) -> Iterator[Item]:
    """Yield the items that `paths` name, reading record files line by line."""
    for path in paths:
        if path.is_dir():
            for inner in sorted(path.rglob("*")):
                hidden = any(part.startswith(".") for part in inner.relative_to(path).parts)
                if inner.is_file() and not hidden:
                    yield from _items_of_file(inner)
        else:
            yield from _items_of_file(path)


def _items_of_file(path: Path) -> Iterator[Item]:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        yield Item(str(path), None, UnreadableInput(f"{path} cannot be read: {error.strerror}.", mend="See the path."))
        return
    if path.suffix.lower() in _RECORD_SUFFIXES or head.lstrip()[:1] == b"{":
        yield from _records_of(path)
        return
    try:
        yield Item(str(path), sniff(head).kind, path)
    except CallerError as error:
        yield Item(str(path), None, error)


def _records_of(path: Path) -> Iterator[Item]:
    whole = path.read_bytes() if path.suffix.lower() == ".json" else b""
    if whole.lstrip()[:1] == b"[":
        try:
            entries = msgspec.json.decode(whole, type=list[msgspec.Raw])
        except msgspec.DecodeError as error:
            yield Item(str(path), "record", CallerError(f"{path} is not valid JSON: {error}.", mend="Correct it."))
            return
        yield from (_record(f"{path}:{number}", bytes(entry)) for number, entry in enumerate(entries, 1))
    elif whole:
        yield _record(str(path), whole)
    else:
        with path.open("rb") as lines:
            yield from (_record(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())


def _record(label: str, content: bytes) -> Item:
    try:
        return Item(label, "record", parse_record(content))
    except CallerError as error:
        return Item(label, "record", error)
