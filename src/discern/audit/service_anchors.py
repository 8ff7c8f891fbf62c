"""Where anchors are kept: a file, an object store, or whoever listens at a URL.

- A file only ever grows, a line an anchor, and each is on the disk before the next.
- An object is never written over: its name holds all there is to an anchor, so that a listing tells them, and who can
  only create objects cannot make one say something else.
- Put the file on another disk or machine than the database, or somewhere where it can only be appended to: whoever can
  change both can change the log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from discern.audit.types import Anchor
from discern.core.errors import CallerError, OperatorError
from discern.store.objects import Listed, ObjectStore

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Anchor).decode
_NUMBER_DIGITS = 16
_NAME = re.compile(r"(?P<workspace>[^/]+)/(?P<number>[0-9]{16})-(?P<digest>[0-9a-f]{64})\.json")
Post = Callable[[str, bytes, Mapping[str, str]], int]


class FileAnchors:
    """A file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, anchor: Anchor) -> None:
        """Append an anchor. Raises OperatorError."""
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, _encode(anchor) + b"\n")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise OperatorError(
                f"{self._path} cannot be written: {error.strerror}.", mend="Set `audit_anchor` to a place that can."
            ) from error

    def all(self) -> Iterable[Anchor]:
        """Return every anchor; none where the file is not there. Raises OperatorError for a line that is none."""
        return read_anchors(self._path) if self._path.exists() else []


class ObjectAnchors:
    """An object an anchor in an object store: `WORKSPACE/NUMBER-DIGEST.json`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, anchor: Anchor) -> None:
        """Keep an anchor, unless the same one is there. Raises StorageUnavailable."""
        name = f"{anchor.workspace}/{anchor.number:0{_NUMBER_DIGITS}}-{anchor.digest}.json"
        self._store.create(name, _encode(anchor))

    def all(self) -> Iterable[Anchor]:
        """Return every anchor. Raises StorageUnavailable, OperatorError for an object that is none."""
        return [_anchor_of(one) for one in self._store.all("")]


class HttpAnchors:
    """A URL that is POSTed each anchor as JSON; what it does with them is its own."""

    def __init__(self, url: str, post: Post) -> None:
        self._url = url
        self._post = post

    def put(self, anchor: Anchor) -> None:
        """Send an anchor. Raises OperatorError unless it is answered with 2xx."""
        try:
            status = self._post(self._url, _encode(anchor), {"Content-Type": "application/json"})
        except (CallerError, OSError) as error:
            raise OperatorError(f"The anchor was not taken: {error}.", mend="See `audit_anchor`.") from error
        if not 200 <= status < 300:
            raise OperatorError(f"The anchor was answered with {status}.", mend="See what answers at `audit_anchor`.")

    def all(self) -> None:
        """Return None: they cannot be read back from here. Give `discern audit verify` a file of them."""


def _anchor_of(one: Listed) -> Anchor:
    found = _NAME.fullmatch(one.path)
    if found is None:
        raise OperatorError(f"{one.path} is no anchor.", mend="Keep nothing else below `audit_anchor`.")
    return Anchor(found["workspace"], int(found["number"]), found["digest"], one.modified)


def read_anchors(path: Path) -> list[Anchor]:
    """Return the anchors of a file of JSON lines. Raises OperatorError for what is none."""
    number = 0
    found = []
    try:
        for line in path.read_bytes().splitlines():
            number += 1
            found.append(_decode(line))
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.", mend="Name the file of anchors.") from error
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise OperatorError(
            f"{path}, line {number}: this is no anchor ({error}).", mend="It may have been tampered with."
        ) from error
    return found
