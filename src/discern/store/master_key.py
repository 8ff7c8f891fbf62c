"""The master key, which wraps the keys of what is encrypted."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discern.core.errors import StorageUnavailable


class FileMasterKey:
    """A master key in a file, made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: bytes | None = None

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return `key` as only `unwrap` with the same context can read it."""
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self._read()).encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key. Raises StorageUnavailable where it does not fit."""
        try:
            return AESGCM(self._read()).decrypt(wrapped[:12], wrapped[12:], context)
        except InvalidTag as error:
            raise StorageUnavailable("A key does not fit the master key.", mend="Restore the master key.") from error

    def _read(self) -> bytes:
        if self._key is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with open(self._path, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                    file.write(secrets.token_bytes(32))
            except FileExistsError:
                pass
            self._key = self._path.read_bytes()
        return self._key
