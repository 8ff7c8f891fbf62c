"""The nouns of second factors."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from discern.access.types import Principal, Session

FactorKind = Literal["totp", "passkey", "sms"]
ProofKind = Literal["totp", "passkey", "sms", "recovery"]
ChallengeKind = Literal["passkey", "sms"]


class Factor(msgspec.Struct, frozen=True):
    """What somebody has beside their password: an authenticator app, a passkey, or a telephone that takes SMS."""

    id: UUID
    kind: FactorKind
    name: str
    created_at: datetime
    used_at: datetime | None = None


class FactorList(msgspec.Struct, frozen=True):
    """The factors of whoever asks, oldest first. `demanded` tells whether their role must have one."""

    factors: tuple[Factor, ...]
    recovery_codes_left: int
    demanded: bool


class PendingSignIn(msgspec.Struct, frozen=True):
    """A sign-in whose password was right and that waits for one of `factors`. The ticket is no session."""

    ticket: str
    expires_at: datetime
    factors: tuple[Factor, ...]
    recovery_codes_left: int


class Challenge(msgspec.Struct, frozen=True):
    """What a factor is asked. `public_key` goes to `navigator.credentials`; `sent_to` is where a code went."""

    expires_at: datetime
    public_key: dict[str, Any] | None = None
    sent_to: str | None = None


class Enrolment(msgspec.Struct, frozen=True):
    """A factor that counts once it is confirmed, by `expires_at`. What is in it is shown here alone.

    `secret` and `url` are an authenticator app's, `public_key` goes to `navigator.credentials.create`.
    """

    factor: Factor
    expires_at: datetime
    secret: str | None = None
    url: str | None = None
    public_key: dict[str, Any] | None = None
    sent_to: str | None = None


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer of a factor: a code, or what a passkey signed, as `PublicKeyCredential.toJSON()` gives it."""

    kind: ProofKind
    code: str = ""
    credential: dict[str, Any] | None = None


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Codes that each stand in for a factor once. They are shown here alone."""

    codes: tuple[str, ...]


class Visitor(NamedTuple):
    """Whoever came in by a session. `bound_to` is the SHA-256 of its secret."""

    principal: Principal
    session: Session
    bound_to: bytes


class KeptFactor(NamedTuple):
    """A factor with what it is checked by: a sealed secret or number, or the public key of a passkey."""

    factor: Factor
    secret: bytes
    credential_id: bytes | None
    counter: int


class KeptChallenge(NamedTuple):
    """A challenge that is open. `value` is what is to be signed, or the digest of a code."""

    id: UUID
    factor_id: UUID | None
    value: bytes
    tries: int
