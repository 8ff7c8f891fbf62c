"""Sealing what is kept of a person, so that it cannot be read without their key. Pure.

- A sealed body is `0x01`, the key's id (16 bytes), a nonce (12) and AES-256-GCM of the body (NIST SP 800-38D); what it
  is bound to stands in the associated data, so that it cannot be moved elsewhere.
- The format begins like no JSON document does, so that sealed and plain bodies can stand beside each other.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discern.core.errors import StorageUnavailable

_SEALED = b"\x01"
KEY_ID_BYTES = 16
_NONCE_BYTES = 12


def sealed(key_id: bytes, key: bytes, body: bytes, bound_to: str) -> bytes:
    """Return `body` as nobody can read it without `key` (32 bytes), which `key_id` names."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return b"".join((_SEALED, key_id, nonce, AESGCM(key).encrypt(nonce, body, bound_to.encode())))


def key_id_of(body: bytes) -> bytes | None:
    """Return the id of the key that a body is sealed with; None for one that is not sealed."""
    return body[1 : 1 + KEY_ID_BYTES] if body[:1] == _SEALED else None


def opened(key: bytes, body: bytes, bound_to: str) -> bytes:
    """Return what was sealed. Raises StorageUnavailable where it was changed or moved."""
    nonce_at = 1 + KEY_ID_BYTES
    cipher_at = nonce_at + _NONCE_BYTES
    try:
        return AESGCM(key).decrypt(body[nonce_at:cipher_at], body[cipher_at:], bound_to.encode())
    except InvalidTag as error:
        raise StorageUnavailable(
            f"What is sealed of {bound_to} was changed: its seal does not hold.", mend="Restore it from a backup."
        ) from error
