"""Codes of second factors: what they look like, when they fit, and how often one is sent. Pure.

- A code of an authenticator app fits from one time step before to one after it (RFC 6238, section 5.2), and never for
  a step that is not later than the last that was accepted.
- A recovery code holds 75 random bits, a code that is sent six digits: it lives short and has few tries.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import string
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from discern.core.errors import CallerError, FreshProofNeeded, MissingExtra

if TYPE_CHECKING:
    from pyotp import TOTP

TICKET_TIME = timedelta(minutes=10)
ENROLMENT_TIME = timedelta(minutes=10)
CHALLENGE_TIME = timedelta(minutes=5)
FRESH_TIME = timedelta(minutes=5)
MOST_TRIES_OF_A_TICKET = 5
MOST_TRIES_OF_A_CODE = 3
MOST_FACTORS = 10
RECOVERY_CODES = 10
CODES_AN_HOUR = 5
PAUSE_BETWEEN_CODES = timedelta(seconds=30)
_STEP_SECONDS = 30
# Without those that are taken for others.
_LETTERS = "".join(one for one in string.ascii_lowercase + string.digits if one not in "ilo1")
_CODE = re.compile(r"[0-9]{6}")
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_HOUR = timedelta(hours=1)


def make_totp_secret() -> str:
    """Return 160 random bits in base32, as authenticator apps take them."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def totp_url(secret: str, user: str) -> str:
    """Return what an authenticator app reads, most often as a QR code. Raises MissingExtra."""
    return _totp(secret).provisioning_uri(name=user, issuer_name="Discern")


def fitting_step(secret: str, code: str, now: datetime, last: int) -> int | None:
    """Return the time step that a code is of, where it fits and is later than `last`. Raises MissingExtra."""
    if not _CODE.fullmatch(code):
        return None
    totp = _totp(secret)
    present = int(now.timestamp()) // _STEP_SECONDS
    fitting = [
        step
        for step in range(present - 1, present + 2)
        if hmac.compare_digest(totp.generate_otp(step), code) and step > last
    ]
    return fitting[0] if fitting else None


def make_code() -> str:
    """Return a code to send: six digits."""
    return f"{secrets.randbelow(1_000_000):06d}"


def make_recovery_codes() -> tuple[str, ...]:
    """Return a set of recovery codes, each three groups of five of 32 letters and digits."""
    codes = ("".join(secrets.choice(_LETTERS) for _ in range(15)) for _ in range(RECOVERY_CODES))
    return tuple(f"{code[:5]}-{code[5:10]}-{code[10:]}" for code in codes)


def without_blanks(code: str) -> str:
    """Return a code as it was made, however it was typed."""
    return re.sub(r"[\s-]", "", code).lower()


def check_number(number: str) -> str:
    """Return a telephone number without blanks. Raises CallerError for what is none (E.164)."""
    plain = re.sub(r"[ ()./-]", "", number)
    if not _NUMBER.fullmatch(plain):
        raise CallerError(
            f"{number[:40]!r} is no telephone number.", mend="Write it with its country: +49 170 1234567."
        )
    return plain


def masked(number: str) -> str:
    """Return as much of a number as its owner needs to know it by."""
    return f"{number[:3]}…{number[-2:]}"


def check_factor_name(name: str) -> str:
    """Return the name of a factor without blanks around it. Raises CallerError."""
    name = name.strip()
    if not (1 <= len(name) <= 100 and name.isprintable()):
        raise CallerError("A factor's name has 1 to 100 printable characters.", mend="Give it another name.")
    return name


def wait_for_a_code(sent: Sequence[datetime], now: datetime) -> timedelta:
    """Return how long to wait before a code is sent, after such as were sent at these times, the latest last."""
    waits = [timedelta()]
    if sent:
        waits.append(sent[-1] + PAUSE_BETWEEN_CODES - now)
    if len(sent) >= CODES_AN_HOUR:
        waits.append(sent[-CODES_AN_HOUR] + _HOUR - now)
    return max(waits)


def _totp(secret: str) -> TOTP:
    try:
        import pyotp  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Codes of authenticator apps need pyotp, which is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
    return pyotp.TOTP(secret, interval=_STEP_SECONDS)


def no_fresh_proof() -> FreshProofNeeded:
    """Return the error for what needs a proof that is not older than `FRESH_TIME`."""
    minutes = int(FRESH_TIME.total_seconds()) // 60
    return FreshProofNeeded(
        f"This needs a proof of who you are that is not older than {minutes} minutes.",
        mend="Give your password and a factor: POST /v1/session/proof; or sign in again.",
    )
