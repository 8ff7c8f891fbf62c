"""How subjects are named. Pure.

- A name is never stored: its reference is an HMAC under a secret of the installation (RFC 2104), so that nobody who has
  the database alone can try names out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from discern.core.errors import MalformedRequest
from discern.core.sealing import KEY_ID_BYTES

MOST_CHARACTERS = 200
KEY_BYTES = 32


def check_name(name: str) -> str:
    """Return `name` if it can name a subject. Raises MalformedRequest."""
    if not (1 <= len(name) <= MOST_CHARACTERS and name.isprintable() and name.strip() == name):
        raise MalformedRequest(
            f"A subject's name has 1 to {MOST_CHARACTERS} printable characters and no space around it.",
            mend="Use the id that your own records have for the person.",
        )
    return name


def reference_of(secret: bytes, workspace: str, name: str) -> str:
    """Return the 64 hexadecimal digits that stand for a name in a workspace."""
    return hmac.new(secret, b"%s\0%s" % (workspace.encode(), name.encode()), hashlib.sha256).hexdigest()


def make_key() -> tuple[bytes, bytes]:
    """Return the id of a fresh key and the key."""
    return secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(KEY_BYTES)
