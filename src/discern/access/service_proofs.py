"""Asking second factors, and judging what they answer.

- A code of an authenticator app is accepted once for each of its time steps; a recovery code once at all; a code that
  was sent within five minutes, for three tries, and once; a passkey's answer for the challenge it was asked, once.
- An answer is judged, counted and used up in one transaction: of two that come at once one is refused.
- Wrong answers count with the wrong passwords, and while they lock the name no answer is looked at.
- A code is sent `CODES_AN_HOUR` times at most to a user and to a number, and not twice within half a minute.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from discern.access.ports import CodeSender
from discern.access.rules_factors import (
    CHALLENGE_TIME,
    CODES_AN_HOUR,
    MOST_TRIES_OF_A_CODE,
    fitting_step,
    make_code,
    masked,
    wait_for_a_code,
    without_blanks,
)
from discern.access.service_passkeys import AnswerRefused, Passkeys, id_of
from discern.access.service_sealing import Sealing
from discern.access.service_users import locked_until
from discern.access.store_factors import Held
from discern.access.types_factors import Challenge, ChallengeKind, Factor, KeptFactor, Proof
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import RateLimited, UnknownFactor, WrongFactor

_HOUR = timedelta(hours=1)


class Asked(NamedTuple):
    """A challenge that is kept. `send` sends its code, once the transaction is over."""

    challenge: Challenge
    send: Callable[[], None] | None = None


class Proofs:
    """Second factors as they are asked and judged. Thread-safe."""

    def __init__(self, sealing: Sealing, passkeys: Passkeys, sender: CodeSender, clock: Clock = utc_now) -> None:
        self.sealing = sealing
        self.passkeys = passkeys
        self._sender = sender
        self._clock = clock

    def ask(self, held: Held, kind: ChallengeKind, factor_id: UUID | None, bound_to: bytes) -> Asked:
        """Keep a challenge to the passkeys of a user, or to one telephone. Raises UnknownFactor and others."""
        mine = [one for one in held.factors() if one.factor.kind == kind]
        if factor_id is not None:
            mine = [one for one in mine if one.factor.id == factor_id]
        if not mine:
            raise unknown_factor()
        if kind == "sms":
            return self.ask_telephone(held, mine[0], bound_to, "sms")
        now = self._clock()
        value = secrets.token_bytes(32)
        known = [one.credential_id for one in mine if one.credential_id is not None]
        options = self.passkeys.request_options(value, known)
        held.put_challenge("passkey", bound_to, value, now, now + CHALLENGE_TIME)
        return Asked(Challenge(now + CHALLENGE_TIME, public_key=options))

    def ask_telephone(self, held: Held, kept: KeptFactor, bound_to: bytes, purpose: str) -> Asked:
        """Keep a code that is sent to a telephone. Raises RateLimited and FactorUnavailable."""
        self._sender.check()
        now = self._clock()
        number = self.sealing.unseal(kept.secret, about_factor(kept.factor)).decode()
        target = self.sealing.digest(number, "number")
        # What others do with a number keeps nobody from signing in by it.
        counted = target if purpose == "enrol-sms" else None
        wait = wait_for_a_code(held.codes_sent(counted, now - _HOUR), now)
        if wait > timedelta():
            raise RateLimited(
                "Too many codes were sent.",
                mend="Wait, or use another factor.",
                retry_after=wait.total_seconds(),
                limit="codes an hour",
                allowed=CODES_AN_HOUR,
            )
        code, expires_at = make_code(), now + CHALLENGE_TIME
        digest = self.sealing.digest(code, f"{purpose}:{kept.factor.id}")
        held.put_challenge(purpose, bound_to, digest, now, expires_at, factor_id=kept.factor.id, target=target)
        held.record(_act(held, "factors.send_code", f"factor:{kept.factor.id}"))
        return Asked(Challenge(expires_at, sent_to=masked(number)), lambda: self._sender.send(number, code))

    def judge(self, held: Held, proof: Proof, bound_to: bytes) -> str | None:
        """Use a proof up; return why it does not hold, None where it does."""
        now = self._clock()
        if held.user.locked_until is not None and held.user.locked_until > now:
            return "locked"
        if held.user.disabled_at is not None:
            return "disabled"
        judges = {"totp": self._judge_app, "passkey": self._judge_passkey, "sms": self._judge_telephone}
        if proof.kind == "recovery":
            digest = self.recovery_digest(held, proof.code)
            return None if held.factors() and held.use_code(digest, now) else "wrong recovery code"
        return judges[proof.kind](held, proof, bound_to)

    def refuse(self, held: Held, act: str, reason: str) -> None:
        """Put a wrong answer on record, and count it unless the name is locked."""
        who = f"user:{held.user.id}"
        held.record(Act(held.user.workspace, who, act, who, outcome="denied", reason=reason))
        if reason != "locked":
            held.fail(locked_until(self._clock(), held.user.failures + 1))

    def recovery_digest(self, held: Held, code: str) -> bytes:
        """Return what a recovery code of a user is kept as."""
        return self.sealing.digest(without_blanks(code), f"recovery:{held.user.id}")

    def fits(self, held: Held, kept: KeptFactor, code: str, bound_to: bytes, purpose: str) -> bool:
        """Tell whether a code is the one that was sent to a telephone, and use it or one of its tries up."""
        now = self._clock()
        challenge = held.challenge(purpose, bound_to, now)
        if challenge is None or challenge.factor_id != kept.factor.id or challenge.tries >= MOST_TRIES_OF_A_CODE:
            return False
        given = self.sealing.digest(without_blanks(code), f"{purpose}:{kept.factor.id}")
        if hmac.compare_digest(given, challenge.value):
            held.end_challenge(challenge.id, now)
            return True
        held.note_try(challenge.id)
        return False

    def step_of(self, kept: KeptFactor, code: str) -> int | None:
        """Return the time step that a code of an authenticator app is of, where it is good and was not used."""
        secret = self.sealing.unseal(kept.secret, about_factor(kept.factor)).decode()
        return fitting_step(secret, without_blanks(code), self._clock(), kept.counter)

    def _judge_app(self, held: Held, proof: Proof, _bound_to: bytes) -> str | None:
        for kept in (one for one in held.factors() if one.factor.kind == "totp"):
            step = self.step_of(kept, proof.code)
            if step is not None:
                held.use(kept.factor.id, step, self._clock())
                return None
        return "wrong totp"

    def _judge_telephone(self, held: Held, proof: Proof, bound_to: bytes) -> str | None:
        challenge = held.challenge("sms", bound_to, self._clock())
        asked = challenge.factor_id if challenge is not None else None
        for kept in (one for one in held.factors() if one.factor.id == asked):
            if self.fits(held, kept, proof.code, bound_to, "sms"):
                held.use(kept.factor.id, 0, self._clock())
                return None
        return "wrong sms"

    def _judge_passkey(self, held: Held, proof: Proof, bound_to: bytes) -> str | None:
        now = self._clock()
        challenge = held.challenge("passkey", bound_to, now)
        if challenge is None:
            return "passkey: no challenge is open"
        held.end_challenge(challenge.id, now)
        credential: dict[str, Any] = proof.credential or {}
        try:
            wanted = id_of(credential)
            for kept in (one for one in held.factors() if one.credential_id == wanted):
                counter = self.passkeys.counted(credential, challenge.value, kept.secret, kept.counter)
                held.use(kept.factor.id, counter, now)
                return None
        except AnswerRefused as refused:
            return f"passkey: {refused}"
        return "passkey: it is not theirs"


def about_factor(factor: Factor) -> str:
    """Return what the secret of a factor is sealed to."""
    return f"factor:{factor.id}"


def unknown_factor() -> UnknownFactor:
    """Return the error for a factor that somebody does not have."""
    return UnknownFactor("You have no such second factor.", mend="`GET /v1/factors` lists yours.")


def wrong_factor() -> WrongFactor:
    """Return the error for an answer that does not hold; why, is on record and not told."""
    mend = "Try the next code, or sign in again; after several wrong ones a name is locked for a while."
    return WrongFactor("The second factor is not right, or its time is over.", mend=mend)


def _act(held: Held, act: str, target: str) -> Act:
    return Act(held.user.workspace, f"user:{held.user.id}", act, target)
