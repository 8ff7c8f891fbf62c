"""Several media in one body: a zip archive or a multipart upload, read in memory and one item at a time.

- Nothing is written to the disk, and no name is ever used as a path.
- What a zip entry says of its size bounds what is unpacked of it, and what all say together is checked before the first
  is unpacked; an entry that holds more than it says is an error of its own.
- How many items there are is bounded before objects are made of them; archives inside archives are not opened.
- No bytes raise anything but our own errors; what is wrong with one item is the answer of that item only.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from discern.core.errors import CallerError, InputTooLarge, MalformedRequest, UnreadableInput
from discern.inputs.source import check_limit

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Every entry of a zip archive's directory begins with it.
_DIRECTORY_MARK = b"PK\x01\x02"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What macOS adds to an archive beside every file.
_LITTER = "__MACOSX/"
_ENCRYPTED = 0x1
_UNIX = 3
_SHOWN = 100
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or of a kind the library does not know
    ValueError,
    OverflowError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bounds, each with the setting it comes from: on the number of items, on all their bytes, and on those of one."""

    items: int
    items_setting: str
    bytes: int
    bytes_setting: str
    item_bytes: int
    item_bytes_setting: str


class Member(NamedTuple):
    """One item: what it is called, how many bytes it will have, and what gives them or raises a CallerError."""

    name: str
    size: int
    read: Callable[[], bytes]


def zip_members(content: bytes, limits: UploadLimits) -> list[Member]:
    """Return the files of a zip archive; folders, and what macOS adds, are none.

    Raises MalformedRequest for what is no zip archive, InputTooLarge where there are too many files or too many bytes.
    """
    # An upper bound of the entries, for the library makes an object of each before it can be asked how many there are.
    if content.count(_DIRECTORY_MARK) > 4 * limits.items + 1000:
        raise too_many(limits.items_setting, limits.items)
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        files = [entry for entry in archive.infolist() if _is_file(entry)]
    except _BAD_ZIP as error:
        detail = f"The body is not a zip archive that can be read: {error}."
        raise MalformedRequest(detail, mend="Send one that `unzip -t` accepts.") from error
    if len(files) > limits.items:
        raise too_many(limits.items_setting, limits.items, len(files))
    unpacked = sum(entry.file_size for entry in files)
    if unpacked > limits.bytes:
        raise InputTooLarge(
            f"The archive unpacks to {unpacked:,} bytes; `{limits.bytes_setting}` allows {limits.bytes:,}.",
            mend="Send several smaller archives.",
            limit=limits.bytes_setting,
            allowed=limits.bytes,
            found=unpacked,
        )
    seen: set[str] = set()
    members = []
    for entry in files:
        twice = entry.filename in seen
        seen.add(entry.filename)
        members.append(Member(entry.filename, entry.file_size, partial(_unpacked, archive, entry, limits, twice=twice)))
    return members


def multipart_members(content: bytes, content_type: str, limits: UploadLimits) -> list[Member]:
    """Return the files of a multipart body, whose boundary `content_type` tells.

    Raises MalformedRequest for a body that cannot be read, ends too early, or has a part that is no file, and
    InputTooLarge where there are too many.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise MalformedRequest("The Content-Type of the multipart body names no boundary.", mend=_SEND_FILES)
    parts = _Parts(content, limits)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(content)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest(f"The multipart body cannot be read: {error}.", mend=_SEND_FILES) from error
    if not parts.ended:
        raise MalformedRequest("The multipart body ends in the middle.", mend="Send it again.")
    return parts.members


_SEND_FILES = "Send files, as `curl -F file=@a.jpg -F file=@b.jpg` does."


class _Parts:
    """Takes what the parser finds. The parser is given the whole body at once, so that pieces are views of it."""

    def __init__(self, content: bytes, limits: UploadLimits) -> None:
        self.members: list[Member] = []
        self.ended = False
        self._limits = limits
        self._view = memoryview(content)
        self._content = content
        self._field = self._value = b""
        self._disposition = b""
        self._pieces: list[memoryview | bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        if len(self.members) >= self._limits.items:
            raise too_many(self._limits.items_setting, self._limits.items)
        self._disposition = b""
        self._pieces = []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(self._view[start:end] if data is self._content else data[start:end])

    def _on_part(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"filename")
        if name is None:
            field = options.get(b"name", b"").decode("utf-8", "replace")[:_SHOWN]
            detail = f"Part {len(self.members)} of the multipart body ({field!r}) has no file name."
            raise MalformedRequest(detail, mend=_SEND_FILES)
        size = sum(map(len, self._pieces))
        read = partial(_joined, self._pieces, size, self._limits)
        self.members.append(Member(name.decode("utf-8", "replace"), size, read))

    def _on_end(self) -> None:
        self.ended = True


def _joined(pieces: list[memoryview | bytes], size: int, limits: UploadLimits) -> bytes:
    check_limit(limits.item_bytes_setting, limits.item_bytes, size, "bytes")
    return b"".join(pieces)


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limits: UploadLimits, *, twice: bool) -> bytes:
    fault = _fault(entry, twice=twice)
    if fault is not None:
        raise fault
    check_limit(limits.item_bytes_setting, limits.item_bytes, entry.file_size, "bytes")
    try:
        with archive.open(entry) as file:
            # With a number of bytes the library unpacks no more than these; without one, all there is.
            content = file.read(entry.file_size)
    except _BAD_ZIP as error:
        detail = f"The entry cannot be unpacked: {str(error)[:_SHOWN] or type(error).__name__}."
        raise UnreadableInput(detail, mend="Pack it again.") from error
    if len(content) != entry.file_size:
        detail = f"The entry has {len(content):,} bytes and says that it has {entry.file_size:,}."
        raise UnreadableInput(detail, mend="Pack it again.")
    return content


def _is_file(entry: zipfile.ZipInfo) -> bool:
    # The library cuts names at NUL, and cannot tell of an empty one whether it is a folder's.
    return not entry.filename or not (entry.is_dir() or entry.filename.startswith(_LITTER))


def _fault(entry: zipfile.ZipInfo, *, twice: bool) -> CallerError | None:
    """Return why an entry is not unpacked, or None."""
    name = entry.filename
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":"):
        return MalformedRequest("The entry's name leads out of the archive.", mend="Use plain relative names.")
    if twice:
        return MalformedRequest("An entry before it has the same name.", mend="Give every entry a name of its own.")
    if entry.flag_bits & _ENCRYPTED:
        return UnreadableInput("The entry is encrypted.", mend="Pack it without a password.")
    if entry.create_system == _UNIX and stat.S_ISLNK(entry.external_attr >> 16):
        return UnreadableInput("The entry is a link, not a file.", mend="Pack the file it leads to.")
    if entry.compress_type not in _METHODS:
        detail = f"The entry is packed by method {entry.compress_type}; taken are stored (0) and deflated (8)."
        return UnreadableInput(detail, mend="Pack it by one of these.")
    return None


def too_many(setting: str, allowed: int, found: int | None = None) -> InputTooLarge:
    """Return the error for more items in one request than a setting allows; how many is not always counted."""
    return InputTooLarge(
        f"There are {f'{found:,}' if found else f'more than {allowed:,}'} items; `{setting}` allows {allowed:,}.",
        mend="Send several requests.",
        limit=setting,
        allowed=allowed,
        **({} if found is None else {"found": found}),
    )
