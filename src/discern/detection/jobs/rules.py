"""Signatures of webhooks, and when one is called again.

The scheme is the usual one: a time and an HMAC-SHA256 (RFC 2104) over the time, a full stop and the body, so that
neither can be changed and an old call cannot be played again.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import cast

SIGNATURE_HEADER = "Discern-Signature"
DELIVERY_HEADER = "Discern-Delivery"
MOST_TRIES = 9
_FIRST_PAUSE = timedelta(seconds=2)


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


def pause_after(tries: int) -> timedelta:
    """Return how long to wait after so many tries that failed: two seconds, and twice as long each time."""
    return cast("timedelta", _FIRST_PAUSE * 2 ** (tries - 1))
