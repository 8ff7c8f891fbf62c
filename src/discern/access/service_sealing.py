"""Keeping the secrets of second factors: sealed, or as a digest, under a secret outside the database.

- Sealed is AES-256-GCM with a fresh nonce, bound to what it is about: a sealed secret in another row opens nothing.
- Six digits can be searched back from a plain hash in no time; a digest under a key cannot, without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from discern.core.errors import InvalidSettings, OperatorError
from discern.store.secret_files import SecretFile

_NONCE_BYTES = 12
_SHORTEST_SECRET = 32


class Sealing:
    """Seals and digests under one secret. Thread-safe."""

    def __init__(self, secret: SecretFile) -> None:
        self._secret = secret
        self._keys: tuple[bytes, bytes] | None = None

    def seal(self, plain: bytes, about: str) -> bytes:
        """Return `plain` sealed; `about` must be given again to open it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._derived()[0]).encrypt(nonce, plain, about.encode())

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """Return what was sealed. Raises OperatorError where it was sealed under another secret, or changed."""
        try:
            opening = AESGCM(self._derived()[0])
            return opening.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
        except InvalidTag as error:
            raise OperatorError(
                "A second factor was sealed under another secret than this installation's.",
                mend="Restore keys/factors.secret (or DISCERN_FACTOR_SECRET), or reset the user's factors.",
            ) from error

    def digest(self, value: str, about: str) -> bytes:
        """Return 32 bytes that only whoever has the secret can make of a value."""
        return hmac.new(self._derived()[1], f"{about}\0{value}".encode(), hashlib.sha256).digest()

    def _derived(self) -> tuple[bytes, bytes]:
        if self._keys is None:
            secret = self._secret.get()
            if len(secret) < _SHORTEST_SECRET:
                raise InvalidSettings(
                    f"factor_secret has fewer than {_SHORTEST_SECRET} characters.",
                    mend="Make one: `openssl rand -base64 32`.",
                    setting="factor_secret",
                )
            both = HKDF(SHA256(), 64, salt=None, info=b"discern second factors 1").derive(secret.encode())
            self._keys = both[:32], both[32:]
        return self._keys
