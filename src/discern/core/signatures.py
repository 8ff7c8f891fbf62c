"""Signatures of calls that go out, such as webhooks.

The scheme is the usual one: a time and an HMAC-SHA256 (RFC 2104) over the time, a full stop and the body, so that
neither can be changed and an old call cannot be played again.
"""

from __future__ import annotations

import hashlib
import hmac

SIGNATURE_HEADER = "Discern-Signature"


def signature(secret: str, body: bytes, at: int) -> str:
    """Return the value of the header for a body sent `at` seconds after 1970."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def is_signed(secret: str, body: bytes, header: str, now: int, *, tolerance_seconds: int = 300) -> bool:
    """Tell whether a header is a signature of `body` that is not older or newer than the tolerance."""
    members = dict(part.partition("=")[::2] for part in header.split(","))
    if not members.get("t", "").isdigit() or abs(now - int(members["t"])) > tolerance_seconds:
        return False
    return hmac.compare_digest(signature(secret, body, int(members["t"])), header)
