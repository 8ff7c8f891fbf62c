"""The format of a sealed object, and how one key wraps another. Pure.

A sealed object is a head of eight bytes, `DSCOBJ`, the version 1 and the logarithm of the chunk size, and then the
content in chunks, each with AES-256-GCM:

    head | chunk 0 and tag | chunk 1 and tag | ... | last chunk and tag

- The nonce of a chunk is its position (11 bytes, big-endian) and a byte that is 1 for the last chunk alone. A key seals
  one object once, so that no nonce is used twice. This is the STREAM construction (Hoang, Reyhanitabar, Rogaway and
  Vizar, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015).
- The head and the object's context (its id, workspace, folder and name) are associated data of every chunk.
- Every chunk is full but the last, and the last is empty only in an empty object; so the size of what is sealed says
  where each chunk lies, and a chunk can be opened by itself. Who has opened the last one knows that nothing is missing.

So a change, a cut, a swap of chunks or of objects, and what was added at the end all show before a byte is used.

A wrapped key is a nonce of 12 random bytes and the AES-256-GCM of the 32 bytes of the key, with its context.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discern.core.errors import CallerError, ObjectRefused
from discern.objects.types import Address, KeyUse

KEY_BYTES = 32
HEAD_BYTES = 8
TAG_BYTES = 16
_MAGIC = b"DSCOBJ\x01"
_CHUNK_BITS = 16
_FEWEST_BITS, _MOST_BITS = 4, 20
_NONCE_BYTES = 12
# A process that asked for the current version just before another was made has written its key down by then.
_SETTLED = timedelta(seconds=60)
_encode = msgspec.json.Encoder().encode


def object_context(object_id: UUID, address: Address) -> bytes:
    """Return what binds a sealed object, and its key, to its place."""
    return _encode(["discern.object.1", str(object_id), *address])


def context_digest(context: bytes) -> str:
    """Return a context for services that take a short text as associated data."""
    return hashlib.sha256(context).hexdigest()


class Sealer:
    """Seals one object, in pieces of any size. `key` must be of this object alone."""

    def __init__(self, key: bytes, context: bytes, chunk_bits: int = _CHUNK_BITS) -> None:
        self.head = _MAGIC + bytes([chunk_bits])
        self._cipher = AESGCM(key)
        self._data = self.head + context
        self._chunk_bytes = 1 << chunk_bits
        self._rest = b""
        self._position = 0

    def add(self, content: bytes) -> bytes:
        """Return what of the sealed object is certain by now."""
        view = memoryview(self._rest + content)
        sealed = []
        at = 0
        # What may turn out to be the last chunk waits.
        while len(view) - at > self._chunk_bytes:
            sealed.append(self._sealed(view[at : at + self._chunk_bytes], last=False))
            at += self._chunk_bytes
        self._rest = bytes(view[at:])
        return b"".join(sealed)

    def end(self) -> bytes:
        """Return the last chunk."""
        return self._sealed(self._rest, last=True)

    def _sealed(self, chunk: bytes | memoryview, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._position, last=last), chunk, self._data)
        self._position += 1
        return sealed


class Opener:
    """Opens the chunks of one object of `sealed_size` bytes, which begins with `head`. Raises ObjectRefused."""

    def __init__(self, key: bytes, context: bytes, head: bytes, sealed_size: int) -> None:
        bits = head[-1] if len(head) == HEAD_BYTES and head.startswith(_MAGIC) else 0
        if not _FEWEST_BITS <= bits <= _MOST_BITS:
            raise changed("it does not begin as a sealed object does")
        self.chunk_bytes = 1 << bits
        self._sealed_bytes = self.chunk_bytes + TAG_BYTES
        body = sealed_size - HEAD_BYTES
        self.chunks = max(1, -(-body // self._sealed_bytes))
        left = body - (self.chunks - 1) * self._sealed_bytes
        if left < TAG_BYTES + (self.chunks > 1):
            raise changed("it ends in the middle")
        self.size = body - self.chunks * TAG_BYTES
        self._sealed_size = sealed_size
        self._cipher = AESGCM(key)
        self._data = head + context

    def span(self, position: int, count: int = 1) -> tuple[int, int]:
        """Return where `count` chunks from `position` on lie among the sealed bytes: start and length."""
        start = HEAD_BYTES + position * self._sealed_bytes
        return start, min(count * self._sealed_bytes, self._sealed_size - start)

    def opened(self, position: int, sealed: bytes | memoryview) -> bytes:
        """Return the content of one chunk."""
        try:
            return self._cipher.decrypt(_nonce(position, last=position == self.chunks - 1), sealed, self._data)
        except (InvalidTag, ValueError) as error:
            raise changed(f"chunk {position} of {self.chunks} does not open") from error


def wrap(key: bytes, by: bytes, context: bytes) -> bytes:
    """Return `key` wrapped by another."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(by).encrypt(nonce, key, context)


def unwrap(blob: bytes, by: bytes, context: bytes) -> bytes:
    """Return the key in `blob`. Raises ObjectRefused where it was wrapped by another or for another context."""
    try:
        return AESGCM(by).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise changed("its key does not unwrap") from error


def check_removable(use: KeyUse, successor_made_at: datetime | None, now: datetime) -> None:
    """Raise CallerError unless a version of a master key may go."""
    if use.version.is_current:
        raise CallerError(f"{use.version.id} is the current version.", mend="`discern keys rotate` makes another.")
    if use.uses:
        raise CallerError(f"{use.version.id} wraps {use.uses} keys.", mend="`discern keys rotate --resume` moves them.")
    if successor_made_at is not None and now - successor_made_at < _SETTLED:
        raise CallerError(
            f"{use.version.id} was the current version until a moment ago.",
            mend=f"Try again in {_SETTLED.seconds} seconds: what was being written may still need it.",
        )


def changed(what: str) -> ObjectRefused:
    """Return the error for an object that is not what was written."""
    return ObjectRefused(
        f"The object is not what was written: {what}.", mend="It was changed or damaged; restore it.", reason="changed"
    )


def _nonce(position: int, *, last: bool) -> bytes:
    return position.to_bytes(_NONCE_BYTES - 1, "big") + bytes([last])
