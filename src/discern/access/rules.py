"""What a secret looks like and how it is told apart, and what may be given away. Pure.

- A secret holds 256 random bits, so a plain SHA-256 of it cannot be searched back; it is never stored.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime

from discern.access.types import Action, Principal
from discern.core.errors import Forbidden

SECRET_PREFIX = "dsc_"  # nosec B105  # noqa: S105 - the prefix that lets secret scanners find a leaked key
_SECRET = re.compile(r"^dsc_[A-Za-z0-9_-]{43}$")


def make_secret() -> str:
    """Return a fresh secret: `dsc_` and 32 random bytes in URL-safe base64."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def is_well_formed(secret: str) -> bool:
    """Tell whether `secret` could be one of ours, before the database is asked."""
    return _SECRET.match(secret) is not None


def fingerprint(secret: str) -> bytes:
    """Return the 32 bytes a secret is stored and looked up by."""
    return hashlib.sha256(secret.encode()).digest()


def check_given(by: Principal, detectors: tuple[str, ...] | None, action: Action) -> None:
    """Raise Forbidden where `by` would give away more detectors than they were granted; None means all."""
    if by.detectors is not None and not (detectors is not None and set(detectors) <= set(by.detectors)):
        raise Forbidden(
            "Nobody gives away more detectors than they were granted.",
            mend=f"Give {', '.join(by.detectors) or 'none'}.",
            action=action,
            role=by.role,
        )


def check_end(by: Principal, their_end: datetime | None, end: datetime | None, now: datetime) -> None:
    """Raise Forbidden where `by`, whose key has an end, would make a key with another end or none that outlives it."""
    if their_end is not None and (end is None or end > their_end):
        left = int((their_end - now).total_seconds())
        raise Forbidden(
            f"The key that asks ends at {their_end:%Y-%m-%dT%H:%M:%SZ}, and makes none that outlives it.",
            mend=f"Give an end before that: `expires_in_seconds` of at most {left}.",
            action="keys.create",
            role=by.role,
        )
