"""Paths on the command line become items to judge: media files, and the records of JSON files.

- A folder stands for the files below it, hidden ones left out, in the order of their names.
- What a file is is told from its content: media by their first bytes, records by `{` or `[`.
- What cannot be read is an item with its error, so that one bad file does not end the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from discern.core.errors import CallerError, DiscernError, InputTooLarge, MalformedRequest, UnreadableInput
from discern.core.verdict import InputKind
from discern.inputs.record_reader import parse_record
from discern.inputs.sniffing import sniff
from discern.inputs.types import InputLimits, MediaContent, Record

_HEAD_BYTES = 4096
# A JSON array is read whole; longer lists belong into NDJSON, which is read line by line.
_ARRAY_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a run: its `label` for people, its kind, and its content or the error that stands in for it."""

    label: str
    kind: InputKind | None
    content: MediaContent | Record | DiscernError


def files_of(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that `paths` name: themselves, or those below a folder."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        faults: list[OSError] = []
        found: list[Path] = []
        for folder, folders, names in os.walk(path, onerror=faults.append):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(folder, name) for name in names if not name.startswith(".")]
        # A folder that cannot be listed stands for itself, and is then said to be no file.
        yield from sorted([*found, *(Path(fault.filename) for fault in faults)])


def items_of(path: Path, limits: InputLimits) -> Iterator[Item]:
    """Yield the items of one file: a picture or a clip is one, a file of records as many as it holds."""
    try:
        if not path.is_file():
            raise UnreadableInput(f"{path} is not a regular file.", mend="Name a file or a folder.")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if start == b"[":
            yield from _records_of_array(path)
        elif start == b"{":
            yield from _records_of_lines(path, limits)
        else:
            yield Item(str(path), sniff(head).kind, path)
    except OSError as error:
        yield Item(str(path), None, UnreadableInput(f"{path} cannot be read: {error.strerror}.", mend="See the path."))
    except CallerError as error:
        yield Item(str(path), None, error)


def _records_of_array(path: Path) -> Iterator[Item]:
    if path.stat().st_size > _ARRAY_BYTES:
        raise InputTooLarge(
            f"{path} is a JSON list of {path.stat().st_size} bytes; at most {_ARRAY_BYTES} are read at once.",
            mend="Write one record a line (NDJSON).",
            limit="array",
            allowed=_ARRAY_BYTES,
            found=path.stat().st_size,
        )
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedRequest(f"{path} is not valid JSON: {error}.", mend="Correct it.") from error
    if not entries:
        raise MalformedRequest(f"{path} is an empty list.", mend="Put records into it.")
    for number, entry in enumerate(entries, 1):
        yield _record(f"{path}:{number}", bytes(entry))


def _records_of_lines(path: Path, limits: InputLimits) -> Iterator[Item]:
    """Yield the one record of a JSON file, however it is laid out, or a record a line."""
    if path.stat().st_size <= limits.record_bytes:
        content = path.read_bytes()
        try:
            yield Item(str(path), "record", parse_record(content))
        except CallerError as error:
            if len(content.splitlines()) < 2:
                yield Item(str(path), "record", error)
                return
        else:
            return
    with path.open("rb") as file:
        number = 0
        while line := file.readline(limits.record_bytes + 1):
            number += 1
            label = f"{path}:{number}"
            if len(line) > limits.record_bytes:
                _skip_line(file, line)
                yield Item(label, "record", _line_too_long(label, limits.record_bytes))
            elif line.strip():
                yield _record(label, line)


def _skip_line(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_HEAD_BYTES)


def _line_too_long(label: str, most: int) -> InputTooLarge:
    return InputTooLarge(
        f"{label} has more than {most} bytes.",
        mend="Send less, or raise `record_bytes`.",
        limit="record_bytes",
        allowed=most,
    )


def _record(label: str, content: bytes) -> Item:
    try:
        return Item(label, "record", parse_record(content))
    except CallerError as error:
        return Item(label, "record", error)
